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
from rexdet.coco.picture_files import AMBIGUOUS, BY_BASE_NAME, MISSING, Located, locate
from rexdet.coco.picture_headers import read_headers
from rexdet.coco.schema import Category, Table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_SIDE = 1e-3
"""px; a box with a shorter side than this has no size, and one that passes the border by less does not pass it."""

FIT = 2.0
"""px by which boxes may pass a border and still count as fitting the picture, when two sizes are to be told apart."""

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


@dataclass(slots=True)
class _Pictures:
    """What is known about the images' files while a view is made."""

    located: Located
    sizes: npt.NDArray[np.int64]
    turned: Bools
    unreadable: Bools


def build_view(
    table: Table, categories: tuple[Category, ...], root: Path | None, purpose: str
) -> tuple[View, tuple[Finding, ...], tuple[str, ...]]:
    """Make the view of `table` for `purpose` ("train", "evaluate" or "check").

    Returns it with its findings and with the folders below `root` that hold the images. Raises UserError where `root`
    is no readable folder.
    """
    findings = Findings()
    pictures = _look_at_pictures(table, root, purpose, findings)
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


def _look_at_pictures(table: Table, root: Path | None, purpose: str, findings: Findings) -> _Pictures:
    count = len(table.image_ids)
    sizes = table.image_sizes.copy()
    nothing = np.zeros(count, bool)
    if root is None:
        findings.add(
            "accept" if purpose == "evaluate" else "refuse",
            "image-size-unknown",
            "images without width or height, with no folder of images given to take them from, by id",
            table.image_ids[(sizes == 0).any(axis=1)],
        )
        return _Pictures(Located([""] * count, np.zeros(count, np.uint8), ()), sizes, nothing, nothing)
    names = [name.decode("utf-8", "surrogatepass") for name in table.names]
    located = locate(root, names)
    _file_findings(located, names, root, findings)
    facts = read_headers(root, located.paths).astype(np.int64)
    there = np.fromiter(map(bool, located.paths), bool, count)
    readable = facts[:, 0] > 0
    unreadable = there & ~readable
    findings.add(
        "skip",
        "image-unreadable",
        "files that cannot be read as images",
        _at(names, unreadable),
        int(unreadable.sum()),
    )
    turned = _settle_sizes(table, sizes, facts, readable, names, findings)
    return _Pictures(located, sizes, turned, unreadable)


def _at(names: list[str], which: Bools) -> list[str]:
    return [names[row] for row in np.flatnonzero(which)[:SHOWN]]


def _file_findings(located: Located, names: list[str], root: Path, findings: Findings) -> None:
    for how, action, code, clause in (
        (MISSING, "refuse", "image-missing", f"image files that are not in {root}"),
        (AMBIGUOUS, "refuse", "image-ambiguous", f"image files that fit several files in {root}"),
        (BY_BASE_NAME, "mend", "file-by-base-name", f"image files found in {root} only by their base name"),
    ):
        which = located.how == how
        findings.add(action, code, clause, _at(names, which), int(which.sum()))
    found = [path for path in located.paths if path]
    # The same name twice is the schema's finding; here different names lead to one file.
    if len(set(found)) < len(found) and len(set(names)) == len(names):
        owners: dict[str, str] = {}
        twice = [
            f"{name} and {owners[path]}"
            for name, path in zip(names, located.paths, strict=True)
            if path and owners.setdefault(path, name) != name
        ]
        findings.add("refuse", "image-file-twice", "entries that lead to another image's file", twice)


def _settle_sizes(
    table: Table,
    sizes: npt.NDArray[np.int64],
    facts: npt.NDArray[np.int64],
    readable: Bools,
    names: list[str],
    findings: Findings,
) -> Bools:
    """Fill in missing sizes in place, compare the others with the files, and say which pictures EXIF has to turn."""
    stored, upright = facts[:, :2], facts[:, 1::-1]
    quarter = facts[:, 2] >= 5
    fits_stored, fits_upright = _boxes_fit(table, stored), _boxes_fit(table, upright)
    missing = (sizes == 0).any(axis=1)
    filled = missing & readable
    fill_turned = filled & quarter & ~fits_stored & fits_upright
    findings.add(
        "accept",
        "image-size-missing",
        "images without width or height, taken from the files, by id",
        table.image_ids[filled],
    )
    compared = readable & ~missing
    sizes[filled] = stored[filled]
    sizes[fill_turned] = upright[fill_turned]
    same = compared & (sizes == stored).all(axis=1)
    explained = compared & ~same & quarter & (sizes == upright).all(axis=1)
    turned = (explained & fits_upright) | fill_turned
    differs = compared & ~same & ~turned

    def describe(which: Bools) -> list[str]:
        return [
            f"{names[row]} (declared {sizes[row, 0]}x{sizes[row, 1]}, file {facts[row, 0]}x{facts[row, 1]}"
            + (f", EXIF orientation {facts[row, 2]})" if facts[row, 2] > 1 else ")")
            for row in np.flatnonzero(which)[:SHOWN]
        ]

    contradiction = same & quarter & (stored[:, 0] != stored[:, 1]) & ~fits_stored & fits_upright
    for action, code, which, clause in (
        ("refuse", "image-size-differs", differs, "images of another size than the annotation file declares"),
        (
            "refuse",
            "exif-contradicts-boxes",
            contradiction,
            "images whose boxes fit only the picture as EXIF turns it, while the declared size is the unturned one",
        ),
        ("accept", "exif-turned", turned, "images turned by EXIF to the declared size"),
        (
            "accept",
            "exif-not-applied",
            compared & same & (facts[:, 2] > 1) & ~contradiction,
            "images whose EXIF orientation is not applied, as the declared size is that of the stored pixels",
        ),
    ):
        findings.add(action, code, clause, table.image_ids[which], shown=describe(which))
    return turned


def _boxes_fit(table: Table, sizes: npt.NDArray[np.int64]) -> Bools:
    """bool (I,): every box of the image lies inside a picture of this size, give or take `FIT` px."""
    reach = np.zeros((len(table.image_ids), 2))
    np.maximum.at(reach, table.image_rows, table.boxes[:, :2] + table.boxes[:, 2:])
    return np.asarray((reach <= sizes + FIT).all(axis=1))


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
