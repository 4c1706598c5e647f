"""Which files a job means, which pictures of them are trained on, and their pixels; the same for every engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rexdet.coco.annotations import CocoDataset, ImageEntry, read_annotations
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.coco.images import UnreadableImage, load_image
from rexdet.coco.layout import CocoPaths, find_coco
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.processes import barrier, is_main
from rexdet.session.classes import ClassMap, match_classes
from rexdet.session.say import say

# A training set may lose this share of its pictures, and at least so many, before training stops.
SKIP_SHARE = 0.01
SKIP_AT_LEAST = 10
EMBEDDED = ("embedded_train", "embedded_val")


@dataclass(frozen=True)
class CocoFiles:
    """One split on the disk: its annotation file and the folder of its pictures."""

    annotations: Path
    images: Path


@dataclass
class Data:
    """The two splits of a job; either may be missing where the job does not need it."""

    train: CocoDataset | None
    train_files: CocoFiles | None
    val: CocoDataset | None
    val_files: CocoFiles | None

    def validation(self) -> CocoDataset:
        """The validation split. Raises UserError where there is none."""
        if self.val is None:
            raise UserError("no validation set to evaluate on", fix="give --val-annotations and --val-images")
        return self.val

    def match_classes(self, names: Sequence[str], ids: Sequence[int], *, by_name: bool) -> ClassMap:
        """Which category of the validation split each output of a model stands for: `session.classes`."""
        return match_classes(names, ids, self.validation(), by_name=by_name)


def open_data(job: DetectionJob, train_files: CocoFiles | None, val_files: CocoFiles | None, *, key: str) -> Data:
    """Read the splits that the job needs and say what was found in them. key: where a config names its training set.

    Raises UserError for data that cannot be used, and for training without a training set.
    """
    train = open_split(train_files, "train") if train_files and not job.eval_only else None
    val = open_split(val_files, "evaluate") if val_files else None
    for dataset in (train, val):
        for finding in dataset.findings if dataset is not None else ():
            if finding.action != "accept":
                say(f"{dataset.path}: {finding}")  # type: ignore[union-attr]
    if train is None and not job.eval_only:
        raise UserError("no training set", where=key, fix="give --train-annotations and --train-images")
    return Data(train, train_files, val, val_files)


def files_of_switches(job: DetectionJob) -> tuple[CocoFiles | None, CocoFiles | None] | None:
    """The files of the training and validation split that the job's switches mean; None where they name none.

    Raises UserError with the files looked for and the ways on.
    """
    if job.train_annotations or job.val_annotations:
        train = CocoFiles(Path(job.train_annotations), Path(job.train_images)) if job.train_annotations else None
        return train, CocoFiles(Path(job.val_annotations), Path(job.val_images))
    if job.data_root:
        return _splits(find_coco(job.data_root))
    if job.dataset == "embedded":
        return _embedded()
    return None


def files_by_name(name: str) -> CocoFiles | None:
    """The files of a data set that every engine knows: `embedded_*` (generated when missing), or COCO's own.

    COCO lies below DETECTRON2_DATASETS or ./datasets. None for another name. Raises UserError where COCO is not there.
    """
    if name in EMBEDDED:
        return _embedded()[name == "embedded_val"]
    if name in ("coco_2017_train", "coco_2017_val"):
        return _splits(find_coco())[name == "coco_2017_val"]
    return None


def _embedded() -> tuple[CocoFiles, CocoFiles]:
    # One process paints, the others find the result.
    folder = default_embedded_folder()
    if is_main():
        generate_embedded(folder)
    barrier()
    return _splits(EmbeddedPaths.of(folder))


def _splits(paths: CocoPaths | EmbeddedPaths) -> tuple[CocoFiles, CocoFiles]:
    return (
        CocoFiles(paths.train_annotations, paths.train_images),
        CocoFiles(paths.val_annotations, paths.val_images),
    )


def default_embedded_folder() -> Path:
    """Where the generated data set lies: below DETECTRON2_DATASETS or ./datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "embedded"


def open_split(files: CocoFiles, purpose: str) -> CocoDataset:
    """Read one split, say what was found, and refuse what cannot be used. purpose: "train" or "evaluate"."""
    dataset = read_annotations(files.annotations, files.images, purpose=purpose)
    dataset.raise_if_refused()
    return dataset


def load_entry(entry: ImageEntry) -> np.ndarray:
    """The pixels of one picture of a data set, uint8 (H, W, 3) RGB. Raises UnreadableImage."""
    if entry.path is None:
        raise UnreadableImage("there is no such image file", entry.file_name)
    return load_image(entry.path, (entry.width, entry.height))


def trainable_images(dataset: CocoDataset, *, keep_empty: bool, limit: int) -> np.ndarray:
    """int64 (N,): the pictures to train on, in the file's order.

    keep_empty: pictures without an object that can be trained on are negatives; else they are left out.
    limit: the first so many only; 0: all. Raises UserError where nothing is left.
    """
    indices = np.arange(len(dataset), dtype=np.int64)
    if not keep_empty:
        indices = indices[_trainable_objects(dataset) > 0]
    if limit:
        indices = indices[:limit]
    if len(indices) == 0:
        raise UserError("no picture is left to train on", where=str(dataset.path))
    return indices


def _trainable_objects(dataset: CocoDataset) -> np.ndarray:
    """How many annotations of each picture are no crowd."""
    starts = np.asarray(dataset.annotation_starts)
    before = np.concatenate([[0], np.cumsum(~np.asarray(dataset.crowd))])
    return before[starts[1:]] - before[starts[:-1]]


def skip_limit(images: int) -> int:
    """How many pictures of a training set may be unreadable before training stops."""
    return max(SKIP_AT_LEAST, int(images * SKIP_SHARE))


def usable_workers(configured: int) -> int:
    """As many worker processes as the config says, and no more than there are processors to run them on.

    What a sample looks like does not depend on the worker, so fewer of them change nothing but speed.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(configured, processors)


def one_thread(worker: int) -> None:
    """For `worker_init_fn`: workers beside each other compute with one thread each."""
    torch.set_num_threads(1)
