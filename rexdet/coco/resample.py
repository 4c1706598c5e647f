"""AP of many resamples of the images from one matching: images drawn again count again.

Matching looks at one image at a time, so a resample changes no match: it only changes how often each image counts. An
image that is drawn twice stands for two images: its objects and its detections count twice. What is left to do for a
resample is the walk down the scores, which is done for many resamples at once, one column each.

The numbers are those of `evaluate` on an annotation file with the drawn images copied, copies next to each other. Where
one image holds equal scores in one class, all copies of the first detection stand before those of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.accumulate import RECALL_THRESHOLDS
from rexdet.coco.matched import Matched
from rexdet.coco.matching import AREA_RANGES, IOU_THRESHOLDS

# Elements of one array of weights: bounds the memory, and keeps the arrays near the processor.
_ELEMENTS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class _Threshold:
    """What matters at one IoU threshold: the E detections that took an annotation, by falling score.

    place: (E,) row among the group's detections. right: (E,); counted: (E,), inside the area range itself.
    """

    place: NDArray[np.intp]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Group:
    """The n detections of one class (or image) by falling score, and the annotations that count for it.

    image: (n,) rows of images. counted: (n,), inside the area range. thresholds: T. positives: (P,) rows of images.
    """

    image: NDArray[np.int64]
    counted: NDArray[np.bool_]
    thresholds: tuple[_Threshold, ...]
    positives: NDArray[np.int64]


class Resampler:
    """AP of any number of resamples of the images of one `Matched`, in one area range."""

    def __init__(self, matched: Matched, area: str = "all") -> None:
        """area: a key of AREA_RANGES."""
        truth = matched.truth
        self.images = len(truth.image_ids)
        self._groups = _groups(
            matched,
            matched.grouped.by_class,
            _bounds(matched.category, len(truth.categories)),
            truth.annotation_category,
            area,
        )

    def average_precision(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """AP of each resample, threshold and class.

        weights: whole numbers (I, R), how often each of the images counts in each of R resamples.

        Returns float64 (R, T, K), 0 to 1; NaN where no annotation of the class is drawn.
        """
        counts = np.ascontiguousarray(weights, np.int32)
        values = np.full((counts.shape[1], len(IOU_THRESHOLDS), len(self._groups)), np.nan)
        for row, group in enumerate(self._groups):
            size = max(1, _ELEMENTS_AT_ONCE // max(1, len(group.image)))
            for begin in range(0, counts.shape[1], size):
                part = slice(begin, begin + size)
                values[part, :, row] = _average_precision(group, counts[:, part])
        return values


def image_average_precision(matched: Matched) -> NDArray[np.float64]:
    """AP of every image alone, its classes ranked together; float64 (I,), 0 to 1, NaN for an image without objects.

    The mean over the ten IoU thresholds. Detections of classes that the image does not show count as wrong.
    """
    order = np.argsort(-matched.scores, kind="stable")
    order = order[np.argsort(matched.image[order], kind="stable")]
    truth = matched.truth
    bounds = _bounds(np.sort(matched.image), len(truth.image_ids))
    groups = _groups(matched, order, bounds, truth.annotation_image, "all")
    ones = np.ones((len(groups), 1), np.int32)
    return np.array([_average_precision(group, ones).mean() for group in groups])


def draw_images(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is drawn, int64 (images, resamples): as many draws with replacement as there are images."""
    random = np.random.default_rng(seed)
    weights = np.zeros((images, resamples), np.int64)
    for column in range(resamples if images else 0):
        weights[:, column] = np.bincount(random.integers(0, images, images), minlength=images)
    return weights


def _groups(
    matched: Matched,
    order: NDArray[np.intp],
    first: NDArray[np.intp],
    annotation_group: NDArray[np.int64],
    area: str,
) -> list[_Group]:
    """order: (D,) places sorted by group, then by falling score. first: where each group begins, and the last ends."""
    column = list(AREA_RANGES).index(area)
    matches = matched.matches
    among = np.full(len(order), -1, np.intp)
    among[matches.position] = np.arange(len(matches.position))
    among = among[order]
    image, counted = matched.image[order], ~matched.outside[order, column]
    positives = np.flatnonzero(~matched.ignored[:, column])
    positives = positives[np.argsort(annotation_group[positives], kind="stable")]
    first_positive = _bounds(annotation_group[positives], len(first) - 1)
    groups = []
    for row in range(len(first) - 1):
        part = slice(first[row], first[row + 1])
        place = np.flatnonzero(among[part] >= 0)
        found = among[part][place]
        right, ignored = matches.right[found, column], matches.ignored[found, column]
        mine = positives[first_positive[row] : first_positive[row + 1]]
        groups.append(
            _Group(
                image[part],
                counted[part],
                _thresholds(place, right, ignored, counted[part]),
                matched.truth.annotation_image[mine],
            )
        )
    return groups


def _bounds(ascending: NDArray[np.int64], groups: int) -> NDArray[np.intp]:
    """Where each of the groups 0, 1, ... begins in (N,) ascending group numbers, and where the last ends."""
    return np.searchsorted(ascending, np.arange(groups + 1))


def _thresholds(
    place: NDArray[np.intp], right: NDArray[np.bool_], ignored: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> tuple[_Threshold, ...]:
    """place: (C,); right, ignored: (C, T); counted: (n,)."""
    parts = []
    for row in range(right.shape[1]):
        took = np.flatnonzero(right[:, row] | ignored[:, row])
        parts.append(_Threshold(place[took], right[took, row], counted[place[took]]))
    return tuple(parts)


def _average_precision(group: _Group, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """(I, R) weights -> (R, T). A detection counts as often as its image does."""
    resamples = weights.shape[1]
    positives = weights[group.positives].sum(axis=0, dtype=np.int64)
    values = np.zeros((resamples, len(group.thresholds)))
    if any(len(part.place) for part in group.thresholds):
        begins, reached = _recalls_reached(positives)
        drawn = weights[group.image]
        until = np.cumsum(drawn * group.counted[:, None], axis=0, dtype=np.int32)
        for row, part in enumerate(group.thresholds):
            values[:, row] = _area_below(part, drawn, until, begins, reached)
    values[positives == 0] = np.nan
    return values


def _recalls_reached(positives: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of R resamples: how many of the 101 recalls n right ones reach, for n from 0 to its positives.

    Returns where each resample begins, (R,), and the numbers of all, one resample behind the other.
    """
    sizes = positives + 1
    begins = np.cumsum(sizes) - sizes
    right = np.arange(int(sizes.sum())) - np.repeat(begins, sizes)
    # The same division as in the evaluation: its last digit decides whether a recall is reached.
    recall = right / np.repeat(np.maximum(positives, 1), sizes)
    return begins, np.searchsorted(RECALL_THRESHOLDS, recall, side="right")


def _area_below(
    part: _Threshold,
    drawn: NDArray[np.int32],
    until: NDArray[np.int32],
    begins: NDArray[np.int64],
    reached: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The mean of the best precision at the 101 recalls, (R,). drawn, until: (n, R)."""
    if not part.right.any():
        return np.zeros(drawn.shape[1])
    weights = drawn[part.place]
    right = np.cumsum(weights * part.right[:, None], axis=0, dtype=np.int32)[part.right]
    # Of the detections inside the range, those that took an annotation are not wrong; mostly these are the right ones.
    spared = right
    if not (part.right == part.counted).all():
        spared = np.cumsum(weights * part.counted[:, None], axis=0, dtype=np.int32)[part.right]
    wrong = until[part.place[part.right]] - spared
    precision = right / (wrong + right + np.spacing(1))
    # Several copies of a right detection are one point: the precision after the last of them is the best of theirs.
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    steps = np.diff(reached[right + begins], axis=0, prepend=0)
    return np.asarray((best * steps).sum(axis=0) / len(RECALL_THRESHOLDS))


def mean_over_classes(values: NDArray[np.float64], thresholds: Sequence[int] | None = None) -> NDArray[np.float64]:
    """(R, T, K) APs -> (R,) means over thresholds and over the classes that have one; NaN where none has.

    thresholds: rows of IOU_THRESHOLDS; None: all.
    """
    chosen = values if thresholds is None else values[:, list(thresholds)]
    per_class = chosen.mean(axis=1)
    known = ~np.isnan(per_class)
    counts = known.sum(axis=1)
    sums = np.where(known, per_class, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
