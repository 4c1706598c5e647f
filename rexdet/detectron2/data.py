"""Data for detectron2's models: which files a job means, and how a picture becomes what the network gets.

What a training sample looks like is a function of the seed, the epoch and the picture, never of the worker that makes
it, so that a run can be resumed to the bit and the number of workers changes nothing.
"""

from __future__ import annotations

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

from rexdet.coco.annotations import CocoDataset
from rexdet.coco.images import UnreadableImage
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.runs.state import ResumableSampler, sample_randomness
from rexdet.session.data import (
    CocoFiles,
    files_by_name,
    files_of_switches,
    load_entry,
    one_thread,
    skip_limit,
    usable_workers,
)


def resolve_files(job: DetectionJob, train_name: str, val_name: str) -> tuple[CocoFiles | None, CocoFiles | None]:
    """The files of the training and validation split that a job means.

    The switches come first, then the names in the config: those that every engine knows, or a name that detectron2 has
    COCO files registered for. An empty name gives None. Raises UserError with the files looked for and the ways on.
    """
    return files_of_switches(job) or (_by_name(train_name), _by_name(val_name))


def _by_name(name: str) -> CocoFiles | None:
    files = files_by_name(name)
    if files is not None or not name:
        return files
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
        worker_init_fn=one_thread,
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
        worker_init_fn=one_thread,
    )


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]
