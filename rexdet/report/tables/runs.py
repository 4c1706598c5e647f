"""The tables beside the numbers: searches, latencies, every run with its command and machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rexdet.report.records.facts import row_key
from rexdet.report.records.groups import Groups
from rexdet.report.records.reading import Found
from rexdet.report.tables.costs import device_of, latencies
from rexdet.report.tables.networks import row_id
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, fact, number_in_order, scaled, words

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
                "seed": number_in_order(record.seed),
                "macs": scaled(cost.get("macs"), 1e-9, 3),
                "baseline": scaled(cost.get("baseline_macs"), 1e-9, 3),
                "share": scaled(cost.get("share_of_baseline"), 100, 1),
                "parameters": scaled(cost.get("parameters"), 1e-6, 2),
                "minutes": scaled(record.wall_time_s, 1 / 60, 1),
                "run": words(record.name),
            },
        )
    return builder.build()


def latency_table(runs: Sequence[Found]) -> Table:
    """Every measured latency of runs that are done, with the conditions that it was measured under."""
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
                    "batch": fact(entry.batch),
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
                "seed": number_in_order(record.seed),
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
