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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rexdet.coco.accumulate import RECALL_THRESHOLDS
from rexdet.coco.matched import Matched
from rexdet.coco.matching import AREA_RANGES, IOU_THRESHOLDS

# Elements of one array of weights: bounds the memory, and keeps the arrays near the processor.
_ELEMENTS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class _Threshold:
    """What matters at one IoU threshold: the E detections that took an annotation, by falling score.

    place: (E,) row among the takers of the class. right: (E,); counted: (E,), inside the area range itself.
    """

    place: NDArray[np.intp]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Class:
    """One class in one area range. Takers: its U detections that took an annotation at any threshold, by falling score.

    image: (U,) rows of images of the takers. seen: whole numbers (U, I), how many detections inside the range each
    image has behind the taker before and up to this one. thresholds: T. positives: (P,) rows of images of the
    annotations that count.
    """

    image: NDArray[np.int64]
    seen: sparse.csr_matrix
    thresholds: tuple[_Threshold, ...]
    positives: NDArray[np.int64]


class Resampler:
    """AP of any number of resamples of the images of one `Matched`, in one area range."""

    def __init__(self, matched: Matched, area: str = "all") -> None:
        """area: a key of AREA_RANGES."""
        self._classes = _classes(matched, list(AREA_RANGES).index(area))

    def average_precision(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """AP of each resample, threshold and class.

        weights: whole numbers (I, R), how often each of the images counts in each of R resamples.

        Returns float64 (R, T, K), 0 to 1; NaN where no annotation of the class is drawn.
        """
        counts = np.ascontiguousarray(weights, np.int32)
        values = np.full((counts.shape[1], len(IOU_THRESHOLDS), len(self._classes)), np.nan)
        for row, one in enumerate(self._classes):
            size = max(1, _ELEMENTS_AT_ONCE // max(1, len(one.image), len(one.positives)))
            for begin in range(0, counts.shape[1], size):
                part = slice(begin, begin + size)
                values[part, :, row] = _average_precision(one, counts[:, part])
        return values


def image_average_precision(matched: Matched) -> NDArray[np.float64]:
    """AP of every image alone, its classes ranked together; float64 (I,), 0 to 1, NaN for an image without objects.

    The mean over the ten IoU thresholds. Detections of classes that the image does not show count as wrong.
    """
    truth, matches = matched.truth, matched.matches
    order = np.argsort(-matched.scores, kind="stable")
    order = order[np.argsort(matched.image[order], kind="stable")]
    right = np.zeros((len(order), len(IOU_THRESHOLDS)), np.bool_)
    ignored = np.zeros_like(right)
    right[matches.position], ignored[matches.position] = matches.right[:, 0], matches.ignored[:, 0]
    wrong = (~(right | ignored | matched.outside[:, :1]))[order]
    right = right[order]
    first = _bounds(matched.image[order], len(truth.image_ids))
    positives = np.bincount(truth.annotation_image[~matched.ignored[:, 0]], minlength=len(truth.image_ids))
    values = np.full(len(positives), np.nan)
    for row in np.flatnonzero(positives).tolist():
        part = slice(first[row], first[row + 1])
        found = np.cumsum(right[part], axis=0)
        _, reached = _recalls_reached(positives[row : row + 1])
        seen = found + np.cumsum(wrong[part], axis=0)
        values[row] = _mean_best_precision(found, seen, np.zeros(1, np.int64), reached).mean()
    return values


def draw_images(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is drawn, int64 (images, resamples): as many draws with replacement as there are images."""
    random = np.random.default_rng(seed)
    weights = np.zeros((images, resamples), np.int64)
    for column in range(resamples if images else 0):
        weights[:, column] = np.bincount(random.integers(0, images, images), minlength=images)
    return weights


def _classes(matched: Matched, column: int) -> list[_Class]:
    """column: of the area range."""
    truth, matches, order = matched.truth, matched.matches, matched.grouped.by_class
    among = np.full(len(order), -1, np.intp)
    among[matches.position] = np.arange(len(matches.position))
    among = among[order]
    image, counted = matched.image[order], ~matched.outside[order, column]
    first = _bounds(matched.category, len(truth.categories))
    positives = np.flatnonzero(~matched.ignored[:, column])
    positives = positives[np.argsort(truth.annotation_category[positives], kind="stable")]
    first_positive = _bounds(truth.annotation_category[positives], len(truth.categories))
    took: NDArray[np.bool_] = np.any(matches.right[:, column] | matches.ignored[:, column], axis=1)
    classes = []
    for row in range(len(truth.categories)):
        part = slice(first[row], first[row + 1])
        takers = np.flatnonzero((among[part] >= 0) & took[among[part]]) if len(took) else np.zeros(0, np.intp)
        found = among[part][takers]
        classes.append(
            _Class(
                image=image[part][takers],
                seen=_seen(takers, image[part], counted[part], len(truth.image_ids)),
                thresholds=_thresholds(
                    matches.right[found, column], matches.ignored[found, column], counted[part][takers]
                ),
                positives=truth.annotation_image[positives[first_positive[row] : first_positive[row + 1]]],
            )
        )
    return classes


def _seen(
    takers: NDArray[np.intp], image: NDArray[np.int64], counted: NDArray[np.bool_], images: int
) -> sparse.csr_matrix:
    """takers: (U,) ascending rows of the class's (n,) detections."""
    inside = np.flatnonzero(counted)
    until = np.searchsorted(takers, inside)  # the first taker that does not come before
    inside, until = inside[until < len(takers)], until[until < len(takers)]
    ones = np.ones(len(inside), np.int32)
    return sparse.csr_matrix((ones, (until, image[inside])), shape=(len(takers), images))


def _bounds(ascending: NDArray[np.int64], groups: int) -> NDArray[np.intp]:
    """Where each of the groups 0, 1, ... begins in (N,) ascending group numbers, and where the last ends."""
    return np.searchsorted(ascending, np.arange(groups + 1))


def _thresholds(
    right: NDArray[np.bool_], ignored: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> tuple[_Threshold, ...]:
    """right, ignored: (U, T); counted: (U,)."""
    parts = []
    for row in range(right.shape[1]):
        took = np.flatnonzero(right[:, row] | ignored[:, row])
        parts.append(_Threshold(took, right[took, row], counted[took]))
    return tuple(parts)


def _average_precision(one: _Class, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """(I, R) weights -> (R, T). A detection counts as often as its image does."""
    positives = weights[one.positives].sum(axis=0, dtype=np.int64)
    values = np.zeros((weights.shape[1], len(one.thresholds)))
    if len(one.image):
        begins, reached = _recalls_reached(positives)
        drawn = weights[one.image]
        seen = np.cumsum(one.seen @ weights, axis=0, dtype=np.int32)
        for row, part in enumerate(one.thresholds):
            values[:, row] = _threshold_precision(part, drawn, seen, begins, reached)
    values[positives == 0] = np.nan
    return values


def _recalls_reached(positives: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """For each of R resamples: how many of the 101 recalls n right ones reach, for n from 0 to its positives.

    Returns where each resample begins, (R,), and the numbers of all, one resample behind the other.
    """
    sizes = positives + 1
    begins = np.cumsum(sizes) - sizes
    right = np.arange(int(sizes.sum())) - np.repeat(begins, sizes)
    # The same division as in the evaluation: its last digit decides whether a recall is reached.
    recall = right / np.repeat(np.maximum(positives, 1), sizes)
    return begins, np.searchsorted(RECALL_THRESHOLDS, recall, side="right").astype(np.int8)


def _threshold_precision(
    part: _Threshold,
    drawn: NDArray[np.int32],
    seen: NDArray[np.int32],
    begins: NDArray[np.int64],
    reached: NDArray[np.int8],
) -> NDArray[np.float64]:
    """AP at one threshold, (R,). drawn, seen: (U, R), weights of the takers, detections inside the range until each."""
    if not part.right.any():
        return np.zeros(drawn.shape[1])
    if (part.right & part.counted).all():
        right = np.cumsum(drawn[part.place], axis=0, dtype=np.int32)
        return _mean_best_precision(right, seen[part.place], begins, reached)
    weights = drawn[part.place]
    right = np.cumsum(weights * part.right[:, None], axis=0, dtype=np.int32)
    # Inside the range, those that took an ignored annotation do not count; outside, the right ones count all the same.
    change = np.where(part.right, ~part.counted, -part.counted.astype(np.int32))
    total = seen[part.place] + np.cumsum(weights * change[:, None].astype(np.int32), axis=0, dtype=np.int32)
    return _mean_best_precision(right[part.right], total[part.right], begins, reached)


def _mean_best_precision(
    right: NDArray[Any], seen: NDArray[Any], begins: NDArray[np.int64], reached: NDArray[np.int8]
) -> NDArray[np.float64]:
    """The mean of the best precision at the 101 recalls, (C,).

    right, seen: whole numbers (m, C), right ones and right or wrong ones until each of m points of C curves. begins,
    reached: as `_recalls_reached` gives them.
    """
    precision = right / (seen + np.spacing(1))
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
