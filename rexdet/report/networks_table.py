"""The table that answers at a glance: a row a network and checkpoint, with its cost, its AP and its accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rexdet import published
from rexdet.report.costs import RULE, Cost, Latency, single_image
from rexdet.report.facts import RowKey, Setting, Start
from rexdet.report.groups import Group, Groups
from rexdet.report.tables import Cell, Column, Table, TableBuilder, measured, printed, words

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
    """A row for each network and checkpoint; the runs from random weights are a row of their own as well."""
    detection = _columns_of(setting for _, setting, _ in groups.detection)
    transfer = _columns_of(setting for _, setting in groups.transfer)
    builder = TableBuilder(
        "networks", "Networks", [*_FACTS, *_detection_columns(detection), *_transfer(transfer, known)]
    )
    for row in row_keys(groups):
        cells = {**identity_cells(row, _source(groups, row)), **cost_cells(row, groups, known)}
        cells["imagenet"] = _imagenet(row, groups)
        for place, settings in enumerate(detection.values()):
            found = _largest(groups.detection.get((row, setting, start)) for setting in settings for start in _STARTS)
            if found is not None:
                cells[f"ap{place}"] = group_cell(found, "AP")
        for place, settings in enumerate(transfer.values()):
            found = _largest(groups.transfer.get((row, setting)) for setting in settings)
            if found is not None:
                cells[f"transfer{place}"] = group_cell(found, known.metric(found.setting.dataset))
        builder.add(row_id(row), cells)
    builder.notes += [
        f"{RULE}.",
        (
            "A row is a network with one checkpoint, known by its SHA-256: what was done with another file is another "
            "row. ImageNet top-1 is as published for that checkpoint, never ours."
        ),
    ]
    return builder.build()


_STARTS: tuple[Start, ...] = ("full", "frozen", "random")
_FACTS = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint", help="first digits of its SHA-256, and where it came from"),
    Column("parameters", "parameters (M)", "M", help="of the network with its classifier"),
    Column("macs", "MACs (G)", "G", help="of one image at the size of the next column"),
    Column("size", "at px", "px", help="side of the image that MACs were counted for"),
    Column("latency", "latency (ms)", "ms", help="one image, float32; how it was measured stands in its source"),
    Column("imagenet", "ImageNet top-1 (%)", "%", help="as published"),
)


def row_keys(groups: Groups) -> list[RowKey]:
    """Every row there is a number for, by network; a checkpoint before random weights."""
    keys = {row for row, _, _ in groups.detection} | {row for row, _ in groups.transfer}
    return sorted(keys, key=lambda row: (row.network, not row.sha, row.sha))


def row_id(row: RowKey) -> str:
    """The row for links and files."""
    return f"{row.network}@{row.checkpoint}"


def identity_cells(row: RowKey, source: str = "") -> dict[str, Cell]:
    """Who the row is."""
    if not row.sha:
        return {"network": words(row.network), "checkpoint": Cell("random weights", source="random initialisation")}
    tag = source.partition("@")[2] if "@" in source and "/" not in source else ""
    name = f"@{tag} {row.checkpoint}" if tag else row.checkpoint
    return {"network": words(row.network), "checkpoint": Cell(name, source=f"{source}, SHA-256 {row.sha}")}


def cost_cells(row: RowKey, groups: Groups, known: Known) -> dict[str, Cell]:
    """Parameters, MACs and latency, each with how it is known."""
    cells = {}
    cost = known.costs.get(row.network) or _recorded_cost(row, groups)
    if cost is not None:
        source = f"counted, {cost.size} px" if cost.size else "counted by the run, at its own size"
        cells["parameters"] = Cell(f"{cost.parameters / 1e6:.2f}", cost.parameters / 1e6, "ours", None, source)
        cells["macs"] = Cell(f"{cost.macs / 1e9:.3f}", cost.macs / 1e9, "ours", None, source)
        if cost.size:
            cells["size"] = Cell(str(cost.size), float(cost.size))
    fastest = single_image(known.latencies.get(row.network, ()))
    if fastest is not None:
        source = f"{fastest.conditions}; {fastest.source}"
        cells["latency"] = Cell(f"{fastest.milliseconds:.1f}", fastest.milliseconds, "ours", None, source)
    return cells


def group_cell(group: Group, key: str) -> Cell:
    """Mean and interval of a number over the seeds of a group, in per cent."""
    return measured(
        group.by_seed(key), scale=100, source=f"{group.source} ({group.setting.protocol})", runs=group.names
    )


def _recorded_cost(row: RowKey, groups: Groups) -> Cost | None:
    for (key, _), group in groups.transfer.items():
        if key != row:
            continue
        counted = [one.record.metrics.get("network", {}) for one in group.runs]
        if all(numbers.get("macs") and numbers.get("parameters") for numbers in counted):
            # What a search found differs from seed to seed: the largest of its runs.
            parameters, macs = (
                max(float(numbers[name] or 0) for numbers in counted) for name in ("parameters", "macs")
            )
            return Cost(round(parameters), round(macs), 0)
    return None


def _source(groups: Groups, row: RowKey) -> str:
    for key, group in (*groups.detection.items(), *groups.transfer.items()):
        network = group.runs[0].record.network
        if key[0] == row and network is not None and network.source:
            return network.source
    return ""


def _imagenet(row: RowKey, groups: Groups) -> Cell:
    """The published top-1 of the very checkpoint: that of a name with its tag."""
    source = _source(groups, row)
    if not row.sha or "@" not in source or "/" in source:
        return Cell(status="missing")
    found = published.cells(source, task="imagenet", dataset="imagenet-1k", metric="top1")
    if not found:
        return Cell(status="missing")
    best = min(found, key=lambda cell: cell.verified != "verified")
    return printed(best.value, f"{best.value:g}", best.cited())


def _columns_of(settings: Iterable[Setting]) -> dict[str, list[Setting]]:
    """Settings by the title of their column."""
    columns: dict[str, list[Setting]] = {}
    for setting in sorted(set(settings), key=lambda setting: (setting.title, setting.content)):
        columns.setdefault(setting.title, []).append(setting)
    return columns


def _largest(groups: Iterable[Group | None]) -> Group | None:
    """Where one column holds several settings of a row (other numbers of a grid), that of most runs."""
    found = [group for group in groups if group is not None]
    return max(found, key=lambda group: len(group.runs)) if found else None


def _detection_columns(columns: Mapping[str, Sequence[Setting]]) -> list[Column]:
    return [
        Column(f"ap{place}", f"AP (%) {title}", "%", help="box AP, IoU .50 to .95")
        for place, title in enumerate(columns)
    ]


def _transfer(columns: Mapping[str, Sequence[Setting]], known: Known) -> list[Column]:
    return [
        Column(
            f"transfer{place}",
            f"{_METRIC_WORDS[known.metric(settings[0].dataset)]} (%) {title}",
            "%",
            help="accuracy on the test images",
        )
        for place, (title, settings) in enumerate(columns.items())
    ]
