"""One summary of many records: every table that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rexdet.report.costs import count_costs, latencies
from rexdet.report.detection_table import comparison_table, detection_table, transfer_table
from rexdet.report.groups import Groups, group
from rexdet.report.networks_table import Known, networks_table, row_keys
from rexdet.report.other_tables import latency_table, pairs_table, runs_table, searches_table
from rexdet.report.reading import Found, Reading
from rexdet.report.tables import Table

TABLES = ("networks", "detection", "transfer", "published", "pairs", "searches", "latency", "runs")


@dataclass(frozen=True)
class Summary:
    """tables: those that are not empty, by id. notes: what was skipped and left out. The rest lies behind them."""

    tables: dict[str, Table]
    notes: tuple[str, ...]
    reading: Reading
    groups: Groups
    known: Known

    @property
    def runs(self) -> Sequence[Found]:
        """Every run that was read."""
        return self.reading.runs


def summarise_runs(reading: Reading, *, with_partial: bool = False, with_costs: bool = True) -> Summary:
    """Make every table of some runs. with_costs: count parameters and MACs, for which the networks are built."""
    groups = group(reading.runs, with_partial=with_partial)
    known = Known(
        costs=count_costs(row_keys(groups)) if with_costs else {},
        latencies=latencies(reading.runs),
        metrics=_metrics(),
    )
    made = (
        networks_table(groups, known),
        detection_table(groups, known),
        transfer_table(groups, known),
        comparison_table(groups, known),
        pairs_table(groups, known),
        searches_table(groups),
        latency_table(reading.runs),
        runs_table(reading.runs, groups.left_out),
    )
    tables = {table.id: table for table in made if table.rows}
    return Summary(tables, tuple(_notes(reading, groups)), reading, groups, known)


def _metrics() -> dict[str, str]:
    from rexdet.transfer.datasets import DATASETS

    return {name: facts.metric for name, facts in DATASETS.items()}


def _notes(reading: Reading, groups: Groups, most: int = 10) -> list[str]:
    count = len(reading.runs)
    again = f", {reading.repeated:,} more of them again or in an earlier state" if reading.repeated else ""
    notes = [f"{count:,} run{'s' if count != 1 else ''} read{again}."]
    for title, listed in (("skipped", reading.skipped), ("in no table", groups.left_out)):
        notes += [f"{title}: {where}: {why}" for where, why in listed[:most]]
        if len(listed) > most:
            notes.append(f"{title}: {len(listed) - most:,} more (--json and the page list them all)")
    return notes
