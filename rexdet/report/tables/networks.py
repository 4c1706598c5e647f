"""The table that answers at a glance: a row a network and checkpoint, with its cost, its AP and its accuracies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rexdet import published
from rexdet.report.records.facts import RowKey, Setting
from rexdet.report.records.groups import Group, Groups, draw_of, is_tagged
from rexdet.report.tables.cost_columns import CostColumns, cost_columns
from rexdet.report.tables.costs import Cost, Latency
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, fact, measured, printed, words
from rexdet.runs import Network

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

    def cost_columns(self, groups: Groups) -> CostColumns:
        """The costs of the groups' rows, as every table shows them."""
        return cost_columns(groups, self.costs, self.latencies)


def networks_table(groups: Groups, known: Known) -> Table:
    """A row for each network and checkpoint; the runs from random weights are a row of their own as well.

    AP is that of detectors whose backbone learnt: one that stood still as a whole is in the table of detection alone.
    """
    detection = _columns_of(setting.shared for _, setting, start in groups.detection if start != "frozen")
    transfer = _columns_of(setting for _, setting in groups.transfer)
    places = {("detection", title): f"ap{place}" for place, title in enumerate(detection)}
    places |= {("transfer", title): f"transfer{place}" for place, title in enumerate(transfer)}
    costs = known.cost_columns(groups)
    facts = [costs.titled(column) for column in _FACTS]

    def metric_words(setting: Setting) -> str:
        return _METRIC_WORDS[known.metric(setting.dataset)]

    columns = [
        *facts,
        *_columns(detection, "ap", lambda _: "AP", "box AP, IoU .50 to .95"),
        *_columns(transfer, "transfer", metric_words, "accuracy on the test images"),
    ]
    builder = TableBuilder("networks", "Networks", columns)
    for row in networks_of_rows(groups):
        cells = {**identity_cells(row, groups.sources[row]), **costs.cells(row)}
        cells["imagenet"] = _imagenet(row, groups)
        for column, candidates in _numbers_of(groups.of_row[row]).items():
            found = largest(candidates)
            is_detection = found.setting.task == "detection"
            metric = "AP" if is_detection else known.metric(found.setting.dataset)
            cells[places[column]] = group_cell(found, metric)
        builder.add(row_id(row), cells)
    builder.notes += [
        *costs.notes(),
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
    Column("macs", "MACs (G)", "G", help="of the network, one image"),
    Column("latency", "latency (ms)", "ms", help="of the network, one image"),
    Column("imagenet", "ImageNet top-1 (%)", "%", help="as published"),
)


def networks_of_rows(groups: Groups) -> dict[RowKey, list[Network]]:
    """Every row there is a number for, by network, a checkpoint before random weights; each with its networks.

    They are those that its runs' records tell: one, and in a study one for every width that its runs found.
    """
    networks: dict[RowKey, list[Network]] = {}
    for row in sorted(groups.of_row, key=lambda row: (row.network, not row.sha, row.sha)):
        found = [one.record.network for group in groups.of_row[row] for one in group.runs]
        told = {(network.name, repr(network.overrides)): network for network in found if network is not None}
        networks[row] = list(told.values())
    return networks


def row_id(row: RowKey) -> str:
    """The row for links and files."""
    return f"{row.network}@{row.checkpoint}"


def identity_cells(row: RowKey, source: str = "") -> dict[str, Cell]:
    """Who the row is. source: where its checkpoint came from."""
    if not row.sha:
        return {"network": words(row.network), "checkpoint": Cell("random weights", source="random initialisation")}
    tag = source.partition("@")[2] if is_tagged(source) else ""
    name = f"@{tag} {row.checkpoint}" if tag else row.checkpoint
    told = f"SHA-256 {row.sha}" if row.is_hashed else "whose SHA-256 the run did not record"
    return {"network": words(row.network), "checkpoint": Cell(name, source=f"{source}, {told}")}


def group_cell(group: Group, key: str) -> Cell:
    """Mean and interval of a number over the seeds of a group, in per cent."""
    setting = group.setting
    told = f"{setting.recipe}; {setting.variant}" if setting.variant else setting.recipe
    return measured(group.values(key), scale=100, source=f"{group.source} ({told})", runs=group.names)


def seeds_cell(group: Group) -> Cell:
    """How many seeds (of a folder in folds: folds) a group's numbers are over, a run that tells none being one.

    Of how many runs, its source says: a seed may have run more than once.
    """
    untold = sum(draw_of(one.record) is None for one in group.runs)
    return replace(fact(len(group.seeds) + untold), source=group.source)


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


def _columns(settings: Mapping[str, Setting], key: str, named: Callable[[Setting], str], told: str) -> list[Column]:
    """A column for each setting, by its title. key: that the place follows. named: what is measured. told: its help."""
    return [
        Column(
            f"{key}{place}",
            f"{named(setting)} (%) {title}",
            "%",
            help=told,
            family=setting.family,
            dataset=setting.dataset,
        )
        for place, (title, setting) in enumerate(settings.items())
    ]
