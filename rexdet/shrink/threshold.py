"""One-shot shrinkage: one threshold for all scores, found so that the network costs what it may.

arXiv 2006.16242 as released: a class is kept when its score reaches the threshold, and no layer goes below its floor.
The released code walks the threshold in steps of 0.01, which fits scores of one scale only; here the threshold is one
of the scores, found by bisection over the sorted ones, whatever their scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexdet.errors import UserError
from rexdet.shrink.coupling import Classes, Coupling

Keep = NDArray[np.bool_]


@dataclass(frozen=True)
class Shrinkage:
    """keep: for each class, whether it stays. threshold: classes of this score and above stay; infinity: the floors
    alone. macs: multiply-accumulates of one image, of the shrunk network."""

    keep: Keep
    threshold: float
    macs: int


def floor_width(channels: int, share: float) -> int:
    """The fewest channels that a layer of `channels` keeps: int(channels * share), and at least 1."""
    return max(int(channels * share), 1)


def floors(coupling: Coupling, *, remain: float, linear: float) -> list[tuple[Classes, NDArray[np.int64], int]]:
    """(classes, channels a class, fewest channels) of every vector.

    remain: the share that a layer keeps at least; linear: the same for what the classifier reads. A vector that is
    repeated over the groups of a convolution counts once.
    """
    read = coupling.classifier_inputs()
    found = {}
    for layer in coupling.layers:
        classes, counts = np.unique(layer.out_classes, return_counts=True)
        if coupling.fixed[classes].any():
            continue
        weights = counts // np.gcd.reduce(counts)
        share = linear if read[classes].all() else remain
        found[classes.tobytes()] = (classes, weights, floor_width(int(weights.sum()), share))
    return list(found.values())


def protected(coupling: Coupling, scores: NDArray[np.float64], *, remain: float, linear: float) -> Keep:
    """The classes that stay whatever the threshold: fixed ones, and the best of each vector up to its floor.

    Where vectors overlap (ReXNet's, padded shortcuts) the shorter one goes first. What it keeps counts for the longer
    one, which then takes the best of those that it alone has, so that no floor is lifted by another one.
    """
    keep = coupling.fixed.copy()
    seen = np.zeros(coupling.size, dtype=bool)
    vectors = floors(coupling, remain=remain, linear=linear)
    for classes, weights, fewest in sorted(vectors, key=lambda vector: len(vector[0])):
        order = np.lexsort((-scores[classes], seen[classes], ~keep[classes]))
        needed = int(np.searchsorted(np.cumsum(weights[order]), fewest)) + 1
        keep[classes[order[:needed]]] = True
        seen[classes] = True
    return keep


def check_target(coupling: Coupling, target: int, *, remain: float, linear: float) -> None:
    """Raise the UserError of `shrink` where the floors alone cost more than `target`; no scores are needed for it."""
    _check_cost(coupling.macs(protected(coupling, np.zeros(coupling.size), remain=remain, linear=linear)), target)


def shrink(
    coupling: Coupling, scores: NDArray[np.float64], target: int, *, remain: float = 0.4, linear: float = 0.45
) -> Shrinkage:
    """Keep as many classes as `target` multiply-accumulates allow: the lowest threshold that stays within them.

    Raises UserError where the floors alone cost more.
    """
    if not np.isfinite(scores).all():
        raise UserError("scores are not finite: the two steps have diverged", fix="choose a lower learning rate")
    least = protected(coupling, scores, remain=remain, linear=linear)
    _check_cost(coupling.macs(least), target)
    # From "the floors alone" down to "all": each candidate keeps at least what the one before keeps.
    candidates = np.concatenate([[np.inf], np.unique(scores[~least])[::-1]])
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if coupling.macs(least | (scores >= candidates[middle])) <= target:
            low = middle
        else:
            high = middle - 1
    keep = least | (scores >= candidates[low])
    return Shrinkage(keep, float(candidates[low]), coupling.macs(keep))


def _check_cost(floors_alone: int, target: int) -> None:
    if floors_alone > target:
        raise UserError(
            f"the floors alone cost {floors_alone / 1e6:.1f} million MACs, more than the {target / 1e6:.1f} wanted",
            fix="choose a higher ratio, or lower floors",
        )
