"""Data for MMDetection's models: our checked annotations through the config's own pipelines.

What a training sample looks like is a function of the seed, the epoch and the picture, never of the worker that makes
it, so that a run can be resumed to the bit and the number of workers changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.dataset import Compose, pseudo_collate
from torch.utils.data import DataLoader, Dataset, Sampler

from rexdet.coco.annotations import CocoDataset
from rexdet.coco.images import UnreadableImage
from rexdet.errors import UserError
from rexdet.mmdet.load import with_own_loader
from rexdet.mmdet.types import type_name
from rexdet.runs.state import ResumableSampler, sample_randomness
from rexdet.session.data import one_thread, skip_limit, usable_workers


class CocoPictures(BaseDetDataset):
    """One of our data sets as MMDetection's wrappers and pipelines want it.

    dataset: the annotations. images: int64 (N,), which of its pictures. pipeline: MMDetection's transforms.
    test_mode: no objects are given.
    """

    def __init__(self, dataset: CocoDataset, images: np.ndarray, *, pipeline: list[Any], test_mode: bool) -> None:
        self.coco = dataset
        self.images = images
        self.label = {category.id: index for index, category in enumerate(dataset.categories)}
        super().__init__(
            metainfo={"classes": tuple(dataset.class_names)},
            pipeline=[with_own_loader(step) for step in pipeline],
            serialize_data=False,
            test_mode=test_mode,
            lazy_init=True,
        )
        self._fully_initialized = True

    def __len__(self) -> int:
        return len(self.images)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the pipeline begins with: the picture and its objects, boxes as corners in px."""
        row = int(self.images[idx])
        entry = self.coco.image(row)
        return {
            "img_path": str(entry.path) if entry.path is not None else None,
            "file_name": entry.file_name,
            "img_id": entry.id,
            "seg_map_path": None,
            "width": entry.width,
            "height": entry.height,
            "turned": bool(self.coco.turned[row]),
            "instances": [] if self.test_mode else self._objects(row),
            "sample_idx": idx,
        }

    def _objects(self, row: int) -> list[dict[str, Any]]:
        objects = []
        for annotation in self.coco.annotations(row):
            x, y, width, height = annotation.bbox
            # MMDetection's own rule for what can be learned from.
            if width < 1 or height < 1 or annotation.area <= 0:
                continue
            thing: dict[str, Any] = {
                "bbox": [x, y, x + width, y + height],
                "bbox_label": self.label[annotation.category_id],
                "ignore_flag": int(annotation.iscrowd),
            }
            if annotation.segmentation:
                thing["mask"] = annotation.segmentation
            objects.append(thing)
        return objects


@dataclass(frozen=True)
class Batch:
    """What a training step gets: MMDetection's inputs, and the pictures that had to be passed over."""

    data: dict[str, Any]
    skipped: tuple[str, ...] = ()

    def image_ids(self) -> list[int]:
        """The pictures that are in it."""
        return [int(sample.img_id) for sample in self.data["data_samples"]]


class TrainingSet(Dataset[tuple[dict[str, Any], tuple[str, ...]]]):
    """A training set whose index is an (epoch, position) pair: (what the pipeline gives, what was passed over).

    An unreadable picture is passed over: the next one in the order stands in for it, and the sample names it.

    inner: MMDetection's data set, with the config's wrappers. source: the pictures at its bottom. seed: of the run.
    """

    def __init__(self, inner: Any, source: CocoPictures, seed: int) -> None:
        self.inner = inner
        self.source = source
        self.seed = seed

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, pair: tuple[int, int]) -> tuple[dict[str, Any], tuple[str, ...]]:
        epoch, position = pair
        skipped: list[str] = []
        for distance in range(len(self)):
            place = (position + distance) % len(self)
            try:
                # The randomness belongs to the picture, so that a stand-in looks as it would on its own turn.
                with sample_randomness(self.seed, epoch, place):
                    return self.inner[place], tuple(skipped)
            except UnreadableImage as error:
                skipped.append(str(error))
                if len(skipped) > skip_limit(len(self.source)):
                    break
        raise UserError(f"{len(skipped)} pictures in a row cannot be read; the first: {skipped[0]}")

    # What MMDetection's hooks ask of a loader's data set.

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes."""
        return dict(self.source.metainfo)

    @property
    def pipeline(self) -> Any:
        """The transforms of the outermost data set, which hooks exchange."""
        return self.inner.pipeline

    @pipeline.setter
    def pipeline(self, value: Any) -> None:
        self.inner.pipeline = value

    def update_skip_type_keys(self, keys: Any) -> None:
        """As in MMDetection's MultiImageMixDataset."""
        self.inner.update_skip_type_keys(keys)

    def is_wide(self) -> np.ndarray:
        """int64 (N,): 1 for pictures that are wider than tall, so that a batch of one kind has less padding."""
        if self.inner is self.source:
            sizes = np.asarray(self.source.coco.image_sizes)[self.source.images]
        else:
            infos = (self.inner.get_data_info(index) for index in range(len(self.inner)))
            sizes = np.array([(info["width"], info["height"]) for info in infos]).reshape(-1, 2)
        return (sizes[:, 0] > sizes[:, 1]).astype(np.int64)


def build_training_set(node: Mapping[str, Any], dataset: CocoDataset, images: np.ndarray, seed: int) -> TrainingSet:
    """The data set of a config's train_dataloader, with its wrappers, over our annotations.

    node: train_dataloader.dataset. Pictures smaller than its filter_cfg allows are left out, as MMDetection does.
    Raises UserError where that leaves none, or where the config mixes several data sets.
    """
    tree = copy.deepcopy(dict(node))
    innermost = innermost_dataset(tree)
    least = int((innermost.get("filter_cfg") or {}).get("min_size", 0))
    sizes = np.asarray(dataset.image_sizes)[images].min(axis=1)
    images = images[(sizes >= least) | (sizes == 0)]
    if len(images) == 0:
        raise UserError(f"no picture is at least {least} px, as filter_cfg.min_size wants", where=str(dataset.path))
    source = CocoPictures(dataset, images, pipeline=list(innermost.get("pipeline", [])), test_mode=False)
    inner = source if innermost is tree else DATASETS.build(_with_source(tree, innermost, source))
    return TrainingSet(inner, source, seed)


def innermost_dataset(node: Any, where: str = "train_dataloader.dataset") -> Any:
    """The part of a config's data set that reads annotations, below its wrappers. Raises UserError for several."""
    if "dataset" in node:
        return innermost_dataset(node["dataset"], f"{where}.dataset")
    if "datasets" in node:
        if len(node["datasets"]) != 1:
            raise UserError(f"{len(node['datasets'])} data sets are named and this tool takes one", where=where)
        return innermost_dataset(node["datasets"][0], f"{where}.datasets[0]")
    return node


def _with_source(node: Any, innermost: Any, source: CocoPictures) -> Any:
    if node is innermost:
        return source
    if "dataset" in node:
        return {**node, "dataset": _with_source(node["dataset"], innermost, source)}
    return {**node, "datasets": [_with_source(node["datasets"][0], innermost, source)]}


class _Stretch(Sampler[tuple[int, int]]):
    """This process's next samples, as many as are wanted: what a loader's workers may read ahead."""

    def __init__(self, order: ResumableSampler, samples: Callable[[], int]) -> None:
        self.order = order
        self.samples = samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return islice(iter(self.order), self.samples())


class TrainingLoader(DataLoader[Any]):
    """Batches from the sampler's position on; an iterator ends after `stretch` of them.

    Workers begin anew with each iterator, so that what hooks change about the data set between epochs reaches them.
    len: steps an epoch.
    """

    def __init__(self, training: TrainingSet, order: ResumableSampler, *, batch: int, workers: int, steps: int) -> None:
        """batch: of this process. steps: an epoch has."""
        self.order = order
        self.stretch = steps
        self.steps = steps
        super().__init__(
            training,
            sampler=_Stretch(order, lambda: self.stretch * batch),
            batch_size=batch,
            num_workers=usable_workers(workers),
            collate_fn=_collate,
            # A generator of its own: starting workers must not move the run's random numbers.
            generator=torch.Generator().manual_seed(training.seed),
            worker_init_fn=one_thread,
        )

    def __len__(self) -> int:
        return self.steps


def _collate(samples: list[tuple[dict[str, Any], tuple[str, ...]]]) -> Batch:
    skipped = tuple(reason for _, reasons in samples for reason in reasons)
    return Batch(pseudo_collate([data for data, _ in samples]), skipped)


class EvaluationSet(Dataset[dict[str, Any]]):
    """A COCO validation set: index -> what the pipeline gives.

    Where a file cannot be read it is {"image_id": ..., "unreadable": reason}.
    """

    def __init__(self, dataset: CocoDataset, pipeline: list[Any]) -> None:
        self.pictures = CocoPictures(dataset, np.arange(len(dataset)), pipeline=pipeline, test_mode=True)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return dict(self.pictures[index])
        except UnreadableImage as error:
            return {"image_id": self.pictures.get_data_info(index)["img_id"], "unreadable": str(error)}

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes."""
        return dict(self.pictures.metainfo)


def evaluation_loader(
    evaluation: EvaluationSet, *, rank: int, world_size: int, workers: int
) -> DataLoader[dict[str, Any]]:
    """This process's share of the pictures, one a batch, each picture in exactly one process."""
    return DataLoader(
        evaluation,
        sampler=list(range(rank, len(evaluation), world_size)),
        batch_size=1,
        num_workers=usable_workers(workers),
        collate_fn=_only,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=one_thread,
    )


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]


class PixelPipeline:
    """A test pipeline for pictures that are in memory already."""

    def __init__(self, pipeline: list[Any]) -> None:
        self.steps = Compose([step for step in pipeline if type_name(step) != "LoadImageFromFile"])

    def __call__(self, picture: np.ndarray) -> dict[str, Any]:
        """picture: uint8 (H, W, 3) RGB -> what the model takes."""
        height, width = picture.shape[:2]
        results = {
            "img": np.ascontiguousarray(picture[:, :, ::-1]),
            "img_path": None,
            "img_id": 0,
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "width": width,
            "height": height,
            "instances": [],
        }
        return dict(self.steps(results))
