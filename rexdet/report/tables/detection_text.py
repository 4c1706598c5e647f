"""One file of detections looked at closely: intervals, errors, calibration and thresholds as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from rexdet.report.statistics.bootstrap import LEAST_IMAGES, Interval
from rexdet.report.statistics.calibration import Calibration, Rates, Thresholds
from rexdet.report.statistics.detection_errors import KINDS, ErrorBreakdown

DASH = "–"


def intervals_text(intervals: Mapping[str, Interval], resamples: int, seed: int) -> str:
    """intervals: name -> its interval."""
    rows = [
        (
            name,
            _points(found.value),
            DASH if found.low is None else f"{_points(found.low)} to {_points(found.high)}",
            _points(found.deviation, 2),
        )
        for name, found in intervals.items()
    ]
    note = (
        f"95% intervals over {resamples:,} resamples of the images (draws of seed {seed}): how far other "
        "images would move the number, not another training. Objects on fewer than "
        f"{LEAST_IMAGES} images give none."
    )
    return "\n\n".join((_table(("", "%", "95% interval", "deviation"), rows), note))


def errors_text(errors: ErrorBreakdown) -> str:
    """The kinds, how many there are of each, and what each costs."""
    rows = [(kind, f"{errors.counts[kind]:,}", _points(errors.costs[kind])) for kind in KINDS]
    rows.append(("(right)", f"{errors.right:,}", DASH))
    note = (
        f"AP50 {_points(errors.ap50)}, matches at IoU 0.5. Costs: points of AP50 that mending this kind alone would "
        f"win; they do not add up. {errors.crowd:,} detections in crowds count neither way."
    )
    return "\n\n".join((_table(("error", "count", "costs (AP50)"), rows), note))


def calibration_text(calibration: Calibration) -> str:
    """The share of right detections by score, and how far they are apart."""
    rows = [
        (
            f"{entry.low:.1f} to {entry.high:.1f}",
            f"{entry.count:,}",
            DASH if entry.score is None else f"{entry.score:.3f}",
            DASH if entry.precision is None else f"{entry.precision:.3f}",
        )
        for entry in calibration.bins
    ]
    error = DASH if calibration.error is None else f"{calibration.error:.3f}"
    note = f"Expected calibration error {error}: the mean distance of score and share, weighted by detections."
    if calibration.beyond:
        note += f" {calibration.beyond:,} scores outside 0 to 1 are left out."
    return "\n\n".join((_table(("score", "detections", "mean score", "share right"), rows), note))


def thresholds_text(thresholds: Thresholds) -> str:
    """The threshold of each class, and its rates on the images that it was not chosen on."""
    head = ("class", "threshold", "objects", "precision", "recall", "F", "F where chosen")
    rows = []
    for entry in thresholds.classes:
        held_out = entry.held_out
        rows.append(
            (
                entry.name,
                DASH if entry.threshold is None else f"{entry.threshold:.3f}",
                DASH if held_out is None else f"{held_out.objects:,}",
                *(_rates(held_out)),
                DASH if entry.chosen is None or entry.chosen.f is None else f"{entry.chosen.f:.3f}",
            )
        )
    note = (
        f"For F-beta with beta {thresholds.beta:g} at IoU 0.5: chosen on {thresholds.chosen_on:,} images (half, "
        f"by seed {thresholds.seed}), measured on the other {thresholds.held_out:,}, which is what to expect. "
        "A class of which the first half holds no object that is found has no threshold."
    )
    return "\n\n".join((_table(head, rows), note))


def _rates(rates: Rates | None) -> tuple[str, str, str]:
    if rates is None:
        return DASH, DASH, DASH
    precision, recall, f = (
        DASH if value is None else f"{value:.3f}" for value in (rates.precision, rates.recall, rates.f)
    )
    return precision, recall, f


def _points(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    alignment = ["left"] + ["right"] * (len(head) - 1)
    # Names come from files: a bar or a line break in one would be a column or a row of its own.
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, head, tablefmt="pipe", disable_numparse=True, colalign=alignment if rows else None)
