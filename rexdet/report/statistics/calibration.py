"""What a score means: how often a detection with it is right, and from which score on a class is best used.

Right is a match at IoU 0.5; detections in crowds count neither way. Only what was saved is seen: a run that drops
detections below 0.05 tells nothing about scores down there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.matched import Matched
from rexdet.errors import UserError

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Detections with a score from `low` to below `high` (the last bin: up to and with it).

    score: their mean; precision: the share that is right. None: there is none.
    """

    low: float
    high: float
    count: int
    score: float | None
    precision: float | None


@dataclass(frozen=True)
class Calibration:
    """bins: of equal width from 0 to 1. error: the mean of |precision - score| over bins, weighted by their detections.

    It is the expected calibration error, as Küppers et al. (CVPR 2020 workshops) carry it over to detections; None
    without detections. beyond: detections with a score outside 0 to 1, left out.
    """

    bins: tuple[Bin, ...]
    error: float | None
    beyond: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Rates:
    """precision: None where nothing is kept. recall, f: None where there is no object."""

    objects: int
    kept: int
    right: int
    precision: float | None
    recall: float | None
    f: float | None


@dataclass(frozen=True)
class ClassThreshold:
    """A class's score threshold, detections from it on are kept; None where the choice had nothing to choose by.

    chosen: its rates on the images that it was chosen on. held_out: on the others, which is what to expect; None where
    there is no threshold.
    """

    name: str
    threshold: float | None
    chosen: Rates | None
    held_out: Rates | None


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of every class for F-beta, chosen on some images and measured on the others.

    chosen_on, held_out: how many images. seed: of the split.
    """

    beta: float
    chosen_on: int
    held_out: int
    seed: int
    classes: tuple[ClassThreshold, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Part:
    """Detections of one class on some of the images, (N,), and how many objects there are to find."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    objects: int


def calibration(matched: Matched, bins: int = BINS) -> Calibration:
    """How far the scores are from the share of detections that is right."""
    right, counted = _right(matched)
    scores = matched.scores[counted]
    inside = (scores >= 0) & (scores <= 1)
    scores, right = scores[inside], right[counted][inside]
    # The numbers that are written so: multiples of a tenth's float64 lie above some of them (3 x 0.1 > 0.3).
    edges = np.arange(bins + 1) / bins
    row = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    counts = np.bincount(row, minlength=bins)
    means = [
        np.divide(np.bincount(row, values, minlength=bins), counts, out=np.zeros(bins), where=counts > 0)
        for values in (scores, right.astype(np.float64))
    ]
    found = tuple(
        Bin(
            float(edges[place]),
            float(edges[place + 1]),
            int(counts[place]),
            float(means[0][place]) if counts[place] else None,
            float(means[1][place]) if counts[place] else None,
        )
        for place in range(bins)
    )
    error = float((counts * np.abs(means[0] - means[1])).sum() / len(scores)) if len(scores) else None
    return Calibration(found, error, int(np.count_nonzero(~inside)))


def choose_thresholds(matched: Matched, beta: float = 1.0, *, seed: int = 0) -> Thresholds:
    """The score threshold of each class with the highest F-beta on half of the images, measured on the other half.

    beta: above 1 a miss weighs more than a false alarm, below 1 less. Of equal values the highest threshold is taken.
    Raises UserError for a beta that is not above 0 and finite.
    """
    if not 0 < beta < float("inf"):
        raise UserError(f"beta is {beta:g}", fix="give a number above 0: 1 weighs precision and recall alike")
    images = len(matched.truth.image_ids)
    is_chosen = np.zeros(images, np.bool_)
    is_chosen[np.random.default_rng(seed).permutation(images)[: (images + 1) // 2]] = True
    right, counted = _right(matched)
    classes = []
    truth = matched.truth
    for row, entry in enumerate(truth.categories):
        mine = np.flatnonzero(counted & (matched.category == row))
        objects = truth.annotation_image[(truth.annotation_category == row) & ~truth.crowd]
        parts = []
        for half in (is_chosen, ~is_chosen):
            these = mine[half[matched.image[mine]]]
            parts.append(_Part(matched.scores[these], right[these], int(np.count_nonzero(half[objects]))))
        classes.append(_class_threshold(entry.name, parts[0], parts[1], beta))
    return Thresholds(beta, int(is_chosen.sum()), int((~is_chosen).sum()), seed, tuple(classes))


def best_threshold(scores: NDArray[np.float64], right: NDArray[np.bool_], objects: int, beta: float) -> float | None:
    """The score from which on detections are best kept; None where no object is found at all.

    scores, right: (N,) of one class. objects: how many there are to find.
    """
    order = np.argsort(-scores, kind="stable")
    falling, found = scores[order], np.cumsum(right[order], dtype=np.int64)
    # Equal scores go together: a threshold keeps all of them or none.
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else np.zeros(0, np.intp)
    if not objects or not found[-1:].any():
        return None
    return float(falling[last[int(np.argmax(_f_beta(found[last], last + 1, objects, beta)))]])


def _class_threshold(name: str, chosen: _Part, held_out: _Part, beta: float) -> ClassThreshold:
    threshold = best_threshold(chosen.scores, chosen.right, chosen.objects, beta)
    if threshold is None:
        return ClassThreshold(name, None, None, None)
    return ClassThreshold(name, threshold, _rates(chosen, threshold, beta), _rates(held_out, threshold, beta))


def _rates(part: _Part, threshold: float, beta: float) -> Rates:
    is_kept = part.scores >= threshold
    kept, found, objects = int(is_kept.sum()), int((is_kept & part.right).sum()), part.objects
    return Rates(
        objects,
        kept,
        found,
        found / kept if kept else None,
        found / objects if objects else None,
        float(_f_beta(np.array([found]), np.array([kept]), objects, beta)[0]) if objects else None,
    )


def _f_beta(found: NDArray[np.int64], kept: NDArray[np.intp], objects: int, beta: float) -> NDArray[np.float64]:
    """F-beta, (1 + b²) right / (b² objects + kept): van Rijsbergen's, written without a division by 0."""
    # Both sides divided by the larger of 1 and b², which may be more than a float holds.
    missed, false = (1.0, (1 / beta) ** 2) if beta > 1 else (beta * beta, 1.0)
    below = missed * objects + false * kept
    # Below is 0 where nothing is kept and b² is less than a float holds: nothing is found then either.
    return np.divide((missed + false) * found, below, out=np.zeros(len(found)), where=below > 0)


def _right(matched: Matched) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of the D detections: which are right, and which count at all."""
    right = np.zeros(len(matched.scores), np.bool_)
    counted = np.ones(len(matched.scores), np.bool_)
    matches = matched.matches
    right[matches.position] = matches.right[:, 0, 0]
    counted[matches.position] = ~matches.ignored[:, 0, 0]
    return right, counted
