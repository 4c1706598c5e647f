"""An annotation file in columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rexdet.coco import segmentation
from rexdet.coco.columns import Texts

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Category:
    """A class: its id in the annotation file and its name."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """An annotation file in columns: I images in file order, N annotations grouped by image, in file order within one.

    Entries that cannot be put in a row (an annotation of an unknown image, say) are left out; a finding refuses them.
    """

    image_ids: Ints  # (I,)
    image_sizes: Ints  # (I, 2) width, height; 0 where the file does not say
    name_data: npt.NDArray[np.uint8]  # file names in UTF-8, one after the other
    name_offsets: Ints  # (I + 1,)
    annotation_ids: Ints  # (N,)
    image_rows: npt.NDArray[np.int32]  # (N,) row of the annotation's image
    category_ids: Ints  # (N,)
    boxes: npt.NDArray[np.float64]  # (N, 4) x, y, width, height in px
    areas: npt.NDArray[np.float64]  # (N,) px²; NaN where the file has none
    crowd: Bools  # (N,)
    forms: npt.NDArray[np.uint8]  # (N,) one of segmentation's forms
    mask_sizes: npt.NDArray[np.int32]  # (N, 2) height, width of run-length codes; 0 elsewhere
    extents: npt.NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 of the polygons; NaN without, or not measured
    whole_polygons: npt.NDArray[np.int32]  # (N,) polygons
    short_polygons: npt.NDArray[np.int32]  # (N,) polygons that are none
    mask_data: npt.NDArray[np.uint8]  # segmentations as JSON, one after the other
    mask_offsets: Ints  # (N + 1,)

    @property
    def names(self) -> Texts:
        """The images' file names as the file writes them, UTF-8."""
        return Texts(self.name_data, self.name_offsets)

    @property
    def masks(self) -> Texts:
        """The annotations' segmentations as JSON text; empty where there is none."""
        return Texts(self.mask_data, self.mask_offsets)

    def mask(self, row: int, *, drop_short: bool) -> segmentation.Segmentation:
        """The segmentation of the annotation in `row`; drop_short as in `segmentation.decode`.

        Raises ValueError where the text is no JSON: the cache that keeps it is damaged.
        """
        form = int(self.forms[row])
        if form == segmentation.NONE:
            return None
        return segmentation.decode(orjson.loads(self.masks[row]), form, drop_short=drop_short)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
