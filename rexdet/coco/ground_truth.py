"""Ground truth as columns: what the evaluation compares detections with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.columns import LARGEST_PICTURE
from rexdet.coco.findings import Finding
from rexdet.coco.run_length import first_unfilled
from rexdet.coco.schema import Category
from rexdet.errors import UserError


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated images as columns; I images, G annotations.

    image_ids: int64 (I,), ascending. image_sizes: int64 (I, 2), height and width in pixels.
    categories: those that the annotation file lists, ascending by id.
    annotation_image: int64 (G,), row into `image_ids`; annotation_category: int64 (G,), row into `categories`.
    boxes: float64 (G, 4), x, y, width, height in pixels, as annotated. areas: float64 (G,), as annotated (square
        pixels; it decides the area range); crowd: bool (G,).
    segmentations: gives G entries (polygons, or a run-length code of either form, or None) when masks are needed.
    annotation_ids: int64 (G,), for messages alone: matching never looks at them, so an id 0 is lost nowhere.
    source: the file, for messages.
    filled_in: what was missing and is filled in, and how often. mendable: what cleaning the file would mend, and how
        often; it is scored as it stands.
    """

    image_ids: NDArray[np.int64]
    image_sizes: NDArray[np.int64]
    categories: tuple[Category, ...]
    annotation_image: NDArray[np.int64]
    annotation_category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    segmentations: Callable[[], Sequence[Any]]
    annotation_ids: NDArray[np.int64]
    source: str = ""
    filled_in: dict[str, int] = field(default_factory=dict)
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
            (Category(int(entry["id"]), str(entry["name"])) for entry in content["categories"]),
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
            segmentations=lambda: [entry.get("segmentation") for entry in annotations],
            annotation_ids=np.array([entry.get("id", 0) for entry in annotations], np.int64),
            source=source,
            filled_in={
                f"{key}-missing": missing
                for key in ("iscrowd", "area")
                if (missing := sum(entry.get(key) is None for entry in annotations))
            },
        )

    @classmethod
    def from_dataset(cls, dataset: CocoDataset) -> GroundTruth:
        """From a data set that was read with `purpose="evaluate"`.

        Raises ValueError for one that was mended for training, and UserError where a finding refuses it.
        """
        if dataset.purpose != "evaluate":
            raise ValueError(
                f'ground truth is scored as it stands: read it with purpose="evaluate", not {dataset.purpose}'
            )
        dataset.raise_if_refused()
        order = np.argsort(dataset.image_ids, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        ids = np.array([category.id for category in dataset.categories], np.int64)
        counted = {action: _counted(dataset.findings, action) for action in ("accept", "mend")}
        return cls(
            image_ids=np.asarray(dataset.image_ids)[order],
            image_sizes=np.asarray(dataset.image_sizes)[order, ::-1],
            categories=dataset.categories,
            annotation_image=np.repeat(place, np.diff(dataset.annotation_starts)),
            annotation_category=np.searchsorted(ids, dataset.category_ids).astype(np.int64),
            boxes=np.asarray(dataset.boxes),
            areas=np.asarray(dataset.areas),
            crowd=np.asarray(dataset.crowd),
            segmentations=lambda: [
                annotation.segmentation for index in range(len(dataset)) for annotation in dataset.annotations(index)
            ],
            annotation_ids=np.asarray(dataset.annotation_ids),
            source=str(dataset.path),
            filled_in={code: count for code, count in counted["accept"].items() if code in _FILLED_IN},
            mendable=counted["mend"],
        )

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """G run-length codes as pycocotools.mask takes them, at the size of their image (made once, when first asked).

        Raises UserError that names the first annotation without a mask, or with one that is none.
        """
        shapes = self.segmentations()
        without = [row for row, shape in enumerate(shapes) if not shape]
        if without:
            raise UserError(
                f"{len(without)} of {len(self)} annotations have no mask, the first is annotation "
                f"{self.annotation_ids[without[0]]}",
                self.source,
                "evaluate boxes (bbox), or give annotations with a segmentation each",
            )
        masks = [self._mask(row, shape) for row, shape in enumerate(shapes)]
        coded = [row for row, shape in enumerate(shapes) if isinstance(shape, dict)]
        if (unfilled := first_unfilled([masks[row] for row in coded])) is not None:
            raise UserError(
                f"the run-length code of annotation {self.annotation_ids[coded[unfilled]]} does not fill its size",
                self.source,
            )
        return masks

    def _mask(self, row: int, shape: Any) -> dict[str, Any]:
        from pycocotools import mask as mask_tools

        if isinstance(shape, dict) and not isinstance(shape["counts"], list):
            return shape
        height, width = self.image_sizes[self.annotation_image[row]].tolist()
        if isinstance(shape, list) and not (height > 0 and width > 0):
            raise UserError(
                f"image {self.image_ids[self.annotation_image[row]]} has no width and height, without which polygons "
                "are no masks",
                self.source,
                "add them, or name the folder of images where this file is read",
            )
        if isinstance(shape, list) and any(max(map(abs, part), default=0) > LARGEST_PICTURE for part in shape):
            # pycocotools walks along the outline pixel by pixel: this would take all the memory that there is.
            raise UserError(
                f"the polygons of annotation {self.annotation_ids[row]} reach beyond {LARGEST_PICTURE:,} px",
                self.source,
            )
        try:
            code = mask_tools.frPyObjects(shape, height, width)
            return mask_tools.merge(code) if isinstance(code, list) else code
        except Exception as error:  # pycocotools raises IndexError, TypeError, ValueError and bare Exception alike
            raise UserError(
                f"the segmentation of annotation {self.annotation_ids[row]} is no mask ({error})", self.source
            ) from error


# Findings of `read_annotations` about what evaluation fills in.
_FILLED_IN = ("iscrowd-missing", "area-missing")


def _counted(findings: Iterable[Finding], action: str) -> dict[str, int]:
    return {finding.code: finding.count for finding in findings if finding.action == action}


def read_ground_truth(dataset: GroundTruth | CocoDataset | dict[str, Any] | str | os.PathLike[str]) -> GroundTruth:
    """Ground truth from a `GroundTruth` (as it is), a `CocoDataset`, a path, or an annotation file's content.

    Raises UserError for a file that cannot be read or that a finding refuses.
    """
    if isinstance(dataset, GroundTruth):
        return dataset
    if isinstance(dataset, dict):
        return GroundTruth.from_coco(dataset)
    if isinstance(dataset, str | os.PathLike):
        return GroundTruth.from_dataset(read_annotations(dataset, purpose="evaluate"))
    return GroundTruth.from_dataset(dataset)
