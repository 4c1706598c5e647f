"""Which detection found which annotation: COCO's greedy matching, all images, thresholds and area ranges at once.

The rules are pycocotools' (cocoeval.py, evaluateImg), to the last digit:

- Within one image and class, detections are taken by falling score (equal scores: in the order given), the first 100.
- Each takes the free annotation with the highest overlap at or above the threshold; equal overlaps: the last one.
- Annotations that are ignored (crowds, and those outside the area range) are only taken when no other one fits. A
  crowd can be taken many times; its overlap is intersection over the *detection's* area.
- A detection that took an ignored annotation counts neither as right nor as wrong; nor does one that took none and
  lies outside the area range itself.

pycocotools walks through images, classes, area ranges, thresholds, detections and annotations in Python. Here, only the
walk through the detections of one image and class is a loop, and it runs for all images and classes together: round r
handles the r-th detection of each. Detections that overlap no annotation by half never enter it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
MOST_DETECTIONS = 100

PairOverlap = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]]
"""(P,) rows of detections, (P,) rows of annotations -> (P,) overlaps."""

# Pairs whose overlap is computed in one go: bounds the memory where an image holds a hundred boxes of one class.
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class GroupedDetections:
    """Detections in the order of matching: by group, then by falling score; at most 100 a group.

    A group is one class in one image.

    rows: (D,) which detection. group: (D,) class row * number of images + image row, ascending. rank: (D,) 0 for the
    most certain of its group.
    by_class: (D,) the places of these, sorted by class, then by falling score, then by image, then by row.
    """

    rows: NDArray[np.intp]
    group: NDArray[np.int64]
    rank: NDArray[np.intp]
    by_class: NDArray[np.intp]


@dataclass(frozen=True)
class Matches:
    """What the detections of one `GroupedDetections` found; A area ranges, T thresholds.

    position: (C,) ascending, the detections that overlap some annotation of their image and class by half or more
    (their place among the grouped ones); all others match nothing.
    right: bool (C, A, T), took an annotation that counts. ignored: bool (C, A, T), took an ignored one.
    annotation: intp (C, T), the annotation that it took where all areas count, -1 for none.
    """

    position: NDArray[np.intp]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    annotation: NDArray[np.intp]


def outside_ranges(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) areas -> bool (N, A), true where an area lies outside a range (both ends belong to it)."""
    lowest, highest = np.array(list(AREA_RANGES.values())).T
    return (areas[:, None] < lowest) | (areas[:, None] > highest)


def group_detections(
    image: NDArray[np.int64], category: NDArray[np.int64], scores: NDArray[np.float64], images: int
) -> GroupedDetections:
    """Group (N,) detections of (N,) image rows and (N,) class rows, and keep the first 100 of each group."""
    by_image = _stable_order(image)
    by_score = by_image[np.argsort(-scores[by_image], kind="stable")]
    group = category * images + image
    rows = by_score[_stable_order(group[by_score])]
    rank = _rank_in_run(group[rows])
    kept = rank < MOST_DETECTIONS
    rows = rows[kept]
    place = np.full(len(scores), -1, np.intp)
    place[rows] = np.arange(len(rows))
    by_class = place[by_score[_stable_order(category[by_score])]]
    return GroupedDetections(rows, group[rows], rank[kept], by_class[by_class >= 0])


def match(
    grouped: GroupedDetections,
    annotation_group: NDArray[np.int64],
    annotation_crowd: NDArray[np.bool_],
    annotation_ignored: NDArray[np.bool_],
    overlap: PairOverlap,
) -> Matches:
    """Match detections with annotations of the same group.

    annotation_group: (G,); annotation_crowd: (G,); annotation_ignored: (G, A), true outside the area range and for
    crowds.
    """
    detection, annotation, iou = _overlapping_pairs(grouped, annotation_group, overlap)
    position, first_pair = np.unique(detection, return_index=True)
    pairs = len(detection)
    # Pairs in one total order (overlap, then order in the file): of several pairs the one with the highest number wins.
    # Pairs with annotations that count go before those with ignored ones, whatever the overlap.
    order = np.lexsort((annotation, iou))
    number = np.empty(pairs, np.int32 if pairs < 2**30 else np.int64)
    number[order] = np.arange(pairs)
    priority = number[:, None] + np.where(annotation_ignored[annotation], 0, pairs).astype(number.dtype)
    eligible = iou[:, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    areas, thresholds = len(AREA_RANGES), len(IOU_THRESHOLDS)
    taken = np.zeros((len(annotation_group), areas * thresholds), np.bool_)
    best = np.full((len(position), areas * thresholds), -1, number.dtype)

    pair_counts = np.diff(first_pair, append=pairs)
    rounds = _rank_in_run(grouped.group[position])
    by_round = np.argsort(rounds, kind="stable")
    for members in np.split(by_round, np.flatnonzero(np.diff(rounds[by_round])) + 1):
        if len(members) == 0:
            break
        counts = pair_counts[members]
        starts = np.cumsum(counts) - counts
        chosen = np.repeat(first_pair[members] - starts, counts) + np.arange(counts.sum())
        key = np.where(eligible[chosen][:, None, :], priority[chosen][:, :, None], -1).reshape(len(chosen), -1)
        key[taken[annotation[chosen]]] = -1
        winner = key if len(starts) == len(chosen) else np.maximum.reduceat(key, starts, axis=0)
        best[members] = winner
        flat = np.flatnonzero(winner >= 0)
        winning_annotation = annotation[order[winner.reshape(-1)[flat] % pairs]]
        keep = ~annotation_crowd[winning_annotation]
        taken[winning_annotation[keep], flat[keep] % taken.shape[1]] = True
    shape = (len(position), areas, thresholds)
    first_area = best[:, :thresholds]  # "all"
    return Matches(
        position,
        ((best >= pairs) & (best >= 0)).reshape(shape),
        ((best >= 0) & (best < pairs)).reshape(shape),
        np.where(first_area >= 0, annotation[order[first_area % pairs]], -1) if pairs else first_area.astype(np.intp),
    )


def _stable_order(values: NDArray[np.int64]) -> NDArray[np.intp]:
    """The stable sorting order of (N,) whole numbers from 0: 16 bits at a time, which NumPy sorts in linear time."""
    order = np.arange(len(values))
    if (values[1:] >= values[:-1]).all():
        return order
    for shift in range(0, int(values.max()).bit_length(), 16):
        digit = ((values >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _rank_in_run(values: NDArray[np.int64]) -> NDArray[np.intp]:
    """(N,) values, equal ones adjacent -> (N,) 0, 1, 2 ... within each run of equal values."""
    index = np.arange(len(values))
    starts = np.ones(len(values), np.bool_)
    starts[1:] = values[1:] != values[:-1]
    return index - np.maximum.accumulate(np.where(starts, index, 0))


def _overlapping_pairs(
    grouped: GroupedDetections, annotation_group: NDArray[np.int64], overlap: PairOverlap
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Pairs of one group that overlap by the lowest threshold or more: positions, annotations (rows), overlaps.

    Ascending by position, then by annotation row.
    """
    annotations = np.argsort(annotation_group, kind="stable")
    sorted_group = annotation_group[annotations]
    first = np.searchsorted(sorted_group, grouped.group, side="left")
    counts = np.searchsorted(sorted_group, grouped.group, side="right") - first
    pairs_before = np.cumsum(counts)
    parts = []
    begin = 0
    while begin < len(counts):
        done = pairs_before[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs_before, done + _PAIRS_AT_ONCE, side="right")))
        block = counts[begin:end]
        position = np.repeat(np.arange(begin, end), block)
        starts = np.cumsum(block) - block
        offset = np.arange(len(position)) - np.repeat(starts, block)
        annotation = annotations[first[position] + offset]
        iou = overlap(grouped.rows[position], annotation)
        enough = iou >= IOU_THRESHOLDS[0]
        parts.append((position[enough], annotation[enough], iou[enough]))
        begin = end
    if not parts:
        none = np.zeros(0, np.intp)
        return none, none, np.zeros(0)
    positions, rows, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return positions, rows, overlaps
