"""One chart of plain data each: points against a cost, intervals, lines, numbers of many names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rexdet.report.page.drawing import (
    LINES,
    MARKERS,
    Chart,
    LegendEntry,
    Series,
    as_svg,
    label,
    legend_entry,
    logarithmic,
    mark,
    names_along_y,
    new_figure,
    point,
)

# From how many times the smallest cost on an axis is logarithmic.
_FAR_APART = 8
_LONGEST_LABEL = 42


@dataclass(frozen=True)
class Point:
    """A number y of a series at x. half: of the interval of y, to both sides. told: shown when it is pointed at."""

    series: Series
    x: float
    y: float
    half: float | None
    told: str


@dataclass(frozen=True)
class Line:
    """Points of a series, joined. style: of matplotlib. named: what follows the name in the legend, None: not there."""

    series: Series
    x: Sequence[float]
    y: Sequence[float]
    told: str
    style: str = "-"
    named: str | None = ""


def scatter(prefix: str, title: str, caption: str, axes_titles: tuple[str, str], points: Sequence[Point]) -> Chart:
    """Points with the intervals of their y. axes_titles: below and beside."""
    figure, axes = new_figure()
    for one in points:
        series = one.series
        drawn = point(axes, one.x, one.y, one.half, along="y", marker=series.marker, colour=series.colour)
        mark(drawn, series.row, one.told)
    costs = [one.x for one in points]
    if min(costs) > 0 and max(costs) > _FAR_APART * min(costs):
        logarithmic(axes)
    below, beside = (
        label(title if len(title) < _LONGEST_LABEL else f"{title[: _LONGEST_LABEL - 2]}…") for title in axes_titles
    )
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    rows = tuple(one.series.row for one in points)
    return Chart(title, caption, as_svg(figure, prefix, caption), rows, _marks(one.series for one in points))


def intervals(prefix: str, title: str, caption: str, below: str, points: Sequence[Point]) -> Chart:
    """One below the other, by rising number: the y of each point, with its interval, along the axis `below`."""
    points = sorted(points, key=lambda one: one.y)
    figure, axes = new_figure(height=max(1.6, 0.9 + 0.24 * len(points)))
    for place, one in enumerate(points):
        drawn = point(axes, one.y, place, one.half, along="x", marker="o", colour=one.series.colour)
        mark(drawn, one.series.row, one.told)
    names_along_y(axes, [one.series.name for one in points])
    axes.set_xlabel(below)
    return Chart(title, caption, as_svg(figure, prefix, caption), tuple(one.series.row for one in points))


def lines(
    prefix: str,
    title: str,
    caption: str,
    axes_titles: tuple[str, str],
    drawn_lines: Sequence[Line],
    *,
    is_share: bool = False,
    diagonal: bool = False,
) -> Chart:
    """Lines. is_share: both axes go from 0 to 1. diagonal: draw where both are equal."""
    figure, axes = new_figure()
    if diagonal:
        axes.plot((0, 1), (0, 1), ":", color="0.5", linewidth=1)
    for line in drawn_lines:
        series = line.series
        (drawn,) = axes.plot(
            line.x, line.y, line.style, color=series.colour, linewidth=1.3, markersize=4, alpha=1.0 if is_share else 0.8
        )
        mark(drawn, series.row, line.told)
    if is_share:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    below, beside = axes_titles
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    legend = tuple(
        legend_entry(line.series, LINES[line.style], line.named) for line in drawn_lines if line.named is not None
    )
    rows = tuple(dict.fromkeys(line.series.row for line in drawn_lines))
    return Chart(title, caption, as_svg(figure, prefix, caption), rows, legend)


def named_numbers(
    prefix: str,
    title: str,
    caption: str,
    below: str,
    names: Sequence[str],
    found: Iterable[tuple[Series, dict[str, float]]],
) -> Chart:
    """Names one above the other, and on the height of each its numbers, one a series that has one."""
    figure, axes = new_figure(height=max(1.8, 1.0 + 0.19 * len(names)))
    shown = list(found)
    for series, numbers in shown:
        places = [(numbers[name], place) for place, name in enumerate(names) if name in numbers]
        (drawn,) = axes.plot(
            [number for number, _ in places],
            [place for _, place in places],
            series.marker,
            color=series.colour,
            markersize=4,
        )
        mark(drawn, series.row, series.name)
    names_along_y(axes, names, 22)
    axes.set_xlabel(below)
    rows = tuple(series.row for series, _ in shown)
    return Chart(title, caption, as_svg(figure, prefix, caption), rows, _marks(series for series, _ in shown))


def _marks(series: Iterable[Series]) -> tuple[LegendEntry, ...]:
    return tuple(legend_entry(one, MARKERS[one.marker]) for one in series)
