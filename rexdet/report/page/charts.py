"""The page's charts: AP against cost, accuracies with intervals, learning curves, classes, precision over recall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace

from rexdet.report.page.drawing import (
    Chart,
    as_svg,
    label,
    legend,
    logarithmic,
    mark,
    names_along_y,
    new_figure,
    point,
    series_colour,
    series_marker,
)
from rexdet.report.records.facts import Setting
from rexdet.report.records.groups import Group
from rexdet.report.records.logged_losses import logged_losses
from rexdet.report.records.reading import Found
from rexdet.report.records.saved import Saved, curves
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import row_id
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Cell, Table

MOST_LINES = 40
MOST_CLASSES = 100
MOST_ROWS_OF_CLASSES = 8
# More charts of one kind than that nobody looks at; the tables have every setting.
MOST_SETTINGS = 12
_COSTS = (
    ("macs", "MACs (G)"),
    ("parameters", "parameters (M)"),
    ("latency", "latency, one image (ms)"),
)


def cost_charts(summary: Summary) -> list[Chart]:
    """AP, and the accuracy of each transfer setting, against MACs, parameters and latency."""
    table = summary.networks
    numbers = {
        column.title: table.numbers(column.key) for column in table.columns if column.key.startswith(("ap", "transfer"))
    }
    keys = {column.title: column.key for column in table.columns}
    charts: list[Chart] = []
    for what in _largest(numbers):
        for key, title in _COSTS:
            points = _points(table, key, keys[what])
            # Rows of one network alone have one cost.
            if len({x.number for _, x, _ in points}) > 1:
                charts.append(_scatter(f"cost{len(charts)}", what, title, points, _conditions(table, key)))
    return _told(charts, numbers)


def transfer_charts(summary: Summary) -> list[Chart]:
    """For each data set and protocol: every row with its interval."""
    columns: dict[str, list[tuple[Group, Cell]]] = {}
    for (_, setting), group in summary.groups.transfer.items():
        cell = _cell(group, summary.known.metric(setting.dataset))
        if cell is not None:
            columns.setdefault(setting.title, []).append((group, cell))
    shown = _largest(columns)
    return _told([_intervals(f"transfer{place}", title, columns[title]) for place, title in enumerate(shown)], columns)


def learning_charts(summary: Summary) -> list[Chart]:
    """AP and losses while training, a line a run."""
    detection = [(row_id(row), one) for (row, _, _), group in summary.groups.detection.items() for one in group.runs]
    transfer = [(row_id(row), one) for (row, _), group in summary.groups.transfer.items() for one in group.runs]
    charts = [
        _lines("learn0", "AP while training (%)", "step", _evaluated(detection, "bbox", "AP", 100)),
        _lines("learn1", "Detection: training loss", "step", logged_losses(detection, MOST_LINES)),
        _lines("learn2", "Transfer: training loss", "step", _evaluated(transfer, "train", "loss", 1)),
    ]
    return [chart for chart in charts if chart is not None]


def class_charts(summary: Summary) -> list[Chart]:
    """AP of every class, for each detection setting."""
    settings: dict[Setting, list[Group]] = {}
    for (_, setting, start), group in summary.groups.detection.items():
        if start != "frozen":
            settings.setdefault(setting.shared, []).append(group)
    charts: list[Chart] = []
    for setting, groups in settings.items():
        found = [(group, means) for group in groups if (means := class_means(group))]
        if found:
            charts.append(_classes(f"class{len(charts)}", setting.title, found))
    return charts


def recall_charts(saved: Sequence[Saved]) -> list[Chart]:
    """Precision over recall at IoU .50 and .75, for each detection setting."""
    return [_recalls(f"recall{place}", title, found) for place, (title, found) in enumerate(by_setting(saved).items())]


def by_setting(saved: Sequence[Saved]) -> dict[str, list[Saved]]:
    """Saved runs by the title of their setting, in the order in which they come."""
    settings: dict[str, list[Saved]] = {}
    for one in saved:
        settings.setdefault(one.setting.title, []).append(one)
    return settings


def class_means(group: Group) -> dict[str, float]:
    """AP of each class in per cent, mean over the runs; classes without ground truth are left out."""
    found: dict[str, list[float]] = {}
    for one in group.runs:
        for name, numbers in one.record.per_class.get("bbox", {}).items():
            if numbers.get("AP") is not None:
                found.setdefault(name, []).append(100 * float(numbers["AP"] or 0.0))
    return {name: sum(values) / len(values) for name, values in found.items() if len(values) == len(group.runs)}


def _scatter(prefix: str, what: str, against: str, points: list[tuple[str, Cell, Cell]], conditions: str) -> Chart:
    figure, axes = new_figure()
    for place, (row, x, y) in enumerate(points):
        half = y.summary.half_width if y.summary else None
        drawn = point(
            axes,
            x.number or 0.0,
            y.number or 0.0,
            half,
            along="y",
            marker=series_marker(place),
            colour=series_colour(place),
            name=row,
        )
        mark(drawn, row, f"{row}: {y.text} at {x.text}")
    if min(x.number or 0 for _, x, _ in points) > 0 and _spread(x.number or 0 for _, x, _ in points) > 8:
        logarithmic(axes)
    axes.set_xlabel(label(against))
    axes.set_ylabel(label(what if len(what) < 42 else f"{what[:40]}…"))
    legend(figure, axes, len(points))
    caption = f"{what} against {against}. Bars: 95% interval over seeds.{conditions}"
    return Chart(f"{what} / {against}", caption, as_svg(figure, prefix, caption), tuple(row for row, _, _ in points))


def _intervals(prefix: str, title: str, found: list[tuple[Group, Cell]]) -> Chart:
    found = sorted(found, key=lambda entry: entry[1].number or 0.0)
    figure, axes = new_figure(height=max(1.6, 0.9 + 0.24 * len(found)))
    for place, (group, cell) in enumerate(found):
        half = cell.summary.half_width if cell.summary else None
        drawn = point(axes, cell.number or 0.0, place, half, along="x", marker="o", colour=series_colour(0))
        mark(drawn, row_id(group.row), f"{entry_name(group)}: {cell.text}")
    names_along_y(axes, [entry_name(group) for group, _ in found])
    axes.set_xlabel("accuracy on the test images (%)")
    caption = f"{title}: mean and 95% interval over seeds; a single run has no interval."
    return Chart(title, caption, as_svg(figure, prefix, caption), tuple(row_id(group.row) for group, _ in found))


def _lines(prefix: str, what: str, along: str, found: list[tuple[str, list[tuple[float, float]]]]) -> Chart | None:
    found = [entry for entry in found if len(entry[1]) > 1]
    if not found:
        return None
    figure, axes = new_figure()
    places = {row: place for place, row in enumerate(dict.fromkeys(row for row, _ in found))}
    named: set[str] = set()
    for row, points in found[:MOST_LINES]:
        (drawn,) = axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=series_colour(places[row]),
            linewidth=1.2,
            alpha=0.8,
            label=None if row in named else label(row),
        )
        named.add(row)
        mark(drawn, row, f"{row}: ends at {points[-1][1]:.3g}")
    axes.set_xlabel(along)
    axes.set_ylabel(what)
    legend(figure, axes, len(places))
    more = f" {len(found) - MOST_LINES} further runs are not drawn." if len(found) > MOST_LINES else ""
    caption = f"{what}, a line a run.{more}"
    return Chart(what, caption, as_svg(figure, prefix, caption), tuple(places))


def _classes(prefix: str, title: str, found: list[tuple[Group, dict[str, float]]]) -> Chart:
    drawn_rows = found[:MOST_ROWS_OF_CLASSES]
    names = sorted({name for _, means in drawn_rows for name in means}, key=lambda name: _mean(drawn_rows, name))
    left_out = len(names) - MOST_CLASSES
    names = names[:MOST_CLASSES]
    figure, axes = new_figure(height=max(1.8, 1.0 + 0.19 * len(names)))
    for place, (group, means) in enumerate(drawn_rows):
        shown = [(means[name], at) for at, name in enumerate(names) if name in means]
        (drawn,) = axes.plot(
            [x for x, _ in shown],
            [y for _, y in shown],
            series_marker(place),
            color=series_colour(place),
            markersize=4,
            label=label(entry_name(group)),
        )
        mark(drawn, row_id(group.row), entry_name(group))
    names_along_y(axes, names, 22)
    axes.set_xlabel("AP of the class (%)")
    legend(figure, axes, len(drawn_rows))
    more = f" The {left_out} best are not drawn." if left_out > 0 else ""
    if len(drawn_rows) < len(found):
        more += f" Drawn are the first {len(drawn_rows)} of {len(found)} rows."
    caption = f"{title}: AP of every class with ground truth, the worst below.{more}"
    rows = tuple(row_id(group.row) for group, _ in drawn_rows)
    return Chart(f"Classes, {title}", caption, as_svg(figure, prefix, caption), rows)


def _recalls(prefix: str, title: str, found: list[Saved]) -> Chart:
    figure, axes = new_figure()
    rows = []
    for place, one in enumerate(found):
        row = row_id(one.row)
        rows.append(row)
        for curve, style in zip(curves(one), ("-", "--"), strict=False):
            (drawn,) = axes.plot(
                curve.recall,
                curve.precision,
                style,
                color=series_colour(place),
                linewidth=1.4,
                label=label(f"{row}, IoU {curve.threshold:.2f}"),
            )
            mark(drawn, row, f"{row}, IoU {curve.threshold:.2f}: mean {curve.precision.mean():.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision, mean over classes")
    legend(figure, axes, 2 * len(found))
    caption = f"{title}: precision over recall of one run a row, IoU .50 (line) and .75 (dashes)."
    return Chart(f"Precision and recall, {title}", caption, as_svg(figure, prefix, caption), tuple(rows))


def _largest(settings: Mapping[str, Sized]) -> list[str]:
    """The settings that most rows have, in their own order; all where they are few."""
    kept = set(sorted(settings, key=lambda name: -len(settings[name]))[:MOST_SETTINGS])
    return [name for name in settings if name in kept]


def _told(charts: list[Chart], settings: Mapping[str, Sized]) -> list[Chart]:
    """The charts, of which the first says that some settings have none."""
    if len(settings) <= MOST_SETTINGS or not charts:
        return charts
    more = f" Drawn are the {MOST_SETTINGS} settings that most rows have; the tables have all {len(settings)}."
    return [replace(charts[0], caption=charts[0].caption + more), *charts[1:]]


def _points(table: Table, x: str, y: str) -> list[tuple[str, Cell, Cell]]:
    places = {column.key: place for place, column in enumerate(table.columns)}
    if x not in places or y not in places:
        return []
    cells = [(row.key, row.cells[places[x]], row.cells[places[y]]) for row in table.rows]
    return [(key, one, other) for key, one, other in cells if one.number is not None and other.number is not None]


def _conditions(table: Table, key: str) -> str:
    if key != "latency":
        return ""
    place = [column.key for column in table.columns].index("latency")
    sources = dict.fromkeys(row.cells[place].source.partition(";")[0] for row in table.rows if row.cells[place].text)
    return f" Measured: {'; '.join(sources)}."


def _cell(group: Group, metric: str) -> Cell | None:
    from rexdet.report.tables.networks import group_cell

    cell = group_cell(group, metric)
    return cell if cell.number is not None else None


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


def _spread(values: Iterable[float]) -> float:
    numbers = list(values)
    return max(numbers) / min(numbers) if min(numbers) else 1.0
