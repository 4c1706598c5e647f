"""From matches to precision and recall: pycocotools' `accumulate`, one class at a time, to the last digit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.matching import AREA_RANGES, IOU_THRESHOLDS, GroupedDetections, Matches

RECALL_THRESHOLDS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
DETECTION_LIMITS = (1, 10, 100)


@dataclass(frozen=True)
class Curves:
    """Precision and recall of K classes; NaN for a class without annotations that count in an area range.

    precision: float64 (T, 101, K, A), the best precision at that recall or more (0 where the recall is not reached),
        for the thresholds IOU_THRESHOLDS, RECALL_THRESHOLDS, the classes, and AREA_RANGES; at most 100 detections an
        image and class.
    score: float64 (T, 101, K, A), the score at which that recall is reached (0 where it is not).
    recall: float64 (T, K, A, 3), the highest recall, for at most 1, 10, 100 detections an image and class.
    positives: int64 (K, A), annotations that count (no crowd, inside the range).
    """

    precision: NDArray[np.float64]
    score: NDArray[np.float64]
    recall: NDArray[np.float64]
    positives: NDArray[np.int64]


def accumulate(
    grouped: GroupedDetections,
    category: NDArray[np.int64],
    scores: NDArray[np.float64],
    outside: NDArray[np.bool_],
    matches: Matches,
    positives: NDArray[np.int64],
) -> Curves:
    """Sort the detections of each class over all images and walk down its scores.

    category: (D,) class row of each grouped detection, ascending; scores: (D,); outside: (D, A), whether its own area
    lies outside the range.
    """
    classes = len(positives)
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), classes, len(AREA_RANGES))
    curves = Curves(
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full((shape[0], classes, shape[3], len(DETECTION_LIMITS)), np.nan),
        positives,
    )
    order = grouped.by_class
    matchable = np.full(len(order), -1, np.intp)  # place among the matches of those that are there, in score order
    matchable[matches.position] = np.arange(len(matches.position))
    matchable = matchable[order]
    first = np.searchsorted(category, np.arange(classes + 1))

    # Detections that overlap nothing are wrong wherever their own area lies inside the range; they are only counted.
    plainly_wrong = (~outside[order]) & (matchable < 0)[:, None]
    wrong_before = np.zeros((len(order) + 1, len(AREA_RANGES)), np.int64)
    np.cumsum(plainly_wrong, axis=0, out=wrong_before[1:])

    for row in range(classes):
        begin, end = first[row], first[row + 1]
        places = begin + np.flatnonzero(matchable[begin:end] >= 0)
        found = matchable[places]
        right = matches.right[found]
        wrong = ~(right | matches.ignored[found] | outside[order[places]][:, :, None])
        _class_curves(
            curves,
            row,
            right,
            wrong_before[places] - wrong_before[begin],
            wrong,
            scores[order[places]],
            grouped.rank[order[places]],
            scores[order[begin]] if end > begin else 0.0,
        )
    return curves


def _class_curves(
    curves: Curves,
    row: int,
    right: NDArray[np.bool_],
    plainly_wrong_before: NDArray[np.int64],
    wrong: NDArray[np.bool_],
    scores: NDArray[np.float64],
    rank: NDArray[np.intp],
    highest_score: float,
) -> None:
    """Fill in one class. right, wrong: (C, A, T); plainly_wrong_before: (C, A); the rest: (C,), by falling score."""
    positives = curves.positives[row]
    counted = np.flatnonzero(positives)
    columns = right.shape[1] * right.shape[2]
    # How many right ones each limit leaves, (3, A * T), as a product of matrices: exact, being whole numbers.
    within = (rank < np.array(DETECTION_LIMITS)[:, None]).astype(np.float64)
    found = (within @ right.reshape(len(right), columns)).reshape(-1, *right.shape[1:])
    curves.recall[:, row, counted] = (found[:, counted] / positives[counted, None]).T

    right_until = np.cumsum(right, axis=0, dtype=np.int32)
    wrong_until = np.cumsum(wrong, axis=0, dtype=np.int32) + plainly_wrong_before[:, :, None]
    # Only a right detection raises the recall, so the curve has one point for each: row n holds the precision at
    # the n-th right one, then, from the end, the best that follows.
    right_ones = np.flatnonzero(right)
    nth = right_until.reshape(-1)[right_ones]
    point = nth * columns + right_ones % columns
    best = np.zeros((int(positives.max(initial=0)) + 1, *right.shape[1:]))
    best.reshape(-1)[point] = nth / (wrong_until.reshape(-1)[right_ones] + nth + np.spacing(1))
    best = np.maximum.accumulate(best[::-1], axis=0)[::-1]
    score = np.zeros_like(best)
    score.reshape(-1)[point] = scores[right_ones // columns]
    score[0] = highest_score
    for area_row in counted:
        total = positives[area_row]
        # The first count whose recall, as the same division gives it, is not below the threshold.
        needed = np.searchsorted(np.arange(total + 1) / total, RECALL_THRESHOLDS, side="left")
        curves.precision[:, :, row, area_row] = best[needed, area_row].T
        curves.score[:, :, row, area_row] = score[needed, area_row].T
