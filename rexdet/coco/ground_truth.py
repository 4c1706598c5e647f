"""Ground truth as columns: what the evaluation compares detections with."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.errors import UserError


@dataclass(frozen=True)
class ListedCategory:
    """A category as the annotation file lists it."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated images as columns; I images, G annotations.

    image_ids: int64 (I,), ascending. image_sizes: int64 (I, 2), height and width in pixels.
    categories: those that the annotation file lists, ascending by id.
    annotation_image: int64 (G,), row into `image_ids`; annotation_category: int64 (G,), row into `categories`.
    boxes: float64 (G, 4), x, y, width, height in pixels, as annotated. areas: float64 (G,), as annotated (square
        pixels; it decides the area range); crowd: bool (G,).
    segmentations: G entries (polygons, or a run-length code of either form, or None).
    annotation_ids: int64 (G,), for messages alone: matching never looks at them, so an id 0 is lost nowhere.
    source: the file, for messages. mendable: findings that cleaning the file would mend, and how many of each.
    """

    image_ids: NDArray[np.int64]
    image_sizes: NDArray[np.int64]
    categories: tuple[ListedCategory, ...]
    annotation_image: NDArray[np.int64]
    annotation_category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    segmentations: Sequence[Any]
    annotation_ids: NDArray[np.int64]
    source: str = ""
    mendable: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.annotation_image)

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """int64 (K,), ascending."""
        return np.array([category.id for category in self.categories], np.int64)

    @classmethod
    def from_coco(cls, content: dict[str, Any], source: str = "") -> GroundTruth:
        """From the content of a COCO annotation file whose ids are sound (`read_annotations` checks a file).

        A missing `iscrowd` counts as 0 and a missing `area` as width times height of the box; everything else is
        taken as it stands. Raises KeyError for annotations of unknown images or categories.
        """
        images = sorted(content["images"], key=lambda image: int(image["id"]))
        categories = sorted(
            (ListedCategory(int(entry["id"]), str(entry["name"])) for entry in content["categories"]),
            key=lambda category: category.id,
        )
        annotations = content["annotations"]
        image_row = {int(image["id"]): row for row, image in enumerate(images)}
        category_row = {category.id: row for row, category in enumerate(categories)}
        boxes = np.array([entry["bbox"] for entry in annotations], np.float64).reshape(-1, 4)
        areas = [entry.get("area") for entry in annotations]
        return cls(
            image_ids=np.array([image["id"] for image in images], np.int64),
            image_sizes=np.array(
                [(image.get("height") or 0, image.get("width") or 0) for image in images], np.int64
            ).reshape(-1, 2),
            categories=tuple(categories),
            annotation_image=np.array([image_row[int(entry["image_id"])] for entry in annotations], np.int64),
            annotation_category=np.array([category_row[int(entry["category_id"])] for entry in annotations], np.int64),
            boxes=boxes,
            areas=np.array(
                [box[2] * box[3] if area is None else area for area, box in zip(areas, boxes, strict=True)],
                np.float64,
            ),
            crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], np.bool_),
            segmentations=[entry.get("segmentation") for entry in annotations],
            annotation_ids=np.array([entry.get("id", 0) for entry in annotations], np.int64),
            source=source,
        )

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """G run-length codes as pycocotools.mask takes them, at the size of their image (made once, when first asked).

        Raises UserError that names the first annotation without a mask.
        """
        from pycocotools import mask as mask_tools

        without = [row for row, shape in enumerate(self.segmentations) if not shape]
        if without:
            raise UserError(
                f"{len(without)} of {len(self)} annotations have no mask, the first is annotation "
                f"{self.annotation_ids[without[0]]}",
                self.source,
                "evaluate boxes (bbox), or give annotations with a segmentation each",
            )
        masks = []
        for shape, image in zip(self.segmentations, self.annotation_image.tolist(), strict=True):
            height, width = self.image_sizes[image].tolist()
            if isinstance(shape, list):
                masks.append(mask_tools.merge(mask_tools.frPyObjects(shape, height, width)))
            elif isinstance(shape["counts"], list):
                masks.append(mask_tools.frPyObjects(shape, height, width))
            else:
                masks.append(shape)
        return masks


def read_ground_truth(dataset: Any) -> GroundTruth:
    """Ground truth from a `GroundTruth` (as it is), a `CocoDataset`, a path, or an annotation file's content."""
    if isinstance(dataset, GroundTruth):
        return dataset
    if isinstance(dataset, dict):
        return GroundTruth.from_coco(dataset)
    if isinstance(dataset, str | os.PathLike):
        return GroundTruth.from_coco(json.loads(Path(dataset).read_text(encoding="utf-8")), str(dataset))
    return GroundTruth.from_coco(dataset.to_coco(), str(dataset.path))
