"""The page's chart of calibration: what share of the detections with a score is right."""

from __future__ import annotations

from collections.abc import Sequence

from rexdet.report.page.charts import by_setting
from rexdet.report.page.drawing import Chart, as_svg, label, legend, mark, new_figure, series_colour
from rexdet.report.records.saved import Saved
from rexdet.report.statistics.calibration import calibration
from rexdet.report.tables.networks import row_id

# A share of fewer detections than this is chance.
FEWEST = 10


def calibration_charts(saved: Sequence[Saved]) -> list[Chart]:
    """The share that is right over the score, for each detection setting."""
    return [_shares(f"score{place}", title, found) for place, (title, found) in enumerate(by_setting(saved).items())]


def _shares(prefix: str, title: str, found: list[Saved]) -> Chart:
    figure, axes = new_figure()
    rows = []
    axes.plot((0, 1), (0, 1), ":", color="0.5", linewidth=1)
    for place, one in enumerate(found):
        row = row_id(one.row)
        rows.append(row)
        measured = calibration(one.matched)
        bins = [entry for entry in measured.bins if entry.count >= FEWEST]
        scores, shares = [entry.score for entry in bins], [entry.precision for entry in bins]
        (drawn,) = axes.plot(scores, shares, "o-", color=series_colour(place), linewidth=1.4, markersize=4)
        drawn.set_label(label(row))
        error = "no detections" if measured.error is None else f"calibration error {measured.error:.3f}"
        mark(drawn, row, f"{row}: {error}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("score, mean of a tenth of its range")
    axes.set_ylabel("share right at IoU 0.5")
    legend(figure, axes, len(found))
    caption = (
        f"{title}: of detections with a score, the share that is right, one run a row; tenths of the range with at "
        f"least {FEWEST}. Below the dotted line scores promise too much."
    )
    return Chart(f"Calibration, {title}", caption, as_svg(figure, prefix, caption), tuple(rows))
