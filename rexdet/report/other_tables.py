"""The tables beside the numbers: searches, latencies, every run with its command and machine, pairs of rows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rexdet.report.costs import device_of, latencies
from rexdet.report.facts import row_key
from rexdet.report.groups import Group, Groups
from rexdet.report.networks_table import Known, row_id
from rexdet.report.reading import Found
from rexdet.report.statistics import Comparison, compare_paired, describe, runs_needed
from rexdet.report.tables import MISSING, Cell, Column, Table, TableBuilder, fact, words

# Pairs grow with the square of the rows: beyond this many the rest is left out, and that is said.
MOST_PAIRS = 300
_MOST_RUNS = 10_000
# What of a record's versions explains a number.
_TELLING = ("rexdet", "python", "torch", "torchvision", "detectron2", "mmdet", "mmcv", "mmengine", "numpy", "pillow")


def searches_table(groups: Groups) -> Table:
    """The searches for layer-wise widths: what each found, at which share of the cost."""
    columns = (
        Column("network", "network"),
        Column("data", "data"),
        Column("seed", "seed", "no."),
        Column("macs", "MACs found (G)", "G"),
        Column("baseline", "MACs, network (G)", "G"),
        Column("share", "of the network (%)", "%"),
        Column("parameters", "parameters (M)", "M"),
        Column("minutes", "time (min)", "min"),
        Column("run", "run"),
    )
    builder = TableBuilder("searches", "Searches", columns)
    for one in groups.searches:
        record = one.record
        cost = record.metrics.get("cost", {})
        row = row_key(record)
        train = record.data.train
        builder.add(
            record.name,
            {
                "network": words(record.network.name if row and record.network else None),
                "data": words(train.path if train else None),
                "seed": fact(record.seed),
                "macs": _scaled(cost.get("macs"), 1e-9, 3),
                "baseline": _scaled(cost.get("baseline_macs"), 1e-9, 3),
                "share": _scaled(cost.get("share_of_baseline"), 100, 1),
                "parameters": _scaled(cost.get("parameters"), 1e-6, 2),
                "minutes": _scaled(record.wall_time_s, 1 / 60, 1),
                "run": words(record.name),
            },
        )
    return builder.build()


def latency_table(runs: Sequence[Found]) -> Table:
    """Every measured latency with the conditions that it was measured under."""
    columns = (
        Column("network", "network"),
        Column("device", "device"),
        Column("backend", "back end"),
        Column("dtype", "dtype"),
        Column("batch", "batch", "images"),
        Column("ms", "milliseconds a batch", "ms"),
        Column("run", "from"),
    )
    builder = TableBuilder("latency", "Measured latency", columns)
    for network, found in sorted(latencies(runs).items()):
        for entry in sorted(found, key=lambda entry: (entry.device, entry.batch, entry.dtype, entry.milliseconds)):
            builder.add(
                f"{network} {entry.conditions}",
                {
                    "network": words(network),
                    "device": words(entry.device),
                    "backend": words(entry.backend),
                    "dtype": words(entry.dtype),
                    "batch": fact(float(entry.batch)),
                    "ms": Cell(f"{entry.milliseconds:.2f}", entry.milliseconds, "ours", None, entry.source),
                    "run": words(entry.source),
                },
            )
    if builder.rows:
        builder.notes.append("Medians. Only numbers of one run and one machine may be held against each other.")
    return builder.build()


def runs_table(runs: Sequence[Found], left_out: Sequence[tuple[str, str]]) -> Table:
    """Every run: what was typed, with what, on what; and why a run is in no table."""
    columns = (
        Column("run", "run"),
        Column("kind", "kind"),
        Column("network", "row"),
        Column("seed", "seed", "no."),
        Column("status", "status"),
        Column("out", "in no table, for"),
        Column("selection", "weights"),
        Column("began", "began (UTC)"),
        Column("command", "command"),
        Column("versions", "environment"),
        Column("machine", "machine"),
        Column("events", "to be known"),
        Column("where", "record"),
    )
    reasons = dict(left_out)
    builder = TableBuilder("runs", "Runs", columns)
    for one in runs:
        record = one.record
        row = row_key(record)
        weights = record.evaluated_weights
        builder.add(
            f"{record.name} {one.where}",
            {
                "run": words(record.name),
                "kind": words(record.kind),
                "network": words(row_id(row) if row else None),
                "seed": fact(record.seed),
                "status": words(record.status),
                "out": words(reasons.get(one.where)),
                "selection": words(f"{weights.selection}, {weights.holds}" if weights else None),
                "began": words(f"{record.created:%Y-%m-%d %H:%M}"),
                "command": words(shlex.join(record.command)),
                "versions": words(environment_of(one)),
                "machine": words(device_of(one) if record.hardware else None),
                "events": words("; ".join(event.message for event in record.events)),
                "where": words(one.where),
            },
            of=row_id(row) if row else "",
        )
    return builder.build()


def environment_of(one: Found) -> str:
    """The versions that explain a number, in a line."""
    versions = one.record.versions
    return ", ".join(f"{name} {versions[name]}" for name in _TELLING if name in versions)


def pairs_table(groups: Groups, known: Known) -> Table:
    """Any two rows of one setting: their paired difference, what these runs could have shown, what would settle it."""
    columns = (
        Column("setting", "setting"),
        Column("one", "one"),
        Column("other", "minus the other"),
        Column("difference", "difference (points)", "points"),
        Column("pairs", "pairs", "pairs"),
        Column("p", "p", "p", help="two-sided paired t-test"),
        Column("shown", "shown"),
        Column("smallest", "smallest (points)", "points", help="difference that so many pairs show in 80 of 100 cases"),
        Column("needed", "pairs needed", "pairs", help="to show the observed difference as often, if it is real"),
    )
    builder = TableBuilder("pairs", "Any two rows", columns)
    found = [pair for pair in _pairs(groups, known) if set(pair[3]) & set(pair[4])]
    for title, one, other, ours, theirs in found[:MOST_PAIRS]:
        comparison = compare_paired(ours, theirs)
        builder.add(f"{title} {one} {other}", pair_cells(title, one, other, comparison))
    if builder.rows:
        builder.notes.append(
            "Paired by seed; the intervals are not corrected for how many pairs there are. With a single seed in "
            "common there is a difference and no interval: it could have come by chance."
        )
    if len(found) > MOST_PAIRS:
        builder.notes.append(f"{len(found) - MOST_PAIRS:,} further pairs are left out.")
    return builder.build()


@dataclass(frozen=True)
class Entry:
    """A row in one setting. key: of the number that the setting is about."""

    name: str
    group: Group
    key: str


def entries_by_setting(groups: Groups, known: Known) -> dict[tuple[str, str], list[Entry]]:
    """The rows of each setting, by its title and the images that it is about."""
    settings: dict[tuple[str, str], list[Entry]] = {}
    for (row, setting, start), group in groups.detection.items():
        name = row_id(row) + (" frozen" if start == "frozen" else "")
        settings.setdefault((f"AP {setting.title}", setting.content), []).append(Entry(name, group, "AP"))
    for (row, setting), group in groups.transfer.items():
        # The hash of the configuration may differ where a search chose other numbers: the images must not.
        content = " ".join(setting.content.split()[:2])
        entry = Entry(row_id(row), group, known.metric(setting.dataset))
        settings.setdefault((setting.title, content), []).append(entry)
    return settings


def _pairs(groups: Groups, known: Known) -> list[tuple[str, str, str, dict[object, float], dict[object, float]]]:
    pairs = []
    for (title, _), entries in sorted(entries_by_setting(groups, known).items(), key=lambda item: item[0]):
        points = [(entry.name, _points(entry.group.by_seed(entry.key))) for entry in entries]
        for (one, ours), (other, theirs) in combinations(sorted(points, key=lambda named: named[0]), 2):
            pairs.append((title, one, other, ours, theirs))
    return pairs


def _points(values: dict[object, float]) -> dict[object, float]:
    return {seed: 100 * value for seed, value in values.items()}


def pair_cells(title: str, one: str, other: str, comparison: Comparison, paired: str = "seed") -> dict[str, Cell]:
    """What can be said of two rows: the cells of a table of pairs. paired: what they are paired by."""
    summary = comparison.summary
    is_alone = comparison.p_value is None
    needed = None
    if summary.deviation is not None:
        needed = runs_needed(summary.mean, summary.deviation, most=_MOST_RUNS)
    too_many = MISSING if is_alone else Cell(f"over {_MOST_RUNS:,}", float(_MOST_RUNS + 1))
    return {
        "setting": words(title),
        "one": words(one),
        "other": words(other),
        "difference": Cell(describe(summary), summary.mean, "ours", summary, f"paired by {paired}"),
        "pairs": fact(float(summary.count)),
        "p": MISSING if comparison.p_value is None else Cell(f"{comparison.p_value:.3f}", comparison.p_value),
        "shown": MISSING if is_alone else words("yes" if comparison.is_shown else "no"),
        "smallest": _scaled(comparison.smallest, 1, 2),
        "needed": too_many if needed is None else fact(float(needed)),
    }


def _scaled(value: float | None, scale: float, digits: int) -> Cell:
    return MISSING if value is None else Cell(f"{scale * value:.{digits}f}", scale * value)
