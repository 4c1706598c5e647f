"""The embedded data set: pictures that are painted on the spot, in COCO's format, so that nothing has to be fetched.

A picture depends on the seed, its split, its number and its size alone: the count of pictures, the number of processes
and the order of work change nothing. The same versions of NumPy and Pillow give the same bytes.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from rexdet.coco.scenes import CLASSES, Scene, SceneObject, render_scene
from rexdet.errors import UserError
from rexdet.files import write_json_atomically

# Raised whenever the pictures or the annotations that a seed gives change, so that older folders are made anew.
GENERATOR_VERSION = 1
MARKER_NAME = "embedded.json"
SPLITS = ("train", "val")

_JPEG_QUALITY = 92
# Ids of the two splits never meet, however many pictures there are: a leak check can trust them.
_ID_STEP = 1_000_000
_CHUNK = 50
# Below this many pictures a second process costs more than it saves.
_PARALLEL_FROM = 400


@dataclass(frozen=True)
class EmbeddedPaths:
    """Where a generated data set lies: `folder` is its root; for each split the COCO file and the folder of JPEGs."""

    folder: Path
    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> EmbeddedPaths:
        """The paths that a data set in `folder` has, whether it is there yet or not."""
        root = Path(folder)
        annotations = root / "annotations"
        return cls(
            root,
            annotations / "instances_train.json",
            root / "train",
            annotations / "instances_val.json",
            root / "val",
        )


def generate_embedded(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    train_images: int = 2000,
    val_images: int = 200,
    size: int = 128,
    workers: int | None = None,
    progress: bool = True,
) -> EmbeddedPaths:
    """Make the embedded data set in `folder`, or find it there.

    folder: its root. A data set made with the same parameters is used as it is, at once. One made with others gives way
        to the new one when that is complete. A folder that holds anything else is left alone.
    seed: 0 or more. train_images, val_images: pictures a split, 1 to 999,999; the splits share none.
    size: width and height of every picture in pixels, at least 64.
    workers: processes that paint; None: as many as there are processors, two at most, and one for a small data set.
        More than one are started afresh (`spawn`): a script that calls this needs its `if __name__ == "__main__":`.
    progress: whether to show a bar.

    Raises UserError for parameters out of range and for a folder that was not made by this function.
    """
    parameters = _checked_parameters(seed, train_images, val_images, size)
    paths = EmbeddedPaths.of(folder)
    if _is_complete(paths.folder, parameters):
        return paths
    _refuse_foreign(paths.folder)
    paths.folder.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved there when complete: nobody ever sees half a data set.
    building = Path(tempfile.mkdtemp(dir=paths.folder.parent, prefix=f".{paths.folder.name}.partial-"))
    try:
        _write_splits(EmbeddedPaths.of(building), parameters, workers, progress)
        write_json_atomically(building / MARKER_NAME, parameters)
        building.chmod(0o755)
        _move_into_place(building, paths.folder, parameters)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return paths


def _checked_parameters(seed: int, train_images: int, val_images: int, size: int) -> dict[str, Any]:
    if seed < 0:
        raise UserError(f"the seed of the embedded data set is {seed}", fix="give 0 or a positive number")
    for split, count in (("training", train_images), ("validation", val_images)):
        if not 1 <= count < _ID_STEP:
            raise UserError(f"{count} {split} images asked for", fix=f"ask for 1 to {_ID_STEP - 1}")
    if size < 64:
        raise UserError(f"pictures of {size} pixels leave no room for the objects", fix="take a size of 64 or more")
    return {
        "generator": "rexdet embedded data set",
        "version": GENERATOR_VERSION,
        "seed": seed,
        "train_images": train_images,
        "val_images": val_images,
        "size": size,
    }


def _is_complete(folder: Path, parameters: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / MARKER_NAME).read_text()) == parameters)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists() or (folder / MARKER_NAME).is_file():
        return
    if not folder.is_dir():
        raise UserError("is not a folder", str(folder), "name another place for the embedded data set")
    if any(folder.iterdir()):
        raise UserError(
            "holds files that are not the embedded data set's", str(folder), "name an empty or a new folder for it"
        )


def _move_into_place(building: Path, folder: Path, parameters: dict[str, Any]) -> None:
    """Give the new data set its name; what had that name before is removed after that, and only then."""
    retired: Path | None = None
    if (folder / MARKER_NAME).is_file():
        if _is_complete(folder, parameters):  # Another process was faster.
            return
        retired = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.retired-"))
        os.replace(folder, retired / "old")
    try:
        os.replace(building, folder)
    except OSError:
        if not _is_complete(folder, parameters):
            raise
    if retired is not None:
        shutil.rmtree(retired)


def _write_splits(paths: EmbeddedPaths, parameters: dict[str, Any], workers: int | None, progress: bool) -> None:
    counts = {"train": parameters["train_images"], "val": parameters["val_images"]}
    total = sum(counts.values())
    if workers is None:
        workers = 1 if total < _PARALLEL_FROM else min(2, os.cpu_count() or 1)
    targets = {
        "train": (paths.train_annotations, paths.train_images),
        "val": (paths.val_annotations, paths.val_images),
    }
    with (
        _mapping(workers) as parallel_map,
        tqdm(total=total, desc="embedded data set", unit="image", disable=not progress) as bar,
    ):
        for split in SPLITS:
            annotations_path, images_folder = targets[split]
            images_folder.mkdir()
            chunks = [range(start, min(start + _CHUNK, counts[split])) for start in range(0, counts[split], _CHUNK)]
            paint = partial(_write_images, images_folder, parameters["seed"], split, parameters["size"])
            per_image: list[list[dict[str, Any]]] = []
            for done in parallel_map(paint, chunks):
                per_image += done
                bar.update(len(done))
            write_json_atomically(annotations_path, _coco(split, per_image, parameters), indent=None)


@contextmanager
def _mapping(workers: int) -> Iterator[Any]:
    """Give a `map` that works in this process or, in the order of its input, in several."""
    if workers <= 1:
        yield map
        return
    # Not forked: a process that has used torch holds threads that a fork would lose.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def _write_images(folder: Path, seed: int, split: str, size: int, indices: Iterable[int]) -> list[list[dict[str, Any]]]:
    """Paint and write some pictures of a split; returns each one's annotations, without ids."""
    per_image = []
    for index in indices:
        scene = embedded_scene(seed, split, index, size)
        buffer = io.BytesIO()
        Image.fromarray(scene.image).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        (folder / _file_name(index)).write_bytes(buffer.getvalue())
        per_image.append([_annotation(thing) for thing in scene.objects])
    return per_image


def embedded_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Paint picture `index` (from 0) of a split ("train" or "val") as generate_embedded does, before JPEG."""
    random = np.random.default_rng([seed, SPLITS.index(split), index])
    return render_scene(random, size, size)


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _annotation(thing: SceneObject) -> dict[str, Any]:
    segmentation: Any = _uncompressed_rle(thing.mask) if thing.crowd else thing.polygons()
    return {
        "category_id": thing.class_index + 1,
        "bbox": list(thing.visible_box()),
        "area": int(np.count_nonzero(thing.mask)),
        "iscrowd": int(thing.crowd),
        "segmentation": segmentation,
    }


def _uncompressed_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's run lengths of a mask that covers the picture: down the columns, zeros first."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    bounds = np.concatenate(([0], changes, [pixels.size]))
    counts = np.diff(bounds).tolist()
    if pixels[0]:
        counts = [0, *counts]
    return {"size": [mask.shape[0], mask.shape[1]], "counts": counts}


def _coco(split: str, per_image: list[list[dict[str, Any]]], parameters: dict[str, Any]) -> dict[str, Any]:
    first_id = SPLITS.index(split) * _ID_STEP + 1
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, things in enumerate(per_image):
        image_id = first_id + index
        images.append(
            {
                "id": image_id,
                "file_name": _file_name(index),
                "width": parameters["size"],
                "height": parameters["size"],
            }
        )
        annotations += [
            {"id": len(annotations) + 1 + k, "image_id": image_id, **thing} for k, thing in enumerate(things)
        ]
    return {
        "info": {"description": f"rexdet embedded data set, {split}", "version": str(GENERATOR_VERSION)},
        "licenses": [],
        "categories": [{"id": k + 1, "name": kind.name, "supercategory": "shape"} for k, kind in enumerate(CLASSES)],
        "images": images,
        "annotations": annotations,
    }
