"""What goes wrong in a file of detections, kind by kind, and how much AP each kind costs.

The kinds are those of TIDE (Bolya et al., ECCV 2020), told from matches at IoU 0.5, crowds aside. A scored
detection that matched no object of its class is the first of these that fits:

- localisation: overlaps an object of its class by 0.1 to below 0.5;
- classification: overlaps an object of another class by 0.5 or more;
- duplicate: overlaps an object of its class by 0.5 or more, which a more certain detection has taken;
- background: overlaps no object by 0.1;
- both: the rest, 0.1 to below 0.5 of an object of another class: wrong place and wrong class.

Missed is an object that no detection took and that no localisation or classification error points to.

What a kind costs is the AP50 that the same detections would have if it were mended alone. A wrong place or class is
put right, once an object and only where the object is free, and otherwise left out; duplicates, background and both are
left out; missed objects are no longer asked for, so that where all are missed nothing is left to have an AP. Costs of
several kinds do not add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.accumulate import RECALL_THRESHOLDS
from rexdet.coco.matched import Matched, overlaps

FOREGROUND = 0.5
BACKGROUND = 0.1
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_RIGHT, _CROWD = len(KINDS), len(KINDS) + 1
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class ErrorBreakdown:
    """Errors of one run.

    ap50: 0 to 1, None without ground truth. right: detections that matched. crowd: those in crowds, which do not count.
    counts: kind -> how many. costs: kind -> AP50 won if it were mended, None where no object is (left) to be found.
    per_class: class name -> counts. A detection counts for the class that it claims, a missed object for its own.
    score: the least score that a detection had to have to be looked at.
    """

    ap50: float | None
    right: int
    crowd: int
    counts: Mapping[str, int]
    costs: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, int]]
    score: float

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "AP50": self.ap50,
            "right": self.right,
            "crowd": self.crowd,
            "least_score": self.score,
            "counts": dict(self.counts),
            "costs": dict(self.costs),
            "per_class": {name: dict(counts) for name, counts in self.per_class.items()},
        }


@dataclass(frozen=True, eq=False)
class _Scored:
    """Detections as columns (N,): class row, score, tie-breaker, whether they matched; and objects a class, (K,)."""

    category: NDArray[np.int64]
    scores: NDArray[np.float64]
    tie: NDArray[np.intp]
    right: NDArray[np.bool_]
    positives: NDArray[np.int64]


def break_down(matched: Matched, *, score: float = 0.0) -> ErrorBreakdown:
    """Sort the errors of a run by kind. score: detections below it are left out, as if they had not been made."""
    truth = matched.truth
    kept = matched.scores >= score
    kind, target = _kinds(matched, kept)
    taken = np.zeros(len(truth), np.bool_)
    taken[target[kept & (kind == _RIGHT)]] = True
    pointed_at = np.zeros(len(truth), np.bool_)
    pointed_at[target[(kind == KINDS.index("classification")) | (kind == KINDS.index("localisation"))]] = True
    missed = ~truth.crowd & ~taken & ~pointed_at
    classes = len(truth.categories)
    counts = np.stack(
        [
            np.bincount(matched.category[kept & (kind == row)], minlength=classes)
            if name != "missed"
            else np.bincount(truth.annotation_category[missed], minlength=classes)
            for row, name in enumerate(KINDS)
        ],
        axis=1,
    )
    base, mended = _mended(matched, kept, kind, target, taken, missed)
    return ErrorBreakdown(
        ap50=base,
        right=int(np.count_nonzero(kept & (kind == _RIGHT))),
        crowd=int(np.count_nonzero(kept & (kind == _CROWD))),
        counts={name: int(counts[:, row].sum()) for row, name in enumerate(KINDS)},
        costs={name: None if value is None or base is None else value - base for name, value in mended.items()},
        per_class={
            entry.name: {name: int(counts[row, column]) for column, name in enumerate(KINDS)}
            for row, entry in enumerate(truth.categories)
        },
        score=score,
    )


def _kinds(matched: Matched, kept: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The kind of each of the D detections, and the annotation that decides it (-1: none)."""
    kind = np.full(len(matched.scores), KINDS.index("background"), np.intp)
    target = np.full(len(matched.scores), -1, np.intp)
    matches = matched.matches
    for code, marked in ((_RIGHT, matches.right[:, 0, 0]), (_CROWD, matches.ignored[:, 0, 0])):
        kind[matches.position[marked]] = code
        target[matches.position[marked]] = matches.annotation[marked, 0]
    wrong = np.flatnonzero(kept & (kind == KINDS.index("background")))
    same, same_target, other, other_target = _nearest(matched, wrong)
    rules = (
        ("localisation", (same >= BACKGROUND) & (same < FOREGROUND), same_target),
        ("classification", other >= FOREGROUND, other_target),
        ("duplicate", same >= FOREGROUND, same_target),
        ("background", np.maximum(same, other) < BACKGROUND, np.full(len(wrong), -1)),
        ("both", np.ones(len(wrong), np.bool_), other_target),
    )
    free = np.ones(len(wrong), np.bool_)
    for name, fits, nearest in rules:
        chosen = free & fits
        kind[wrong[chosen]] = KINDS.index(name)
        target[wrong[chosen]] = nearest[chosen]
        free &= ~fits
    return kind, target


def _nearest(
    matched: Matched, places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """The largest overlap of (P,) detections with an object of their own class and of another one, and which it is.

    Overlap 0 and object -1 where there is none. Of equal overlaps the first object in the file counts.
    """
    truth = matched.truth
    objects = np.flatnonzero(~truth.crowd)
    objects = objects[np.argsort(truth.annotation_image[objects], kind="stable")]
    first = np.searchsorted(truth.annotation_image[objects], np.arange(len(truth.image_ids) + 1))
    best = np.zeros((2, len(places)))
    which = np.full((2, len(places)), -1, np.intp)
    # By image, as the overlap of masks wants it.
    by_image = np.argsort(matched.image[places], kind="stable")
    counts = np.diff(first)[matched.image[places[by_image]]]
    done = np.cumsum(counts)
    begin = 0
    while begin < len(by_image):
        before = done[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(done, before + _PAIRS_AT_ONCE, side="right")))
        member = np.repeat(by_image[begin:end], counts[begin:end])
        starts = np.cumsum(counts[begin:end]) - counts[begin:end]
        offset = np.arange(len(member)) - np.repeat(starts, counts[begin:end])
        annotation = objects[first[matched.image[places[member]]] + offset]
        rows = matched.grouped.rows[places[member]]
        iou = overlaps(matched.detections, truth, matched.iou_type, rows, annotation)
        differs = truth.annotation_category[annotation] != matched.category[places[member]]
        for row, mine in ((0, ~differs), (1, differs)):
            # Later writes win: ascending by overlap, and of equal ones the first object last.
            chosen = np.flatnonzero(mine & (iou > 0))
            chosen = chosen[np.lexsort((-annotation[chosen], iou[chosen]))]
            best[row, member[chosen]] = iou[chosen]
            which[row, member[chosen]] = annotation[chosen]
        begin = end
    return best[0], which[0], best[1], which[1]


def _mended(
    matched: Matched,
    kept: NDArray[np.bool_],
    kind: NDArray[np.intp],
    target: NDArray[np.intp],
    taken: NDArray[np.bool_],
    missed: NDArray[np.bool_],
) -> tuple[float | None, dict[str, float | None]]:
    """AP50 as it is, and with each kind of error mended alone."""
    truth = matched.truth
    # Equal scores: images ascending, then the order of the file, as in the evaluation.
    tie = np.empty(len(kind), np.intp)
    tie[np.lexsort((matched.grouped.rows, matched.image))] = np.arange(len(kind))
    positives = np.bincount(truth.annotation_category[~truth.crowd], minlength=len(truth.categories))
    counted = kept & (kind != _CROWD)

    def scored(
        chosen: NDArray[np.bool_], right: NDArray[np.bool_], category: NDArray[np.int64], objects: NDArray[np.int64]
    ) -> float | None:
        return _ap50(_Scored(category[chosen], matched.scores[chosen], tie[chosen], right[chosen], objects))

    is_right = kind == _RIGHT
    mended = {}
    for row, name in enumerate(KINDS):
        chosen, right, category = counted.copy(), is_right.copy(), matched.category.copy()
        objects = positives
        if name == "missed":
            objects = positives - np.bincount(truth.annotation_category[missed], minlength=len(positives))
        else:
            erring = np.flatnonzero(counted & (kind == row))
            chosen[erring] = False
            if name in ("classification", "localisation"):
                repaired = _first_of_each(erring, target, taken, matched.scores, tie)
                chosen[repaired] = right[repaired] = True
                category[repaired] = truth.annotation_category[target[repaired]]
        mended[name] = scored(chosen, right, category, objects)
    return scored(counted, is_right, matched.category, positives), mended


def _first_of_each(
    erring: NDArray[np.intp],
    target: NDArray[np.intp],
    taken: NDArray[np.bool_],
    scores: NDArray[np.float64],
    tie: NDArray[np.intp],
) -> NDArray[np.intp]:
    """The most certain of the erring detections that point to an object which is free."""
    free = erring[~taken[target[erring]]]
    free = free[np.lexsort((tie[free], -scores[free]))]
    _, first = np.unique(target[free], return_index=True)
    return free[first]


def _ap50(scored: _Scored) -> float | None:
    """The mean over classes with objects of the best precision at 101 recalls; None without any."""
    order = np.lexsort((scored.tie, -scored.scores, scored.category))
    first = np.searchsorted(scored.category[order], np.arange(len(scored.positives) + 1))
    values = []
    for row in np.flatnonzero(scored.positives).tolist():
        right = scored.right[order[first[row] : first[row + 1]]]
        found = np.cumsum(right)
        precision = found / (np.arange(1, len(right) + 1) + np.spacing(1))
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        reached = np.searchsorted(found / scored.positives[row], RECALL_THRESHOLDS, side="left")
        values.append(best[reached].mean())
    return float(np.mean(values)) if values else None
