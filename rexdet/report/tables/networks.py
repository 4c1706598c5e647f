"""The table that answers at a glance: a row a network and checkpoint, with its cost, its AP and its accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rexdet import published
from rexdet.report.records.facts import RowKey, Setting
from rexdet.report.records.groups import Group, Groups, is_tagged
from rexdet.report.tables.costs import RULE, Cost, Latency, shown_conditions, single_image
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, measured, printed, words

# Which transfer metric a data set is reported by stands with the data set; a folder of one's own has top-1.
DEFAULT_METRIC = "top1"
_METRIC_WORDS = {"top1": "top-1", "mean_per_class": "mean per class"}


@dataclass(frozen=True)
class Known:
    """What is known of networks beside their runs. costs: by network. latencies: by network. metrics: by data set."""

    costs: Mapping[str, Cost] = field(default_factory=dict)
    latencies: Mapping[str, Sequence[Latency]] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)

    def metric(self, dataset: str) -> str:
        """The metric of a data set: top1 or mean_per_class."""
        return self.metrics.get(dataset.partition(":")[0], DEFAULT_METRIC)


def networks_table(groups: Groups, known: Known) -> Table:
    """A row for each network and checkpoint; the runs from random weights are a row of their own as well.

    AP is that of detectors whose backbone learnt: one that stood still as a whole is in the table of detection alone.
    """
    detection = _columns_of(setting.shared for _, setting, start in groups.detection if start != "frozen")
    transfer = _columns_of(setting for _, setting in groups.transfer)
    places = {("detection", title): f"ap{place}" for place, title in enumerate(detection)}
    places |= {("transfer", title): f"transfer{place}" for place, title in enumerate(transfer)}
    conditions = latency_conditions(groups, known)
    facts = [with_conditions(column, conditions) for column in _FACTS]
    columns = [*facts, *_detection_columns(detection), *_transfer(transfer, known)]
    builder = TableBuilder("networks", "Networks", columns)
    for row in row_keys(groups):
        cells = {**identity_cells(row, groups.sources[row]), **cost_cells(row, groups, known, conditions)}
        cells["imagenet"] = _imagenet(row, groups)
        for column, candidates in _numbers_of(groups.of_row[row]).items():
            found = largest(candidates)
            is_detection = found.setting.task == "detection"
            metric = "AP" if is_detection else known.metric(found.setting.dataset)
            cells[places[column]] = group_cell(found, metric)
        builder.add(row_id(row), cells)
    builder.notes += [
        f"{RULE}.",
        (
            "A row is a network with one checkpoint, known by its SHA-256: what was done with another file is another "
            "row. ImageNet top-1 is as published for that checkpoint, never ours."
        ),
    ]
    if any(setting.variant_mark for _, setting, start in groups.detection if start != "frozen"):
        builder.notes.append(
            "Of a row that was trained with several norms or freezings in one setting, the one of most runs is shown; "
            "the table of detection has them all."
        )
    return builder.build()


_FACTS = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint", help="first digits of its SHA-256, and where it came from"),
    Column("parameters", "parameters (M)", "M", help="of the network with its classifier"),
    Column("macs", "MACs (G)", "G", help="of one image at the size of the next column"),
    Column("size", "at px", "px", help="side of the image that MACs were counted for"),
    Column("latency", "latency (ms)", "ms", help="of the network, one image"),
    Column("imagenet", "ImageNet top-1 (%)", "%", help="as published"),
)


def row_keys(groups: Groups) -> list[RowKey]:
    """Every row there is a number for, by network; a checkpoint before random weights."""
    return sorted(groups.of_row, key=lambda row: (row.network, not row.sha, row.sha))


def row_id(row: RowKey) -> str:
    """The row for links and files."""
    return f"{row.network}@{row.checkpoint}"


def identity_cells(row: RowKey, source: str = "") -> dict[str, Cell]:
    """Who the row is. source: where its checkpoint came from."""
    if not row.sha:
        return {"network": words(row.network), "checkpoint": Cell("random weights", source="random initialisation")}
    tag = source.partition("@")[2] if is_tagged(source) else ""
    name = f"@{tag} {row.checkpoint}" if tag else row.checkpoint
    return {"network": words(row.network), "checkpoint": Cell(name, source=f"{source}, SHA-256 {row.sha}")}


def latency_conditions(groups: Groups, known: Known) -> str:
    """The conditions under which the latencies of all tables were measured: one device, one back end."""
    return shown_conditions(known.latencies, (row.network for row in groups.of_row))


def with_conditions(column: Column, conditions: str) -> Column:
    """The column; that of latencies with device, back end, dtype and batch in its title."""
    is_latency = column.key == "latency" and conditions
    return replace(column, title=f"{column.title}, {conditions}") if is_latency else column


def cost_cells(row: RowKey, groups: Groups, known: Known, conditions: str) -> dict[str, Cell]:
    """Parameters, MACs and latency, each with how it is known. conditions: of the latency."""
    cells = {}
    cost = known.costs.get(row.network) or _recorded_cost(row, groups)
    if cost is not None:
        source = f"counted, {cost.size} px" if cost.size else "counted by the run, at its own size"
        cells["parameters"] = Cell(f"{cost.parameters / 1e6:.2f}", cost.parameters / 1e6, "ours", None, source)
        cells["macs"] = Cell(f"{cost.macs / 1e9:.3f}", cost.macs / 1e9, "ours", None, source)
        if cost.size:
            cells["size"] = Cell(str(cost.size), float(cost.size))
    measured_once = single_image(known.latencies.get(row.network, ()), conditions)
    if measured_once is not None:
        source = f"{measured_once.conditions}; {measured_once.source}"
        milliseconds = measured_once.milliseconds
        cells["latency"] = Cell(f"{milliseconds:.1f}", milliseconds, "ours", None, source)
    return cells


def group_cell(group: Group, key: str) -> Cell:
    """Mean and interval of a number over the seeds of a group, in per cent."""
    setting = group.setting
    told = f"{setting.recipe}; {setting.variant}" if setting.variant else setting.recipe
    return measured(group.values(key), scale=100, source=f"{group.source} ({told})", runs=group.names)


def largest(groups: Sequence[Group]) -> Group:
    """The group of most runs, where one cell could hold several: other numbers of a grid, other norms or freezings.

    Among equals the first, so that no number decides which is shown.
    """
    return max(groups, key=lambda group: len(group.runs))


def _numbers_of(groups: Sequence[Group]) -> dict[tuple[str, str], list[Group]]:
    """A row's groups by the task and title of their column, without those whose backbone stood still."""
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        if group.start != "frozen":
            setting = group.setting.shared
            found.setdefault((setting.task, setting.title), []).append(group)
    return found


def _recorded_cost(row: RowKey, groups: Groups) -> Cost | None:
    for group in groups.of_row[row]:
        counted = [one.record.metrics.get("network", {}) for one in group.runs]
        if all(numbers.get("macs") and numbers.get("parameters") for numbers in counted):
            # What a search found differs from seed to seed: the largest of its runs.
            parameters, macs = (
                max(float(numbers[name] or 0) for numbers in counted) for name in ("parameters", "macs")
            )
            return Cost(round(parameters), round(macs), 0)
    return None


def _imagenet(row: RowKey, groups: Groups) -> Cell:
    """The published top-1 of the very checkpoint: that of a name with its tag."""
    source = groups.sources[row]
    if not row.sha or not is_tagged(source):
        return Cell(status="missing")
    found = published.cells(source, task="imagenet", dataset="imagenet-1k", metric="top1")
    if not found:
        return Cell(status="missing")
    best = min(found, key=lambda cell: cell.verified != "verified")
    return printed(best.value, f"{best.value:g}", best.cited())


def _columns_of(settings: Iterable[Setting]) -> dict[str, Setting]:
    """The settings by the title of their column; of those that differ in a grid's numbers alone the first."""
    columns: dict[str, Setting] = {}
    for setting in sorted(set(settings), key=lambda setting: (setting.title, setting.config)):
        columns.setdefault(setting.title, setting)
    return columns


def _detection_columns(columns: Mapping[str, Setting]) -> list[Column]:
    return [
        Column(
            f"ap{place}",
            f"AP (%) {title}",
            "%",
            help="box AP, IoU .50 to .95",
            family=setting.family,
            dataset=setting.dataset,
        )
        for place, (title, setting) in enumerate(columns.items())
    ]


def _transfer(columns: Mapping[str, Setting], known: Known) -> list[Column]:
    return [
        Column(
            f"transfer{place}",
            f"{_METRIC_WORDS[known.metric(setting.dataset)]} (%) {title}",
            "%",
            help="accuracy on the test images",
            family=setting.family,
            dataset=setting.dataset,
        )
        for place, (title, setting) in enumerate(columns.items())
    ]
