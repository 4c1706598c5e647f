"""The page's charts: AP against cost, accuracies with intervals, learning curves, classes, precision over recall."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rexdet.report.drawing import Chart, as_svg, legend, mark, new_figure, series_colour, series_marker, shortened
from rexdet.report.facts import RowKey, Setting
from rexdet.report.groups import Group
from rexdet.report.networks_table import row_id
from rexdet.report.reading import Found
from rexdet.report.saved import Saved, curves
from rexdet.report.summary import Summary
from rexdet.report.tables import Cell, Table

MOST_LINES = 40
MOST_CLASSES = 100
_COSTS = (
    ("macs", "MACs of the backbone (G)"),
    ("parameters", "parameters of the backbone (M)"),
    ("latency", "latency of the backbone, one image (ms)"),
)
_STEPS_FILE = "steps.jsonl"
_POINTS = 120


def cost_charts(summary: Summary) -> list[Chart]:
    """AP, and the accuracy of each transfer setting, against MACs, parameters and latency."""
    table = summary.networks
    numbers = [column for column in table.columns if column.key.startswith(("ap", "transfer"))]
    charts: list[Chart] = []
    for column in numbers:
        for key, title in _COSTS:
            points = _points(table, key, column.key)
            # Rows of one network alone have one cost.
            if len({x.number for _, x, _ in points}) > 1:
                charts.append(_scatter(f"cost{len(charts)}", column.title, title, points, _conditions(table, key)))
    return charts


def transfer_charts(summary: Summary) -> list[Chart]:
    """For each data set and protocol: every row with its interval."""
    columns: dict[str, list[tuple[str, Cell]]] = {}
    for (row, setting), group in summary.groups.transfer.items():
        cell = _cell(group, summary.known.metric(setting.dataset))
        if cell is not None:
            columns.setdefault(setting.title, []).append((row_id(row), cell))
    return [_intervals(f"transfer{place}", title, found) for place, (title, found) in enumerate(columns.items())]


def learning_charts(summary: Summary) -> list[Chart]:
    """AP and losses while training, a line a run."""
    detection = [(row_id(row), one) for (row, _, _), group in summary.groups.detection.items() for one in group.runs]
    transfer = [(row_id(row), one) for (row, _), group in summary.groups.transfer.items() for one in group.runs]
    charts = [
        _lines("learn0", "AP while training (%)", "step", _evaluated(detection, "bbox", "AP", 100)),
        _lines("learn1", "Detection: training loss", "step", _losses(detection)),
        _lines("learn2", "Transfer: training loss", "step", _evaluated(transfer, "train", "loss", 1)),
    ]
    return [chart for chart in charts if chart is not None]


def class_charts(summary: Summary) -> list[Chart]:
    """AP of every class, for each detection setting."""
    settings: dict[Setting, list[tuple[RowKey, Group]]] = {}
    for (row, setting, start), group in summary.groups.detection.items():
        if start != "frozen":
            settings.setdefault(setting, []).append((row, group))
    charts: list[Chart] = []
    for setting, rows in settings.items():
        values = {row_id(row): class_means(group) for row, group in rows[:8]}
        if any(values.values()):
            charts.append(_classes(f"class{len(charts)}", setting.title, values))
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
        drawn = axes.errorbar(
            [x.number],
            [y.number],
            yerr=None if half is None else [half],
            fmt=series_marker(place),
            color=series_colour(place),
            capsize=3,
            markersize=6,
            label=row,
        )
        mark(drawn.lines[0], row, f"{row}: {y.text} at {x.text}")
    if min(x.number or 0 for _, x, _ in points) > 0 and _spread(x.number or 0 for _, x, _ in points) > 8:
        axes.set_xscale("log")
    axes.set_xlabel(against)
    axes.set_ylabel(what if len(what) < 42 else f"{what[:40]}…")
    legend(figure, axes, len(points))
    caption = f"{what} against {against}. Bars: 95% interval over seeds.{conditions}"
    return Chart(f"{what} / {against}", caption, as_svg(figure, prefix, caption), tuple(row for row, _, _ in points))


def _intervals(prefix: str, title: str, found: list[tuple[str, Cell]]) -> Chart:
    found = sorted(found, key=lambda entry: entry[1].number or 0.0)
    figure, axes = new_figure(height=max(1.6, 0.9 + 0.24 * len(found)))
    for place, (row, cell) in enumerate(found):
        half = cell.summary.half_width if cell.summary else None
        drawn = axes.errorbar(
            [cell.number],
            [place],
            xerr=None if half is None else [half],
            fmt="o",
            color=series_colour(0),
            capsize=3,
            markersize=5,
        )
        mark(drawn.lines[0], row, f"{row}: {cell.text}")
    axes.set_yticks(range(len(found)), shortened([row for row, _ in found]))
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.set_xlabel("accuracy on the test images (%)")
    caption = f"{title}: mean and 95% interval over seeds; a single run has no interval."
    return Chart(title, caption, as_svg(figure, prefix, caption), tuple(row for row, _ in found))


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
            label=None if row in named else row,
        )
        named.add(row)
        mark(drawn, row, f"{row}: ends at {points[-1][1]:.3g}")
    axes.set_xlabel(along)
    axes.set_ylabel(what)
    legend(figure, axes, len(places))
    more = f" {len(found) - MOST_LINES} further runs are not drawn." if len(found) > MOST_LINES else ""
    caption = f"{what}, a line a run.{more}"
    return Chart(what, caption, as_svg(figure, prefix, caption), tuple(places))


def _classes(prefix: str, title: str, values: dict[str, dict[str, float]]) -> Chart:
    names = sorted({name for found in values.values() for name in found}, key=lambda name: _mean(values, name))
    left_out = len(names) - MOST_CLASSES
    names = names[:MOST_CLASSES]
    figure, axes = new_figure(height=max(1.8, 1.0 + 0.19 * len(names)))
    for place, (row, found) in enumerate(values.items()):
        shown = [(found[name], at) for at, name in enumerate(names) if name in found]
        (drawn,) = axes.plot(
            [x for x, _ in shown],
            [y for _, y in shown],
            series_marker(place),
            color=series_colour(place),
            markersize=4,
            label=row,
        )
        mark(drawn, row, row)
    axes.set_yticks(range(len(names)), shortened(names, 22))
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel("AP of the class (%)")
    legend(figure, axes, len(values))
    more = f" The {left_out} best are not drawn." if left_out > 0 else ""
    caption = f"{title}: AP of every class with ground truth, the worst below.{more}"
    return Chart(f"Classes, {title}", caption, as_svg(figure, prefix, caption), tuple(values))


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
                label=f"{row}, IoU {curve.threshold:.2f}",
            )
            mark(drawn, row, f"{row}, IoU {curve.threshold:.2f}: mean {curve.precision.mean():.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision, mean over classes")
    legend(figure, axes, 2 * len(found))
    caption = f"{title}: precision over recall of one run a row, IoU .50 (line) and .75 (dashes)."
    return Chart(f"Precision and recall, {title}", caption, as_svg(figure, prefix, caption), tuple(rows))


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
    from rexdet.report.networks_table import group_cell

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


def _losses(runs: Iterable[tuple[str, Found]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """The sum of the loss terms that a detection run has logged, as means of equal stretches."""
    found = []
    for row, one in runs:
        if one.folder is None or not (one.folder / _STEPS_FILE).is_file():
            continue
        logged: list[tuple[float, float]] = []
        for line in (one.folder / _STEPS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            entry = _loss(line)
            if entry is not None:
                logged.append(entry)
        found.append((row, _thinned(logged)))
        if len(found) == MOST_LINES:
            break
    return found


def _loss(line: str) -> tuple[float, float] | None:
    try:
        values = json.loads(line)
        return float(values["step"]), float(sum(values["losses"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        # The last line of a run that was killed may be cut.
        return None


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, -(-len(points) // _POINTS))
    parts = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _mean(values: dict[str, dict[str, float]], name: str) -> float:
    found = [one[name] for one in values.values() if name in one]
    return sum(found) / len(found)


def _spread(values: Iterable[float]) -> float:
    numbers = list(values)
    return max(numbers) / min(numbers) if min(numbers) else 1.0
