"""A cleaned copy of a data set: what training would mend is mended in it, and every change is written down."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rexdet.coco import source
from rexdet.coco.annotation_columns import number_annotations
from rexdet.coco.annotations import Annotation, CocoDataset, ImageEntry, read_annotations
from rexdet.coco.columns import whole_number
from rexdet.errors import UserError
from rexdet.files import write_json_atomically

Change = dict[str, Any]


def write_cleaned_copy(dataset: CocoDataset, folder: str | os.PathLike[str], broken: dict[int, str]) -> list[Change]:
    """Write `folder`/annotations.json, `folder`/images and `folder`/changes.json; returns the changes.

    dataset: read with purpose "check", with its images, and without refusals.
    broken: what is wrong with the images that cannot be decoded, by id; they and their annotations are left out.

    Image files are hard links where the file system allows it, else copies. Keys that COCO does not know stay. The
    folder appears whole or not at all. Raises UserError for refused data, where `folder` holds anything already, and
    where it lies among the input.
    """
    target = Path(folder)
    dataset.raise_if_refused()
    if dataset.images_folder is None:
        raise UserError("a cleaned copy needs the images", "--fix", "give --images")
    _check_target(target, dataset)
    content, changes = _cleaned(dataset, broken)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        _bring_images(dataset, broken, work / "images")
        write_json_atomically(work / "annotations.json", content, indent=None)
        write_json_atomically(work / "changes.json", changes)
        _verify(work)
        work.chmod(0o755)
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return changes


def _check_target(target: Path, dataset: CocoDataset) -> None:
    if target.exists() and not target.is_dir():
        raise UserError("is a file, not a folder for a cleaned copy", str(target))
    if target.is_dir() and any(target.iterdir()):
        raise UserError("the folder for the cleaned copy is not empty", str(target), "name a new one after --fix")
    assert dataset.images_folder is not None
    resolved, root = target.resolve(), dataset.images_folder.resolve()
    if resolved == root or root in resolved.parents:
        raise UserError("the cleaned copy would lie among the images it is made from", str(target))


def _cleaned(dataset: CocoDataset, broken: dict[int, str]) -> tuple[dict[str, Any], list[Change]]:
    data, _ = source.read_bytes(dataset.path)
    if source.digest(data) != dataset.fingerprint:
        raise UserError("the annotation file changed while it was read", str(dataset.path), "run the check again")
    content, _ = source.parse(data, dataset.path, set_masks_aside=False)
    changes: list[Change] = []
    images = {entry.id: entry for entry in dataset}
    content["images"] = _clean_images(content["images"], images, broken, changes)
    mended = {item.id: item for index in range(len(dataset)) for item in dataset.annotations(index)}
    content["annotations"] = _clean_annotations(content["annotations"], mended, broken, changes)
    content["categories"] = [
        _changed(entry, {"id": whole_number(entry["id"]), "name": str(entry["name"]).strip()}, "category", changes)
        for entry in content["categories"]
    ]
    return content, changes


def _clean_images(
    entries: Sequence[dict[str, Any]], images: dict[int, ImageEntry], broken: dict[int, str], changes: list[Change]
) -> list[dict[str, Any]]:
    kept = []
    for entry in entries:
        image = images[whole_number(entry["id"]) or 0]
        if image.id in broken:
            changes.append({"kind": "image", "id": image.id, "dropped": f"unreadable: {broken[image.id]}"})
            continue
        wanted = {"id": image.id, "file_name": image.path_below, "width": image.width, "height": image.height}
        kept.append(_changed(entry, wanted, "image", changes))
    return kept


def _clean_annotations(
    entries: Sequence[dict[str, Any]], mended: dict[int, Annotation], broken: dict[int, str], changes: list[Change]
) -> list[dict[str, Any]]:
    kept = []
    for number, entry in zip(number_annotations(entries), entries, strict=True):
        annotation = mended.get(number)
        image_id = whole_number(entry["image_id"])
        if annotation is None or image_id in broken:
            reason = "its image is unreadable" if image_id in broken else f"no size inside the picture: {entry['bbox']}"
            changes.append({"kind": "annotation", "id": number, "dropped": reason})
            continue
        wanted: dict[str, Any] = {
            "id": number,
            "image_id": image_id,
            "category_id": annotation.category_id,
            "bbox": list(annotation.bbox),
            "area": annotation.area,
            "iscrowd": annotation.iscrowd,
        }
        if entry.get("segmentation"):
            wanted["segmentation"] = annotation.segmentation if annotation.segmentation is not None else []
        kept.append(_changed(entry, wanted, "annotation", changes))
    return kept


def _changed(entry: dict[str, Any], wanted: dict[str, Any], kind: str, changes: list[Change]) -> dict[str, Any]:
    """`entry` with the values of `wanted`, each difference noted; equal numbers of another type stay as written."""
    result = dict(entry)
    for key, value in wanted.items():
        before = entry.get(key)
        same_kind = isinstance(before, str) == isinstance(value, str) and not isinstance(before, bool)
        if key in entry and before == value and same_kind:
            continue
        result[key] = value
        changes.append({"kind": kind, "id": wanted["id"], "key": key, "from": before, "to": value})
    return result


def _bring_images(dataset: CocoDataset, broken: dict[int, str], folder: Path) -> None:
    from tqdm import tqdm

    folder.mkdir()
    for image in tqdm(dataset, desc="linking images", unit="image", delay=5.0, disable=None):
        if image.id in broken or image.path is None:
            continue
        place = folder / image.path_below
        place.parent.mkdir(parents=True, exist_ok=True)
        origin = image.path.resolve()
        try:
            os.link(origin, place)
        except OSError:
            # Another file system, or one without hard links.
            shutil.copy2(origin, place)


def _verify(work: Path) -> None:
    copy = read_annotations(work / "annotations.json", work / "images", purpose="check", cache=False)
    left = [finding for finding in copy.findings if finding.action != "accept"]
    if left:
        raise RuntimeError(f"the cleaned copy is not clean: {left[0]}")
