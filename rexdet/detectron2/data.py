"""Data for detectron2's models: which files a job means, and how a picture becomes what the network gets.

What a training sample looks like is a function of the seed, the epoch and the picture, never of the worker that makes
it, so that a run can be resumed to the bit and the number of workers changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from torch.utils.data import DataLoader, Dataset

from rexdet.coco.annotations import CocoDataset, ImageEntry, read_annotations
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.coco.images import UnreadableImage, load_image
from rexdet.coco.layout import CocoPaths, find_coco
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.processes import barrier, is_main
from rexdet.runs.state import ResumableSampler, sample_randomness

# A training set may lose this share of its pictures, and at least so many, before training stops.
SKIP_SHARE = 0.01
SKIP_AT_LEAST = 10
EMBEDDED = ("embedded_train", "embedded_val")


@dataclass(frozen=True)
class CocoFiles:
    """One split on the disk: its annotation file and the folder of its pictures."""

    annotations: Path
    images: Path


def resolve_files(job: DetectionJob, train_name: str, val_name: str) -> tuple[CocoFiles | None, CocoFiles | None]:
    """The files of the training and validation split that a job means.

    Flags come first, then `--data-root`, then the names in the config: `embedded_*` (generated when missing), COCO's
    own (below DETECTRON2_DATASETS or ./datasets), or a name that detectron2 has COCO files registered for.
    An empty name gives None. Raises UserError with the files looked for and the ways on.
    """
    if job.train_annotations or job.val_annotations:
        train = CocoFiles(Path(job.train_annotations), Path(job.train_images)) if job.train_annotations else None
        return train, CocoFiles(Path(job.val_annotations), Path(job.val_images))
    if job.data_root:
        return _splits(find_coco(job.data_root))
    if job.dataset == "embedded":
        train_name, val_name = EMBEDDED
    return _by_name(train_name), _by_name(val_name)


def _by_name(name: str) -> CocoFiles | None:
    if not name:
        return None
    if name in EMBEDDED:
        # One process paints, the others find the result.
        folder = default_embedded_folder()
        if is_main():
            generate_embedded(folder)
        barrier()
        return _splits(EmbeddedPaths.of(folder))[name == "embedded_val"]
    if name in ("coco_2017_train", "coco_2017_val"):
        return _splits(find_coco())[name == "coco_2017_val"]
    from detectron2.data import MetadataCatalog

    if name in MetadataCatalog.list():
        metadata = MetadataCatalog.get(name)
        if getattr(metadata, "json_file", None) and getattr(metadata, "image_root", None):
            return CocoFiles(Path(metadata.json_file), Path(metadata.image_root))
    raise UserError(
        f"no data set {name!r} in COCO form is known",
        where="DATASETS",
        fix="give the files with --train-annotations, --train-images, --val-annotations and --val-images",
    )


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


@dataclass(frozen=True)
class Sample:
    """What a data set gives for one picture: detectron2's input, and the pictures that had to be passed over."""

    inputs: dict[str, Any]
    skipped: tuple[str, ...] = ()


class TrainingSet(Dataset[Sample]):
    """A COCO training set as detectron2's models want it; its index is an (epoch, position) pair.

    dataset: the annotations. images: int64 (N,), which of its pictures are trained on.
    augmentations: detectron2's. image_format: "BGR" or "RGB", the order in which the network gets channels.
    use_masks: give instances their masks. seed: of the run.

    An unreadable picture is passed over: the next one in the order stands in for it, and the sample names it.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        images: np.ndarray,
        augmentations: Sequence[Any],
        *,
        image_format: str,
        use_masks: bool,
        seed: int,
    ) -> None:
        self.dataset = dataset
        self.images = images
        self.augmentations = list(augmentations)
        self.image_format = image_format
        self.use_masks = use_masks
        self.seed = seed
        self.class_index = {category.id: index for index, category in enumerate(dataset.categories)}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, pair: tuple[int, int]) -> Sample:
        epoch, position = pair
        skipped: list[str] = []
        for distance in range(len(self.images)):
            place = (position + distance) % len(self.images)
            try:
                # The randomness belongs to the picture, so that a stand-in looks as it would on its own turn.
                with sample_randomness(self.seed, epoch, place):
                    return Sample(self.load(int(self.images[place])), tuple(skipped))
            except UnreadableImage as error:
                skipped.append(str(error))
                if len(skipped) > skip_limit(len(self.images)):
                    break
        raise UserError(f"{len(skipped)} pictures in a row cannot be read; the first: {skipped[0]}")

    def is_wide(self) -> np.ndarray:
        """bool (N,): which pictures are wider than tall, so that a batch of one kind has less padding."""
        sizes = np.asarray(self.dataset.image_sizes)[self.images]
        return sizes[:, 0] > sizes[:, 1]

    def load(self, index: int) -> dict[str, Any]:
        """One picture, augmented: detectron2's input dict with "image" (uint8, (C, H, W)) and "instances"."""
        entry = self.dataset.image(index)
        picture = _ordered(load_entry(entry), self.image_format)
        inputs = T.AugInput(picture)
        transforms = T.AugmentationList(self.augmentations)(inputs)
        picture = inputs.image
        size = picture.shape[:2]
        objects = [
            detection_utils.transform_instance_annotations(self._object(annotation), transforms, size)
            for annotation in self.dataset.annotations(index)
            if not annotation.iscrowd
        ]
        as_bitmasks = any(not isinstance(thing.get("segmentation", []), list) for thing in objects)
        instances = detection_utils.annotations_to_instances(
            objects, size, mask_format="bitmask" if as_bitmasks else "polygon"
        )
        if self.use_masks and instances.has("gt_masks") and _crops(self.augmentations):
            # A crop cuts objects: the box that is left is that of the visible mask.
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return {
            "image": _as_tensor(picture),
            "instances": detection_utils.filter_empty_instances(instances),
            "image_id": entry.id,
            "file_name": str(entry.path),
            "height": entry.height,
            "width": entry.width,
        }

    def _object(self, annotation: Any) -> dict[str, Any]:
        thing = {
            "bbox": list(annotation.bbox),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": self.class_index[annotation.category_id],
            "iscrowd": 0,
        }
        if self.use_masks:
            if not annotation.segmentation:
                raise UserError(
                    f"annotation {annotation.id} has no mask, and the config trains masks",
                    where=str(self.dataset.path),
                    fix="use a config without MASK_ON",
                )
            thing["segmentation"] = annotation.segmentation
        return thing


class EvaluationSet(Dataset[dict[str, Any]]):
    """A COCO validation set: index -> detectron2's input dict.

    Where a file cannot be read it is {"image_id": ..., "unreadable": reason}.
    """

    def __init__(self, dataset: CocoDataset, augmentations: Sequence[Any], *, image_format: str) -> None:
        self.dataset = dataset
        self.augmentations = list(augmentations)
        self.image_format = image_format

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self.dataset.image(index)
        try:
            picture = load_entry(entry)
        except UnreadableImage as error:
            return {"image_id": entry.id, "unreadable": str(error)}
        return {
            **network_input(picture, self.augmentations, self.image_format),
            "image_id": entry.id,
            "file_name": str(entry.path),
            "height": entry.height,
            "width": entry.width,
        }


def load_entry(entry: ImageEntry) -> np.ndarray:
    """The pixels of one picture of a data set, uint8 (H, W, 3) RGB. Raises UnreadableImage."""
    if entry.path is None:
        raise UnreadableImage("there is no such image file", entry.file_name)
    return load_image(entry.path, (entry.width, entry.height))


def network_input(picture: np.ndarray, augmentations: Sequence[Any], image_format: str) -> dict[str, Any]:
    """A picture (H, W, 3) uint8 RGB as detectron2's models take it: resized, in their channel order, (C, H', W')."""
    inputs = T.AugInput(_ordered(picture, image_format))
    T.AugmentationList(list(augmentations))(inputs)
    return {"image": _as_tensor(inputs.image), "height": picture.shape[0], "width": picture.shape[1]}


def _ordered(picture: np.ndarray, image_format: str) -> np.ndarray:
    return picture[:, :, ::-1] if image_format == "BGR" else picture


def _as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _crops(augmentations: Sequence[Any]) -> bool:
    return any("Crop" in type(augmentation).__name__ for augmentation in augmentations)


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


def training_loader(
    training: TrainingSet, sampler: ResumableSampler, *, per_process_batch: int, workers: int
) -> Iterator[list[Sample]]:
    """Endless batches of `per_process_batch` samples from the sampler's position on."""
    loader = DataLoader(
        training,
        sampler=sampler,
        batch_size=per_process_batch,
        num_workers=usable_workers(workers),
        collate_fn=list,
        # A generator of its own: starting workers must not move the run's random numbers.
        generator=torch.Generator().manual_seed(training.seed),
        worker_init_fn=_one_thread,
        persistent_workers=workers > 0,
        pin_memory=False,
    )
    return iter(loader)


def evaluation_loader(
    evaluation: EvaluationSet, *, rank: int, world_size: int, workers: int
) -> DataLoader[dict[str, Any]]:
    """This process's share of the pictures, one a batch, each picture in exactly one process."""
    share = list(range(rank, len(evaluation), world_size))
    return DataLoader(
        evaluation,
        sampler=share,
        batch_size=1,
        num_workers=usable_workers(workers),
        collate_fn=_only,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_one_thread,
    )


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
