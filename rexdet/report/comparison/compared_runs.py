"""Two runs with their detections on the same annotated images, or the reason why they cannot be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.detections import Detections, read_detections
from rexdet.coco.ground_truth import GroundTruth
from rexdet.errors import UserError
from rexdet.runs import RunRecord, read_record
from rexdet.runs.parts import DataSplit
from rexdet.runs.record import record_path

_NO_DETECTIONS = "tools/train_det.py --eval-only on its weights leaves them"


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run. path: as named. detections: of the images that are compared, ids of `Compared.truth`."""

    path: str
    record: RunRecord
    detections: Detections


@dataclass(frozen=True, eq=False)
class Compared:
    """Two runs on the same images.

    dataset: where the pictures are found; truth: the images that are compared, ids of `dataset`. whole: they are all
    that the runs were scored on. notes: what a reader must know, a line each.
    """

    one: ComparedRun
    other: ComparedRun
    dataset: CocoDataset
    truth: GroundTruth
    whole: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Opened:
    path: str
    record: RunRecord
    split: DataSplit
    detections_file: Path


def open_runs(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    *,
    annotations: str | None = None,
    images: str | None = None,
    intersect: bool = False,
) -> Compared:
    """Read two runs and the data that they were scored on.

    one, other: run folders, or their records. annotations, images: where the validation data lies now; None: where
    the records say. intersect: runs that were scored on different data are compared on the images and classes that
    both annotate alike.

    Raises UserError: a broken record, a run without detections or of another kind, missing or changed annotations,
    different validation data.
    """
    opened = [_open(path) for path in (one, other)]
    prints = [run.split.fingerprint for run in opened]
    notes = [note for name, run in zip("AB", opened, strict=True) for note in _notes(name, run.record)]
    if prints[0] == prints[1] and prints[0] is not None:
        dataset = _dataset(opened[0], annotations, images)
        truth = GroundTruth.from_dataset(dataset)
        runs = [ComparedRun(run.path, run.record, read_detections(run.detections_file, dataset)) for run in opened]
        return Compared(runs[0], runs[1], dataset, truth, True, tuple(notes))
    if not intersect:
        told = " and ".join(f"{run.split.path or '-'} ({(run.split.fingerprint or 'unknown')[:12]})" for run in opened)
        raise UserError(
            f"the two runs were scored on different validation data: {told}",
            fix="evaluate both on the same, or --intersect compares on the images that both annotate alike",
        )
    if annotations or images:
        raise UserError(
            "--intersect reads two annotation files, where the records say", fix="leave --annotations and --images out"
        )
    return _intersected(opened, notes)


def _open(path: str | os.PathLike[str]) -> _Opened:
    record = read_record(path)
    where = str(path)
    if record.kind != "detection":
        raise UserError(f"is a {record.kind} run, and only detection runs have detections to compare", where)
    if record.data.val is None:
        raise UserError("this run was never evaluated", where, _NO_DETECTIONS)
    name = record.files.get("detections")
    file = record_path(path).parent / name if name else None
    if file is None or not file.is_file():
        gone = f"its detections file {name} is gone" if name else "this run left no detections file"
        raise UserError(gone, where, _NO_DETECTIONS)
    return _Opened(where, record, record.data.val, file)


def _dataset(run: _Opened, annotations: str | None, images: str | None) -> CocoDataset:
    path = annotations or run.split.path
    if path is None or not Path(path).is_file():
        raise UserError(
            f"the annotation file {path or '(unnamed)'} of this run is not here", run.path, "name it: --annotations J"
        )
    dataset = _read(path, images or run.split.images_path)
    if run.split.fingerprint not in (None, dataset.fingerprint):
        raise UserError(
            f"is not the file that {run.path} was scored on (SHA-256 {dataset.fingerprint[:12]} instead of "
            f"{(run.split.fingerprint or '')[:12]})",
            path,
            "name that one: --annotations J",
        )
    dataset.raise_if_refused()
    return dataset


def _read(path: str, images: str | None) -> CocoDataset:
    """With the pictures, which are drawn; where they are gone, without: numbers do not need them."""
    if images and Path(images).is_dir():
        dataset = read_annotations(path, images, purpose="evaluate")
        if all(finding.action != "refuse" for finding in dataset.findings):
            return dataset
    return read_annotations(path, purpose="evaluate")


def _notes(name: str, record: RunRecord) -> list[str]:
    """What makes a number something else than the run's result."""
    notes = []
    if record.status != "done":
        notes.append(f"{name} is {record.status}: its detections are those of its last evaluation")
    if record.partial:
        notes.append(f"{name} is partial: {len(record.partial)} images could not be predicted and count as missed")
    notes += [
        f"{name} used only a part of its {word} data, on purpose"
        for word, split in (("training", record.data.train), ("validation", record.data.val))
        if split is not None and split.limited
    ]
    if record.evaluated_weights is not None and record.evaluated_weights.selection == "best":
        notes.append(f"{name} is the best of its evaluations: it was chosen on these images")
    return notes


def _intersected(opened: list[_Opened], notes: list[str]) -> Compared:
    datasets = [_dataset(run, None, None) for run in opened]
    names = [{category.name: category.id for category in dataset.categories} for dataset in datasets]
    shared = sorted(set(names[0]) & set(names[1]), key=names[0].__getitem__)
    contents = [dataset.to_coco() for dataset in datasets]
    images = [
        _signatures(content, {ids[name]: name for name in shared}) for content, ids in zip(contents, names, strict=True)
    ]
    same = [name for name, (_, signature) in images[0].items() if name in images[1] and images[1][name][1] == signature]
    if not same or not shared:
        raise UserError(
            "the two runs' validation data have no image in common that is annotated alike",
            f"{datasets[0].path} and {datasets[1].path}",
        )
    kept = {images[0][name][0] for name in same}
    ids = {names[0][name] for name in shared}
    truth = GroundTruth.from_coco(_restricted(contents[0], kept, ids), str(datasets[0].path))
    runs = []
    for run, dataset, found, classes in zip(opened, datasets, images, names, strict=True):
        detections = read_detections(run.detections_file, dataset)
        image_of = {found[name][0]: images[0][name][0] for name in same}
        class_of = {classes[name]: names[0][name] for name in shared}
        runs.append(ComparedRun(run.path, run.record, _translated(detections, image_of, class_of)))
    counts = " and ".join(str(len(dataset)) for dataset in datasets)
    notes.append(
        f"the runs were scored on different data: compared are the {len(same)} images, of {counts}, and the "
        f"{len(shared)} classes that both annotate alike"
    )
    return Compared(runs[0], runs[1], datasets[0], truth, False, tuple(notes))


def _signatures(content: Mapping[str, Any], classes: Mapping[int, str]) -> dict[str, tuple[int, Any]]:
    """File name -> image id, and what is annotated on it of these classes."""
    objects: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        if entry["category_id"] in classes:
            objects[entry["image_id"]].append(
                (classes[entry["category_id"]], tuple(entry["bbox"]), entry["area"], entry["iscrowd"])
            )
    return {
        image["file_name"]: (image["id"], (image["width"], image["height"], sorted(objects[image["id"]])))
        for image in content["images"]
    }


def _restricted(content: Mapping[str, Any], images: set[int], classes: set[int]) -> dict[str, Any]:
    return {
        "images": [image for image in content["images"] if image["id"] in images],
        "categories": [category for category in content["categories"] if category["id"] in classes],
        "annotations": [
            entry for entry in content["annotations"] if entry["image_id"] in images and entry["category_id"] in classes
        ],
    }


def _translated(detections: Detections, image_of: Mapping[int, int], class_of: Mapping[int, int]) -> Detections:
    kept = detections.take(
        np.isin(detections.image_ids, list(image_of)) & np.isin(detections.category_ids, list(class_of))
    )
    return replace(
        kept,
        image_ids=np.array([image_of[number] for number in kept.image_ids.tolist()], np.int64),
        category_ids=np.array([class_of[number] for number in kept.category_ids.tolist()], np.int64),
    )
