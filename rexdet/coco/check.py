"""A data set looked at in full: every image decoded, every mask unpacked, counts, and what two sets share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco import segmentation
from rexdet.coco.annotations import CocoDataset
from rexdet.coco.findings import SHOWN, Finding, Findings, in_order
from rexdet.coco.images import ImageSizeDiffers, UnreadableImage, load_image

SMALL, LARGE = 32.0**2, 96.0**2
"""px²; COCO calls objects of a smaller area small, and those from the larger one on large."""


@dataclass(slots=True)
class DataReport:
    """What a full look at a data set found.

    findings: the reader's, with those that only decoding shows; refusals first.
    statistics: counts, ids, sizes and boxes, as `statistics` gives them.
    broken: what is wrong with each image file that cannot be decoded, by image id.
    prints: for each decoded image, hashes of its bytes and of its RGB pixels.
    """

    findings: tuple[Finding, ...]
    statistics: dict[str, Any]
    broken: dict[int, str] = field(default_factory=dict)
    prints: dict[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the data cannot be worked with."""
        return any(finding.action == "refuse" for finding in self.findings)


def check_dataset(dataset: CocoDataset) -> DataReport:
    """Decode every image and every run-length mask of `dataset`, and put that beside its findings and statistics."""
    findings = Findings()
    broken, prints = _decode_images(dataset) if dataset.images_folder is not None else ({}, {})
    if broken:
        _add_broken(dataset, broken, findings)
    _check_runs(dataset, findings)
    _check_copies(dataset, prints, findings)
    # The reader's finding about first bytes is part of the one about whole files.
    known = [finding for finding in dataset.findings if not (broken and finding.code == "image-unreadable")]
    new = [replace(finding, file=str(dataset.path)) for finding in findings.as_tuple()]
    return DataReport(in_order([*known, *new]), statistics(dataset), broken, prints)


def _decode_images(dataset: CocoDataset) -> tuple[dict[int, str], dict[int, tuple[str, str]]]:
    from tqdm import tqdm

    def look(index: int) -> tuple[int, str, tuple[str, str] | None]:
        entry = dataset.image(index)
        if entry.path is None:
            return entry.id, "", None
        try:
            pixels = load_image(entry.path, (entry.width, entry.height))
        except ImageSizeDiffers:
            return entry.id, "", None
        except UnreadableImage as error:
            return entry.id, error.what, None
        content = hashlib.blake2b(entry.path.read_bytes(), digest_size=16).hexdigest()
        shape = f"{pixels.shape[0]}x{pixels.shape[1]}:".encode()
        return entry.id, "", (content, hashlib.blake2b(shape + pixels.tobytes(), digest_size=16).hexdigest())

    broken: dict[int, str] = {}
    prints: dict[int, tuple[str, str]] = {}
    with ThreadPoolExecutor(max_workers=4) as pool, _bar(tqdm, len(dataset)) as bar:
        for image_id, reason, found in pool.map(look, range(len(dataset))):
            bar.update()
            if reason:
                broken[image_id] = reason
            if found is not None:
                prints[image_id] = found
    return broken, prints


def _bar(tqdm: Any, total: int) -> Any:
    return tqdm(total=total, desc="decoding images", unit="image", delay=5.0, disable=None)


def _add_broken(dataset: CocoDataset, broken: dict[int, str], findings: Findings) -> None:
    names = {entry.id: entry.file_name for entry in dataset if entry.id in broken}
    findings.add(
        "skip",
        "image-unreadable",
        "files that cannot be decoded as images",
        list(names.values()),
        shown=[f"{names[image_id]}: {reason}" for image_id, reason in list(broken.items())[:SHOWN]],
    )
    trainable = np.isin(np.repeat(dataset.image_ids, np.diff(dataset.annotation_starts)), list(broken), invert=True)
    known = {finding.code for finding in dataset.findings}
    if dataset.annotation_count and not (trainable & ~dataset.crowd).any() and "nothing-to-train-on" not in known:
        findings.add(
            "refuse",
            "nothing-to-train-on",
            "no annotation can be trained on, as the images of all annotations are unreadable",
            ["annotations"],
        )


def _check_runs(dataset: CocoDataset, findings: Findings) -> None:
    bad: list[int] = []
    shown: list[str] = []
    for number, mask in _run_codes(dataset):
        try:
            height, width = mask["size"]
            total = int(segmentation.runs_of(mask["counts"]).sum())
            if total != height * width:
                raise ValueError(f"its runs cover {total} pixels instead of {height * width}")
        except ValueError as error:
            bad.append(number)
            shown.append(f"annotation {number}: {error}")
    findings.add("refuse", "mask-broken", "run-length masks that cannot be unpacked", bad, shown=shown)


def _run_codes(dataset: CocoDataset) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in dataset.run_length_rows.tolist():
        index = int(np.searchsorted(dataset.annotation_starts, row, side="right")) - 1
        annotation = dataset.annotations(index)[row - int(dataset.annotation_starts[index])]
        if isinstance(annotation.segmentation, dict):
            yield annotation.id, annotation.segmentation


def _check_copies(dataset: CocoDataset, prints: dict[int, tuple[str, str]], findings: Findings) -> None:
    first: dict[str, int] = {}
    copies = [
        f"{image_id} = {first[pixels]}"
        for image_id, (_, pixels) in prints.items()
        if first.setdefault(pixels, image_id) != image_id
    ]
    findings.add("accept", "image-copy", "images with the same pixels as another, by id", copies)


def find_leaks(train: DataReport, val: DataReport) -> list[dict[str, Any]]:
    """Images that both sets have: {"train": id, "val": id, "same": "bytes" or "pixels"}, sorted by the val ids."""
    by_bytes = {content: image_id for image_id, (content, _) in train.prints.items()}
    by_pixels = {pixels: image_id for image_id, (_, pixels) in train.prints.items()}
    leaks = []
    for image_id, (content, pixels) in sorted(val.prints.items()):
        if content in by_bytes:
            leaks.append({"train": by_bytes[content], "val": image_id, "same": "bytes"})
        elif pixels in by_pixels:
            leaks.append({"train": by_pixels[pixels], "val": image_id, "same": "pixels"})
    return leaks


def statistics(dataset: CocoDataset) -> dict[str, Any]:
    """Counts, ids, sizes and boxes of a data set, in plain numbers; null where there is nothing to count."""
    crowd, areas, boxes = dataset.crowd, dataset.areas, dataset.boxes
    objects = ~crowd
    per_image = np.diff(dataset.annotation_starts)
    owners = np.repeat(np.arange(len(dataset)), per_image)
    category_ids = dataset.category_ids
    small = int((objects & (areas < SMALL)).sum())
    large = int((objects & (areas >= LARGE)).sum())
    return {
        "images": len(dataset),
        "images_without_annotations": int((per_image == 0).sum()),
        "annotations": int(objects.sum()),
        "crowds": int(crowd.sum()),
        "masks": dataset.mask_count,
        "classes": len(dataset.categories),
        "image_ids": _range(dataset.image_ids),
        "annotation_ids": _range(dataset.annotation_ids),
        "category_ids": _range(np.array([category.id for category in dataset.categories], np.int64)),
        "image_width": _range(dataset.image_sizes[:, 0]),
        "image_height": _range(dataset.image_sizes[:, 1]),
        "annotations_per_image": _range(per_image),
        "box_width": _range(boxes[:, 2].round(2)),
        "box_height": _range(boxes[:, 3].round(2)),
        "objects_small": small,
        "objects_medium": int(objects.sum()) - small - large,
        "objects_large": large,
        "per_class": [
            {
                "id": category.id,
                "name": category.name,
                "annotations": int((objects & (category_ids == category.id)).sum()),
                "crowds": int((crowd & (category_ids == category.id)).sum()),
                "images": len(np.unique(owners[category_ids == category.id])),
            }
            for category in dataset.categories
        ],
    }


def _range(values: npt.NDArray[Any]) -> dict[str, float] | None:
    if not values.size:
        return None
    return {"min": values.min().item(), "max": values.max().item(), "median": float(np.median(values))}
