"""Masks as annotation files write them: polygons in three spellings and two kinds of run-length code.

Run-length codes follow COCO's format: runs of 0 and 1 in turn, column by column, the first run counting zeros; the
string form packs the runs in characters of six bits (written from the format's description in the COCO API's
documentation, "maskApi").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco.columns import FARTHEST, LARGEST_PICTURE

NONE, POLYGONS, FLAT, PAIRS, RUNS, RUN_STRING, INVALID = range(7)
"""Forms: no mask; a list of polygons; one polygon as a flat list; one polygon as [x, y] pairs; a run-length code as
a list of counts; the same as a string; anything else."""

Segmentation = list[list[float]] | dict[str, Any] | None
"""A mask ready for use: polygons as flat lists of x and y, or a run-length code {"size": [h, w], "counts": ...}."""


def form_of(value: Any) -> int:
    """The form of one segmentation, told by its outside: numbers deep inside are looked at by `polygon_summary`."""
    kind = type(value)
    if kind is list:
        if not value:
            return NONE
        first = value[0]
        if type(first) is list:
            if len(first) != 2 or len(value) < 3:
                return POLYGONS
            return PAIRS if all(type(point) is list and len(point) == 2 for point in value) else POLYGONS
        return FLAT if type(first) in (int, float) else INVALID
    if value is None:
        return NONE
    if kind is dict:
        size, counts = value.get("size"), value.get("counts")
        if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
            return INVALID
        if isinstance(counts, str):
            return RUN_STRING if counts and counts.isascii() else INVALID
        if isinstance(counts, list) and counts and all(type(run) is int and run >= 0 for run in counts):
            return RUNS
    return INVALID


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_PICTURE


def as_polygons(value: Any, form: int) -> list[list[Any]]:
    """The polygons of a segmentation of form POLYGONS, FLAT or PAIRS, each as a flat list."""
    if form == POLYGONS:
        return list(value)
    if form == FLAT:
        return [value]
    return [list(itertools.chain.from_iterable(value))]


def is_whole_polygon(polygon: Sequence[float]) -> bool:
    """Whether a flat list is a polygon: three points or more, each with x and y."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def decode(value: Any, form: int, *, drop_short: bool) -> Segmentation:
    """A parsed segmentation made ready for use; None where there is no mask.

    drop_short: leave out polygons that are none (under six numbers, or an odd count), as training needs it.
    """
    if form in (NONE, INVALID):
        return None
    if form in (RUNS, RUN_STRING):
        return {"size": list(value["size"]), "counts": value["counts"]}
    polygons = [[float(number) for number in polygon] for polygon in as_polygons(value, form)]
    if drop_short:
        polygons = [polygon for polygon in polygons if is_whole_polygon(polygon)]
    return polygons or None


class PolygonSummary:
    """Facts about the polygons of many annotations, in NumPy columns of one row an annotation.

    whole: int32 (N,), how many polygons it has. short: int32 (N,), how many of its lists are none (under six numbers,
        or an odd count).
    extents: float32 (N, 4), smallest x, smallest y, largest x, largest y of the whole polygons; NaN without any, and
        where they were not looked at.
    invalid: bool (N,), numbers that are no numbers, not finite or beyond FARTHEST, or lists nested otherwise.
    """

    def __init__(self, rows: int) -> None:
        self.whole: npt.NDArray[np.int32] = np.zeros(rows, np.int32)
        self.short: npt.NDArray[np.int32] = np.zeros(rows, np.int32)
        self.extents: npt.NDArray[np.float32] = np.full((rows, 4), np.nan, np.float32)
        self.invalid: npt.NDArray[np.bool_] = np.zeros(rows, bool)


def polygon_summary(values: Sequence[Any], forms: npt.NDArray[np.uint8], *, step: int = 1) -> PolygonSummary:
    """Look at the polygons of `values` (parsed segmentations, N of them) whose `forms` are POLYGONS, FLAT or PAIRS.

    step: look at the numbers of every so many of them only; for values that are known to hold numbers alone.
    """
    summary = PolygonSummary(len(values))
    rows = np.flatnonzero((forms == POLYGONS) | (forms == FLAT) | (forms == PAIRS)).tolist()
    try:
        _summarize(summary, rows, [as_polygons(values[row], int(forms[row])) for row in rows], step)
    except (TypeError, ValueError, OverflowError):
        # Something is no number: look at the annotations one by one to name the bad ones.
        summary = PolygonSummary(len(values))
        for row in rows:
            try:
                _summarize(summary, [row], [as_polygons(values[row], int(forms[row]))], 1)
            except (TypeError, ValueError, OverflowError):
                summary.invalid[row] = True
    return summary


def _summarize(summary: PolygonSummary, rows: list[int], polygons: list[list[list[Any]]], step: int) -> None:
    """Fill in `summary` for `rows`. Raises TypeError, ValueError or OverflowError where a number is none."""
    flat = list(itertools.chain.from_iterable(polygons))
    if set(map(type, flat)) - {list}:
        raise TypeError("a polygon is a list")
    lengths = np.fromiter(map(len, flat), np.int64, len(flat))
    owners = np.repeat(np.asarray(rows, np.int64), np.fromiter(map(len, polygons), np.int64, len(polygons)))
    whole = (lengths >= 6) & (lengths % 2 == 0)
    rows_after = len(summary.short)
    if step == 1:
        _measure(summary, flat, lengths, owners, whole)
    else:
        looked = np.flatnonzero(owners % step == 0)
        _measure(summary, [flat[index] for index in looked.tolist()], lengths[looked], owners[looked], whole[looked])
    summary.short += np.bincount(owners[~whole], minlength=rows_after).astype(np.int32)
    summary.whole += np.bincount(owners[whole], minlength=rows_after).astype(np.int32)


def _measure(
    summary: PolygonSummary,
    flat: list[list[Any]],
    lengths: npt.NDArray[np.int64],
    owners: npt.NDArray[np.int64],
    whole: npt.NDArray[np.bool_],
) -> None:
    """Fill in the extents of `flat`, the polygons of `owners`, of which `whole` ones count."""
    numbers = np.fromiter(itertools.chain.from_iterable(flat), np.float64, int(lengths.sum()))
    if not (np.abs(numbers) <= FARTHEST).all():
        raise ValueError("not finite, or no place near a picture")
    if not whole.any():
        return
    kept = numbers[np.repeat(whole, lengths)]
    owners, lengths = owners[whole], lengths[whole]
    x, y = kept[0::2], kept[1::2]
    starts = np.concatenate(([0], np.cumsum(lengths[:-1]))) // 2
    groups = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    targets = owners[groups]
    # The polygons of an annotation follow each other, so that their points are one run.
    runs = starts[groups]
    summary.extents[targets, 0] = np.minimum.reduceat(x, runs)
    summary.extents[targets, 1] = np.minimum.reduceat(y, runs)
    summary.extents[targets, 2] = np.maximum.reduceat(x, runs)
    summary.extents[targets, 3] = np.maximum.reduceat(y, runs)


def runs_of(counts: Sequence[int] | str | bytes) -> npt.NDArray[np.int64]:
    """The runs of a run-length code, from either of its forms. Raises ValueError for a broken string."""
    if not isinstance(counts, (str, bytes)):
        return np.asarray(counts, np.int64)
    text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the character {chr(character)!r} has no place in a run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            # From the fourth run on, each is written as the difference from the one before the last.
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the run-length code ends in the middle of a number")
    if min(runs, default=0) < 0:
        raise ValueError("the run-length code holds a negative run")
    return np.asarray(runs, np.int64)


def decode_runs(code: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """The mask of a run-length code, bool (H, W). Raises ValueError where its runs do not fill it exactly."""
    height, width = code["size"]
    runs = runs_of(code["counts"])
    if int(runs.sum()) != height * width:
        raise ValueError(f"the runs cover {int(runs.sum())} pixels, the size {height} x {width} has {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def mask_area(segmentation: Segmentation) -> float:
    """The area of a mask in px²: run-length codes exactly, polygons by the shoelace formula; NaN without a mask."""
    if segmentation is None:
        return math.nan
    if isinstance(segmentation, dict):
        return float(runs_of(segmentation["counts"])[1::2].sum())
    polygons = [np.asarray(polygon, np.float64) for polygon in segmentation if is_whole_polygon(polygon)]
    return sum(map(_polygon_area, polygons), 0.0) if polygons else math.nan


def _polygon_area(polygon: npt.NDArray[np.float64]) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
