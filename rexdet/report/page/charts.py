"""The page's charts of the tables: AP against cost, accuracies with intervals, learning curves, AP of every class.

What is here plans them; rexdet.report.page.plots draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rexdet.report.page.curves import (
    Curve,
    Reader,
    Rows,
    detection_runs,
    evaluated,
    has_curves,
    in_turn,
    transfer_runs,
)
from rexdet.report.page.plans import Palette, Plan, largest, left_out, whole_name
from rexdet.report.page.plots import Line, Point, intervals, lines, named_numbers, scatter
from rexdet.report.records.facts import Setting
from rexdet.report.records.groups import Group
from rexdet.report.records.logged_losses import logged_losses
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import group_cell, row_id
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Cell, Table

MOST_LINES = 24
MOST_CLASSES = 100
MOST_ROWS_OF_CLASSES = 8
# Of the variants of a row, which share its colour.
_STYLES = ("-", "--", ":", "-.")
_COSTS = ("macs", "parameters", "latency")


def cost_charts(summary: Summary, palette: Palette) -> list[Plan]:
    """AP, and the accuracy of each transfer setting, against MACs, parameters and latency."""
    table = summary.networks
    numbers = {
        column.title: table.numbers(column.key) for column in table.columns if column.key.startswith(("ap", "transfer"))
    }
    keys = {column.title: column.key for column in table.columns}
    titles = {column.key: column.title for column in table.columns}
    plans: list[Plan] = []
    for what in largest(numbers):
        for key in _COSTS:
            found = _points(table, key, keys[what])
            # Rows of one network alone have one cost.
            if len({x.number for _, x, _ in found}) < 2:
                continue
            series = palette.series((row, row) for row, _, _ in found)
            points = [
                Point(one, x.number or 0.0, y.number or 0.0, _half(y), f"{row}: {y.text} at {x.text}")
                for one, (row, x, y) in zip(series, found, strict=True)
            ]
            # The column's title says for which size of image, or under which conditions.
            title = titles[key]
            caption = f"{what} against {title}. Bars: 95% interval over seeds.{'' if plans else left_out(numbers)}"
            name = f"{what} / {title.partition(',')[0]}"
            plans.append(Plan(scatter, f"cost{len(plans)}", name, caption, (title, what), points))
    return plans


def transfer_charts(summary: Summary, palette: Palette) -> list[Plan]:
    """For each data set and protocol: every row with its interval."""
    columns: dict[str, list[tuple[Group, Cell]]] = {}
    for (_, setting), group in summary.groups.transfer.items():
        cell = group_cell(group, summary.known.metric(setting.dataset))
        if cell.number is not None:
            columns.setdefault(setting.title, []).append((group, cell))
    plans: list[Plan] = []
    for title in largest(columns):
        found = columns[title]
        series = palette.series((row_id(group.row), whole_name(group)) for group, _ in found)
        points = [
            Point(one, 0.0, cell.number or 0.0, _half(cell), f"{one.name}: {cell.text}")
            for one, (_, cell) in zip(series, found, strict=True)
        ]
        more = "" if plans else left_out(columns)
        caption = f"{title}: mean and 95% interval over seeds; a single run has no interval.{more}"
        below = "accuracy on the test images (%)"
        plans.append(Plan(intervals, f"transfer{len(plans)}", title, caption, below, points))
    return plans


def learning_charts(summary: Summary, palette: Palette) -> list[Plan]:
    """AP and losses while training, for each setting: a line a run."""
    detection, transfer = detection_runs(summary), transfer_runs(summary)
    kinds: tuple[tuple[str, Mapping[str, Rows], Reader], ...] = (
        ("AP while training (%)", detection, lambda one: evaluated(one, "bbox", "AP", 100)),
        ("Detection: training loss", detection, logged_losses),
        ("Transfer: training loss", transfer, lambda one: evaluated(one, "train", "loss")),
    )
    plans: list[Plan] = []
    for what, settings, read in kinds:
        found = {title: rows for title, rows in settings.items() if has_curves(rows, read)}
        for place, title in enumerate(largest(found)):
            curves, unread = in_turn(found[title], read, MOST_LINES)
            more = f" {unread} further runs are not drawn." if unread else ""
            more += "" if place else left_out(found)
            name = f"{what}, {title}"
            caption = f"{name}: a line a run.{more}"
            plans.append(Plan(lines, f"learn{len(plans)}", name, caption, ("step", what), _lines(curves, palette)))
    return plans


def class_charts(summary: Summary, palette: Palette) -> list[Plan]:
    """AP of every class, for each detection setting."""
    settings: dict[Setting, list[Group]] = {}
    for (_, setting, start), group in summary.groups.detection.items():
        if start != "frozen":
            settings.setdefault(setting.shared, []).append(group)
    plans: list[Plan] = []
    for setting, groups in settings.items():
        found = [(group, means) for group in groups if (means := class_means(group))]
        if found:
            plans.append(_classes(f"class{len(plans)}", setting.title, found, palette))
    return plans


def class_means(group: Group) -> dict[str, float]:
    """AP of each class in per cent, mean over the runs; classes without ground truth are left out."""
    found: dict[str, list[float]] = {}
    for one in group.runs:
        for name, numbers in one.record.per_class.get("bbox", {}).items():
            if numbers.get("AP") is not None:
                found.setdefault(name, []).append(100 * float(numbers["AP"] or 0.0))
    return {name: sum(values) / len(values) for name, values in found.items() if len(values) == len(group.runs)}


def _classes(prefix: str, title: str, found: list[tuple[Group, dict[str, float]]], palette: Palette) -> Plan:
    shown = found[:MOST_ROWS_OF_CLASSES]
    names = sorted({name for _, means in shown for name in means}, key=lambda name: (_mean(shown, name), name))
    more = f" The {len(names) - MOST_CLASSES} best are not drawn." if len(names) > MOST_CLASSES else ""
    if len(shown) < len(found):
        more += f" Drawn are the first {len(shown)} of {len(found)} rows."
    caption = f"{title}: AP of every class with ground truth, the worst below.{more}"
    series = palette.series((row_id(group.row), entry_name(group)) for group, _ in shown)
    numbers = [(one, means) for one, (_, means) in zip(series, shown, strict=True)]
    below = "AP of the class (%)"
    return Plan(named_numbers, prefix, f"Classes, {title}", caption, below, names[:MOST_CLASSES], numbers)


def _lines(curves: Sequence[Curve], palette: Palette) -> list[Line]:
    """All runs of an entry have its colour and style, and one place in the legend."""
    names = list(dict.fromkeys((curve.row, curve.name) for curve in curves))
    series = dict(zip(names, palette.series(names), strict=True))
    unnamed = set(names)
    drawn = []
    for curve in curves:
        key, record = (curve.row, curve.name), curve.run.record
        which = record.name if record.seed is None else f"seed {record.seed}"
        told = f"{curve.name}, {which}: ends at {curve.points[-1][1]:.3g}"
        named = "" if key in unnamed else None
        unnamed.discard(key)
        style = _STYLES[series[key].variant % len(_STYLES)]
        drawn.append(Line(series[key], [x for x, _ in curve.points], [y for _, y in curve.points], told, style, named))
    return drawn


def _half(cell: Cell) -> float | None:
    return cell.summary.half_width if cell.summary else None


def _points(table: Table, x: str, y: str) -> list[tuple[str, Cell, Cell]]:
    places = {column.key: place for place, column in enumerate(table.columns)}
    if x not in places or y not in places:
        return []
    cells = [(row.key, row.cells[places[x]], row.cells[places[y]]) for row in table.rows]
    return [(key, one, other) for key, one, other in cells if one.number is not None and other.number is not None]


def _mean(rows: Iterable[tuple[Group, dict[str, float]]], name: str) -> float:
    found = [means[name] for _, means in rows if name in means]
    return sum(found) / len(found)
