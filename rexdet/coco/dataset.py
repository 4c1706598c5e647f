"""A data set in COCO's form as the rest of the project works with it: images and their annotations, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco import segmentation
from rexdet.coco.findings import Finding
from rexdet.coco.mend import View
from rexdet.coco.schema import Category, Table
from rexdet.errors import UserError


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image of a data set.

    file_name: as the annotation file writes it. path: the file, None where it is missing or no folder was given.
    path_below: the same below the picture root, with "/"; empty where there is no file.
    width, height: px, of the picture as its boxes see it; 0 where neither the file nor the image says.
    """

    id: int
    file_name: str
    path: Path | None
    width: int
    height: int
    path_below: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object of an image.

    bbox: x, y, width, height in px. area: px². iscrowd: 0 or 1.
    segmentation: a list of polygons (flat lists of x and y), or a run-length code {"size": [height, width],
    "counts": list or str}; None without a mask.
    """

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int
    segmentation: segmentation.Segmentation


class CocoDataset(Sequence[ImageEntry]):
    """An annotation file beside its images: a sequence of `ImageEntry`, in file order.

    Everything is held in NumPy columns (memory-mapped from the cache for files of any size), so that worker processes
    share one copy. `read_annotations` makes it.
    """

    def __init__(
        self,
        path: Path,
        images_folder: Path | None,
        purpose: str,
        fingerprint: str,
        categories: tuple[Category, ...],
        findings: tuple[Finding, ...],
        table: Table,
        view: View,
        stored: tuple[Path, Path] | None = None,
    ) -> None:
        self.path = path
        """The annotation file."""
        self.images_folder = images_folder
        """The picture root; None where none was given."""
        self.purpose = purpose
        self.fingerprint = fingerprint
        """SHA-256 of the annotation file, hex."""
        self.categories = categories
        """Sorted by id."""
        self.findings = findings
        """Refusals first."""
        self._table = table
        self._view = view
        self._stored = stored

    def __len__(self) -> int:
        return len(self._table.image_ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.image(row) for row in range(*index.indices(len(self)))]
        return self.image(index)

    def __repr__(self) -> str:
        return (
            f"CocoDataset({str(self.path)!r}, images={len(self)}, annotations={self.annotation_count}, "
            f"classes={len(self.categories)}, purpose={self.purpose!r})"
        )

    def __reduce__(self) -> Any:
        # A worker that is started anew maps the same cache files instead of being sent a copy of them.
        if self._stored is None:
            return super().__reduce__()
        from rexdet.coco.annotations import reopen

        return reopen, (self.path, self.images_folder, self.purpose, self.fingerprint, self._stored)

    def raise_if_refused(self) -> None:
        """Raise UserError with the first refusal, and how many more there are; nothing happens without one."""
        refused = [finding for finding in self.findings if finding.action == "refuse"]
        if not refused:
            return
        command = f"tools/check_data.py --annotations {self.path}"
        if self.images_folder is not None:
            command += f" --images {self.images_folder}"
        more = f"and {len(refused) - 1} more: {command} lists them" if len(refused) > 1 else f"{command} tells more"
        raise UserError(refused[0].message, str(self.path), more)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names, sorted by category id."""
        return tuple(category.name for category in self.categories)

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """int64 (I,), in file order."""
        return self._table.image_ids

    @property
    def image_sizes(self) -> npt.NDArray[np.int64]:
        """int64 (I, 2): width and height in px, 0 where unknown."""
        return self._view.image_sizes

    @property
    def turned(self) -> npt.NDArray[np.bool_]:
        """bool (I,): EXIF turns the stored pixels to the declared size."""
        return self._view.turned

    @property
    def unreadable(self) -> npt.NDArray[np.bool_]:
        """bool (I,): the file's first bytes are no image's. Damage further inside shows when it is decoded."""
        return self._view.unreadable

    @property
    def annotation_count(self) -> int:
        """How many annotations the images have together, after mending where the purpose mends."""
        return len(self._view.rows)

    @property
    def annotation_starts(self) -> npt.NDArray[np.int64]:
        """int64 (I + 1,): image i has the annotations starts[i] to starts[i + 1] of the columns below."""
        return self._view.starts

    @property
    def annotation_ids(self) -> npt.NDArray[np.int64]:
        """int64 (K,), grouped by image."""
        return self._table.annotation_ids[self._view.rows]

    @property
    def category_ids(self) -> npt.NDArray[np.int64]:
        """int64 (K,), of the annotations, grouped by image."""
        return self._table.category_ids[self._view.rows]

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """float64 (K, 4): x, y, width, height in px, grouped by image."""
        return self._view.boxes

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """float64 (K,), px², grouped by image."""
        return self._view.areas

    @property
    def crowd(self) -> npt.NDArray[np.bool_]:
        """bool (K,), grouped by image."""
        return self._table.crowd[self._view.rows]

    @property
    def mask_count(self) -> int:
        """How many annotations have a mask."""
        return int(self._has_mask().sum())

    @property
    def run_length_rows(self) -> npt.NDArray[np.int64]:
        """int64: which of the K annotations have a run-length code as mask."""
        forms = self._table.forms[self._view.rows]
        return np.flatnonzero((forms == segmentation.RUNS) | (forms == segmentation.RUN_STRING))

    def _has_mask(self) -> npt.NDArray[np.bool_]:
        forms = self._table.forms[self._view.rows]
        polygons = np.isin(forms, (segmentation.POLYGONS, segmentation.FLAT, segmentation.PAIRS))
        return np.where(polygons, self._table.whole_polygons[self._view.rows] > 0, forms != segmentation.NONE)

    def image(self, index: int) -> ImageEntry:
        """The image at `index`. Raises IndexError beyond the end."""
        row = self._row(index)
        below = self._view.paths[row].decode("utf-8", "surrogateescape")
        width, height = self._view.image_sizes[row].tolist()
        return ImageEntry(
            id=int(self._table.image_ids[row]),
            file_name=self._table.names[row].decode("utf-8", "surrogatepass"),
            path=self.images_folder / below if below and self.images_folder is not None else None,
            width=width,
            height=height,
            path_below=below,
        )

    def annotations(self, index: int, *, masks: bool = True) -> list[Annotation]:
        """The annotations of the image at `index`; masks=False leaves their segmentations undecoded (None)."""
        row = self._row(index)
        start, end = self._view.starts[row : row + 2].tolist()
        rows = self._view.rows[start:end]
        table = self._table
        return [
            Annotation(number, category, (box[0], box[1], box[2], box[3]), area, int(crowd), mask)
            for number, category, box, area, crowd, mask in zip(
                table.annotation_ids[rows].tolist(),
                table.category_ids[rows].tolist(),
                self._view.boxes[start:end].tolist(),
                self._view.areas[start:end].tolist(),
                table.crowd[rows].tolist(),
                [self._mask(int(number)) if masks else None for number in rows],
                strict=True,
            )
        ]

    def _row(self, index: int) -> int:
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        return row

    def _mask(self, row: int) -> segmentation.Segmentation:
        try:
            return self._table.mask(row, drop_short=self.purpose != "evaluate")
        except ValueError as error:
            place = self._stored[0] if self._stored else self.path
            raise UserError("the cached masks are broken", str(place), "delete this folder") from error

    def raise_if_masks_missing(self) -> None:
        """Raise UserError unless every annotation that is trained on has a mask. For work on masks, not on boxes."""
        table, rows = self._table, self._view.rows
        missing = np.flatnonzero(~self._has_mask() & ~table.crowd[rows])
        if len(missing):
            first = int(table.annotation_ids[rows[missing[0]]])
            raise UserError(
                f"{len(missing)} of {len(rows)} annotations have no mask (first: annotation {first})",
                str(self.path),
                "train a detector of boxes, or add segmentations",
            )

    def to_coco(self) -> dict[str, Any]:
        """The data set as a plain dict in COCO's form: what `image` and `annotations` give, nothing else."""
        images, annotations = [], []
        for index in range(len(self)):
            image = self.image(index)
            images.append({"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height})
            annotations += [
                {
                    "id": item.id,
                    "image_id": image.id,
                    "category_id": item.category_id,
                    "bbox": list(item.bbox),
                    "area": item.area,
                    "iscrowd": item.iscrowd,
                    "segmentation": item.segmentation if item.segmentation is not None else [],
                }
                for item in self.annotations(index)
            ]
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        return {"images": images, "annotations": annotations, "categories": categories}
