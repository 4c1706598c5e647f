"""What an annotation table means beside its image files: sizes, mended boxes and areas, and the findings about both.

Decision by decision, docs/data.md has the rules. Mending serves training and cleaned copies; for evaluation the ground
truth stands as it is written (a missing area or iscrowd alone is filled in), and the findings say what a mend would
touch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco import segmentation
from rexdet.coco.columns import Texts
from rexdet.coco.findings import SHOWN, Finding, Findings
from rexdet.coco.picture_facts import look_at_pictures
from rexdet.coco.schema import Category, Table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_SIDE = 1e-3
"""px; a box with a shorter side than this has no size, and one that passes the border by less does not pass it."""

SAME_BOX_IOU = 0.5
"""Intersection over union from which a box and the outline of its polygons are taken for the same thing."""


@dataclass(frozen=True, slots=True)
class View:
    """A table as it is worked with: I images, K annotations that are kept, those of image i at starts[i]:starts[i + 1].

    rows: int32 (K,), the annotations' rows in the table.
    starts: int64 (I + 1,).
    boxes: float64 (K, 4), x, y, width, height. areas: float64 (K,), px².
    image_sizes: int64 (I, 2), width and height; 0 where neither file nor image says.
    turned: bool (I,), the pixels are to be turned by EXIF so that they have this size.
    unreadable: bool (I,), no image could be recognised in the file.
    path_data, path_offsets: paths below the picture root, packed as in `Texts`; empty without a root.
    """

    rows: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    boxes: Floats
    areas: Floats
    image_sizes: npt.NDArray[np.int64]
    turned: Bools
    unreadable: Bools
    path_data: npt.NDArray[np.uint8]
    path_offsets: npt.NDArray[np.int64]

    @property
    def paths(self) -> Texts:
        """The images' files below the picture root, UTF-8; empty where there is none."""
        return Texts(self.path_data, self.path_offsets)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def build_view(
    table: Table, categories: tuple[Category, ...], root: Path | None, purpose: str
) -> tuple[View, tuple[Finding, ...], tuple[str, ...]]:
    """Make the view of `table` for `purpose` ("train", "evaluate" or "check").

    Returns it with its findings and with the folders below `root` that hold the images. Raises UserError where `root`
    is no readable folder.
    """
    findings = Findings()
    pictures = look_at_pictures(table, root, purpose, findings)
    _check_masks(table, pictures.sizes, findings)
    _check_box_meaning(table, pictures.sizes, findings)
    boxes, keep = _mend_boxes(table, pictures.sizes, findings)
    areas = _mend_areas(table, boxes, findings)
    if purpose == "evaluate":
        keep = np.ones(len(keep), bool)
        boxes = table.boxes
        areas = np.where(np.isnan(table.areas), boxes[:, 2] * boxes[:, 3], table.areas)
    else:
        _check_trainable(table, keep, pictures.unreadable, findings)
    _note_what_is_unused(table, categories, keep, findings)
    rows = np.flatnonzero(keep).astype(np.int32)
    paths = Texts.pack([path.encode("utf-8", "surrogateescape") for path in pictures.located.paths])
    view = View(
        rows=rows,
        starts=np.searchsorted(table.image_rows[rows], np.arange(len(table.image_ids) + 1)).astype(np.int64),
        boxes=boxes[rows],
        areas=areas[rows],
        image_sizes=pictures.sizes,
        turned=pictures.turned,
        unreadable=pictures.unreadable,
        path_data=paths.data,
        path_offsets=paths.offsets,
    )
    return view, findings.as_tuple(), pictures.located.folders


def _check_masks(table: Table, image_sizes: npt.NDArray[np.int64], findings: Findings) -> None:
    sizes = image_sizes[table.image_rows]
    coded = (table.forms == segmentation.RUNS) | (table.forms == segmentation.RUN_STRING)
    differs = coded & (sizes > 0).all(axis=1) & (table.mask_sizes != sizes[:, ::-1]).any(axis=1)
    rows = np.flatnonzero(differs)
    findings.add(
        "refuse",
        "mask-size-differs",
        "run-length masks of another size than their image",
        table.annotation_ids[rows],
        shown=[
            f"annotation {table.annotation_ids[row]} (mask {table.mask_sizes[row, 1]}x{table.mask_sizes[row, 0]}, "
            f"image {sizes[row, 0]}x{sizes[row, 1]})"
            for row in rows[:SHOWN]
        ],
    )
    findings.add(
        "mend",
        "polygon-too-short",
        "annotations with polygons of fewer than three points or an odd count of numbers, left out in training",
        table.annotation_ids[table.short_polygons > 0],
    )
    maskless = (table.forms == segmentation.NONE) & ~table.crowd
    findings.add(
        "accept",
        "segmentation-missing",
        "annotations without a mask, enough for boxes and not for masks",
        table.annotation_ids[maskless],
    )


def _check_box_meaning(table: Table, image_sizes: npt.NDArray[np.int64], findings: Findings) -> None:
    """Find boxes that mean something else than [x, y, width, height], by their polygons and by their areas."""
    outlined = ~np.isnan(table.extents[:, 0]) & ~table.crowd
    sizes = image_sizes[table.image_rows]
    differs = outlined & ~_same_box(table.boxes, table.extents.astype(np.float64), sizes)
    most = int(differs.sum()) * 2 > int(outlined.sum())
    findings.add(
        "refuse" if most else "accept",
        "box-polygons-disagree" if most else "box-polygons-differ",
        f"annotations whose box disagrees with its polygons (of {int(outlined.sum())} compared)",
        table.annotation_ids[differs],
    )
    x, y, width, height = table.boxes.T
    as_corners = (width - x) * (height - y)
    sized = ~np.isnan(table.areas) & (table.areas > 0) & (width * height > 0)
    corners = (
        sized
        & (width > x)
        & (height > y)
        & (np.abs(table.areas - as_corners) <= 1e-3 * as_corners)
        & (np.abs(table.areas - width * height) > 1e-2 * width * height)
    )
    if int(corners.sum()) * 2 > int(sized.sum()):
        findings.add(
            "refuse",
            "box-corners",
            "annotations whose box has the area of [x1, y1, x2, y2], where [x, y, width, height] belongs",
            table.annotation_ids[corners],
        )


def _same_box(boxes: Floats, extents: Floats, sizes: npt.NDArray[np.int64]) -> Bools:
    """bool (N,): the box and the outline [x0, y0, x1, y1] of its polygons agree, both cut to the picture."""
    limit = np.where(sizes > 0, sizes, np.inf)
    box_low = np.clip(boxes[:, :2], 0, limit)
    box_high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limit)
    low, high = np.clip(extents[:, :2], 0, limit), np.clip(extents[:, 2:], 0, limit)
    inner = np.clip(np.minimum(box_high, high) - np.maximum(box_low, low), 0, None).prod(axis=1)
    outer = (box_high - box_low).prod(axis=1) + (high - low).prod(axis=1) - inner
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = inner / outer >= SAME_BOX_IOU
    close = (np.abs(box_low - low) <= 2).all(axis=1) & (np.abs(box_high - high) <= 2).all(axis=1)
    return np.asarray(alike | close)


def _mend_boxes(table: Table, image_sizes: npt.NDArray[np.int64], findings: Findings) -> tuple[Floats, Bools]:
    """Boxes cut to the picture, float64 (N, 4), and which of them have any size left, bool (N,)."""
    sizes = image_sizes[table.image_rows].astype(np.float64)
    limit = np.where(sizes > 0, sizes, np.inf)
    low, high = table.boxes[:, :2], table.boxes[:, :2] + table.boxes[:, 2:]
    over = np.maximum(np.maximum(-low, high - limit), 0).max(axis=1, initial=0)
    empty = (table.boxes[:, 2:] < SMALLEST_SIDE).any(axis=1)
    boxes = table.boxes.copy()
    cut = np.flatnonzero(over > 0)
    new_low = np.clip(low[cut], 0, limit[cut])
    boxes[cut, :2], boxes[cut, 2:] = new_low, np.clip(high[cut], 0, limit[cut]) - new_low
    outside = ~empty & (boxes[:, 2:] < SMALLEST_SIDE).any(axis=1)
    clipped = (over > SMALLEST_SIDE) & ~empty & ~outside
    where = _namer(table)
    for code, which, clause in (
        ("box-empty", empty, "annotations with a box without width or height, dropped in training"),
        ("box-outside", outside, "annotations with a box outside the picture, dropped in training"),
        ("box-past-border", clipped, "annotations with a box past the picture's border, clipped in training"),
    ):
        rows = np.flatnonzero(which)
        findings.add(
            "mend",
            code,
            clause,
            table.annotation_ids[rows],
            shown=[where(row) for row in rows[:SHOWN]],
        )
    return boxes, ~(empty | outside)


def _namer(table: Table) -> Callable[[int], str]:
    names = table.names

    def where(row: int) -> str:
        name = names[int(table.image_rows[row])].decode("utf-8", "replace")
        return f"{table.annotation_ids[row]} on {name}"

    return where


def _mend_areas(table: Table, boxes: Floats, findings: Findings) -> Floats:
    """Areas that fit their (mended) boxes, float64 (N,)."""
    written = table.areas
    # A mask covers whole pixels, so that it may reach one pixel further than its box each way.
    room = (table.boxes[:, 2] + 1) * (table.boxes[:, 3] + 1)
    too_large = ~np.isnan(written) & (written > 1.01 * room)
    negative = written < 0
    findings.add(
        "mend",
        "area-larger-than-box",
        "annotations with an area larger than their box, computed anew in training (small, medium and large are "
        "told by it)",
        table.annotation_ids[too_large],
    )
    box_areas = boxes[:, 2] * boxes[:, 3]
    areas = np.where(np.isnan(written), box_areas, written)
    for row in np.flatnonzero(too_large | negative).tolist():
        by_mask = segmentation.mask_area(table.mask(row, drop_short=True)) if table.whole_polygons[row] else np.inf
        areas[row] = min(by_mask, box_areas[row])
    cut = (boxes != table.boxes).any(axis=1)
    areas[cut] = np.minimum(areas[cut], box_areas[cut])
    return areas


def _check_trainable(table: Table, keep: Bools, unreadable: Bools, findings: Findings) -> None:
    on_readable = ~unreadable[table.image_rows]
    if (keep & ~table.crowd & on_readable).any():
        return
    if not len(keep):
        reason = "it has none at all"
    elif table.crowd.all():
        reason = "every annotation is a crowd"
    elif (keep & ~table.crowd).any():
        reason = "the images of all annotations are unreadable"
    else:
        reason = "no box with any size is left beside crowds"
    findings.add("refuse", "nothing-to-train-on", f"no annotation can be trained on, as {reason}", ["annotations"])


def _note_what_is_unused(table: Table, categories: tuple[Category, ...], keep: Bools, findings: Findings) -> None:
    used = set(np.unique(table.category_ids).tolist())
    findings.add(
        "accept",
        "category-unused",
        "categories that no annotation uses, kept as classes without ground truth",
        [f"{category.id} {category.name}" for category in categories if category.id not in used],
    )
    empty = np.bincount(table.image_rows[keep], minlength=len(table.image_ids)) == 0
    findings.add(
        "accept",
        "image-empty",
        "images without annotations, kept as pictures without objects, by id",
        table.image_ids[empty],
    )
