"""The page's charts of saved detections: precision over recall, and how often a score is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rexdet.report.page.drawing import Series
from rexdet.report.page.plans import Palette, Plan
from rexdet.report.page.plots import Line, lines
from rexdet.report.records.saved import Saved, curves
from rexdet.report.statistics.calibration import calibration
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import row_id

# A share of fewer detections than this is chance.
FEWEST = 10


def recall_charts(saved: Sequence[Saved], palette: Palette) -> list[Plan]:
    """Precision over recall at IoU .50 and .75, for each detection setting."""
    plans: list[Plan] = []
    for title, found in _by_setting(saved).items():
        drawn = []
        for series, one in _named(found, palette):
            for curve, style in zip(curves(one), ("-", "--"), strict=False):
                words = f", IoU {curve.threshold:.2f}"
                told = f"{series.name}{words}: mean {curve.precision.mean():.3f}"
                drawn.append(Line(series, curve.recall.tolist(), curve.precision.tolist(), told, style, words))
        caption = f"{title}: precision over recall of one run a row, IoU .50 (line) and .75 (dashes)."
        titles = ("recall", "precision, mean over classes")
        name = f"Precision and recall, {title}"
        plans.append(Plan(lines, f"recall{len(plans)}", name, caption, titles, drawn, is_share=True))
    return plans


def calibration_charts(saved: Sequence[Saved], palette: Palette) -> list[Plan]:
    """The share that is right over the score, for each detection setting."""
    plans: list[Plan] = []
    for title, found in _by_setting(saved).items():
        drawn = []
        for series, one in _named(found, palette):
            measured = calibration(one.matched)
            shown = [
                (entry.score, entry.precision)
                for entry in measured.bins
                if entry.count >= FEWEST and entry.score is not None and entry.precision is not None
            ]
            error = "no detections" if measured.error is None else f"calibration error {measured.error:.3f}"
            scores, shares = [score for score, _ in shown], [share for _, share in shown]
            drawn.append(Line(series, scores, shares, f"{series.name}: {error}", "o-"))
        caption = (
            f"{title}: of detections with a score, the share that is right, one run a row; tenths of the range with at "
            f"least {FEWEST}. Below the dotted line scores promise too much."
        )
        titles = ("score, mean of a tenth of its range", "share right at IoU 0.5")
        name = f"Calibration, {title}"
        plans.append(Plan(lines, f"score{len(plans)}", name, caption, titles, drawn, is_share=True, diagonal=True))
    return plans


def _named(found: Sequence[Saved], palette: Palette) -> Iterator[tuple[Series, Saved]]:
    series = palette.series(((row_id(one.row), entry_name(one.group)) for one in found), by_colour=True)
    return zip(series, found, strict=True)


def _by_setting(saved: Sequence[Saved]) -> dict[str, list[Saved]]:
    settings: dict[str, list[Saved]] = {}
    for one in saved:
        settings.setdefault(one.setting.shared.title, []).append(one)
    return settings
