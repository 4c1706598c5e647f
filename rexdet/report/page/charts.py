"""The page's charts of the tables: AP against cost, accuracies with intervals, learning curves, AP of every class.

What is here plans them; rexdet.report.page.plots draws.
"""

from __future__ import annotations

from collections.abc import Iterable

from rexdet.report.page.plans import Palette, Plan, largest, left_out
from rexdet.report.page.plots import Line, Point, intervals, lines, named_numbers, scatter
from rexdet.report.records.facts import Setting
from rexdet.report.records.groups import Group
from rexdet.report.records.logged_losses import logged_losses
from rexdet.report.records.reading import Found
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import group_cell, row_id
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Cell, Table

MOST_LINES = 40
MOST_CLASSES = 100
MOST_ROWS_OF_CLASSES = 8
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
        series = palette.series((row_id(group.row), _whole_name(group)) for group, _ in found)
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
    """AP and losses while training, a line a run."""
    detection = [(row_id(row), one) for (row, _, _), group in summary.groups.detection.items() for one in group.runs]
    transfer = [(row_id(row), one) for (row, _), group in summary.groups.transfer.items() for one in group.runs]
    kinds = (
        ("AP while training (%)", _evaluated(detection, "bbox", "AP", 100)),
        ("Detection: training loss", logged_losses(detection, MOST_LINES)),
        ("Transfer: training loss", _evaluated(transfer, "train", "loss", 1)),
    )
    plans: list[Plan] = []
    for what, every in kinds:
        found = [entry for entry in every if len(entry[1]) > 1]
        if not found:
            continue
        drawn: list[Line] = []
        for row, points in found[:MOST_LINES]:
            # All runs of a row have its colour, and one entry in the legend.
            (series,) = palette.series([(row, row)])
            told = f"{row}: ends at {points[-1][1]:.3g}"
            is_first = all(line.series.row != row for line in drawn)
            named = "" if is_first else None
            drawn.append(Line(series, [x for x, _ in points], [y for _, y in points], told, named=named))
        more = f" {len(found) - MOST_LINES} further runs are not drawn." if len(found) > MOST_LINES else ""
        plans.append(Plan(lines, f"learn{len(plans)}", what, f"{what}, a line a run.{more}", ("step", what), drawn))
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
    names = sorted({name for _, means in shown for name in means}, key=lambda name: _mean(shown, name))
    more = f" The {len(names) - MOST_CLASSES} best are not drawn." if len(names) > MOST_CLASSES else ""
    if len(shown) < len(found):
        more += f" Drawn are the first {len(shown)} of {len(found)} rows."
    caption = f"{title}: AP of every class with ground truth, the worst below.{more}"
    series = palette.series((row_id(group.row), entry_name(group)) for group, _ in shown)
    numbers = [(one, means) for one, (_, means) in zip(series, shown, strict=True)]
    below = "AP of the class (%)"
    return Plan(named_numbers, prefix, f"Classes, {title}", caption, below, names[:MOST_CLASSES], numbers)


def _whole_name(group: Group) -> str:
    mark = group.setting.choice_mark
    return f"{entry_name(group)} ({mark})" if mark else entry_name(group)


def _half(cell: Cell) -> float | None:
    return cell.summary.half_width if cell.summary else None


def _points(table: Table, x: str, y: str) -> list[tuple[str, Cell, Cell]]:
    places = {column.key: place for place, column in enumerate(table.columns)}
    if x not in places or y not in places:
        return []
    cells = [(row.key, row.cells[places[x]], row.cells[places[y]]) for row in table.rows]
    return [(key, one, other) for key, one, other in cells if one.number is not None and other.number is not None]


def _evaluated(
    runs: Iterable[tuple[str, Found]], group: str, key: str, scale: float
) -> list[tuple[str, list[tuple[float, float]]]]:
    found = []
    for row, one in runs:
        points = [
            (float(entry.iteration), scale * value)
            for entry in one.record.evaluations
            if (value := entry.metrics.get(group, {}).get(key)) is not None
        ]
        found.append((row, points))
    return found


def _mean(rows: Iterable[tuple[Group, dict[str, float]]], name: str) -> float:
    found = [means[name] for _, means in rows if name in means]
    return sum(found) / len(found)
