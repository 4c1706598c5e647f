"""One summary of many records: every table that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from rexdet.report.records.groups import Groups, group
from rexdet.report.records.reading import Found, Reading
from rexdet.report.records.saved import Saved, saved_runs
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.costs import count_costs, latencies
from rexdet.report.tables.detection import comparison_table, detection_table, transfer_table
from rexdet.report.tables.names import TABLES
from rexdet.report.tables.networks import Known, networks_of_rows, networks_table
from rexdet.report.tables.over_networks import correlations_table, ranks_table
from rexdet.report.tables.protocols import protocols_table
from rexdet.report.tables.row_pairs import overall_table, pairs_table
from rexdet.report.tables.runs import latency_table, runs_table, searches_table
from rexdet.report.tables.table import Table
from rexdet.transfer.metrics import METRICS

# What rests on saved detections where there are none.
_NOTHING = Table("details", "", (), ())


@dataclass(frozen=True)
class Summary:
    """Many records, sorted. notes: what was skipped and left out. The tables are made when they are asked for."""

    notes: tuple[str, ...]
    reading: Reading
    groups: Groups
    known: Known
    resamples: int = 1000
    beta: float = 1.0

    @property
    def runs(self) -> Sequence[Found]:
        """Every run that was read."""
        return self.reading.runs

    @cached_property
    def networks(self) -> Table:
        """The table of networks, which others rest on."""
        return networks_table(self.groups, self.known)

    @cached_property
    def saved(self) -> tuple[list[Saved], list[str]]:
        """The saved detections of one run a row, scored again; and why those of others are not there."""
        return saved_runs(self.groups)

    def table(self, name: str) -> Table:
        """A table of TABLES; one without rows where there is nothing to tell. Raises KeyError for another name."""
        makers: dict[str, Callable[[], Table]] = {
            "answers": lambda: answers_table(self.groups, self.known),
            "networks": lambda: self.networks,
            "detection": lambda: detection_table(self.groups, self.known),
            "transfer": lambda: transfer_table(self.groups, self.known),
            "published": lambda: comparison_table(self.groups, self.known),
            "protocols": lambda: protocols_table(self.groups),
            "ranks": lambda: ranks_table(self.networks),
            "correlations": lambda: correlations_table(self.networks),
            "pairs": lambda: pairs_table(self.groups, self.known),
            "overall": lambda: overall_table(self.networks),
            "intervals": self._intervals,
            "errors": self._errors,
            "thresholds": self._thresholds,
            "searches": lambda: searches_table(self.groups),
            "latency": lambda: latency_table(self.runs),
            "runs": lambda: runs_table(self.runs, self.groups.left_out),
        }
        return makers[name]()

    def _intervals(self) -> Table:
        if not self.saved[0] or not self.resamples:
            return _NOTHING
        # Not above: these rooms import scipy.stats, which takes a second.
        from rexdet.report.tables.details import intervals_table

        return intervals_table(self.saved[0], resamples=self.resamples)

    def _errors(self) -> Table:
        if not self.saved[0]:
            return _NOTHING
        from rexdet.report.tables.details import errors_table

        return errors_table(self.saved[0])

    def _thresholds(self) -> Table:
        if not self.saved[0]:
            return _NOTHING
        from rexdet.report.tables.details import thresholds_table

        return thresholds_table(self.saved[0], beta=self.beta)

    def filled(self, names: Sequence[str] = TABLES) -> list[Table]:
        """Those of the named tables that have rows."""
        return [table for table in map(self.table, names) if table.rows]


def summarise_runs(
    reading: Reading,
    *,
    with_partial: bool = False,
    with_costs: bool = True,
    resamples: int = 1000,
    beta: float = 1.0,
) -> Summary:
    """Sort some runs. with_costs: count parameters and MACs, for which the networks are built. resamples: of the images
    for the table `intervals`; 0: none. beta: of the F-beta that the table `thresholds` is for.
    """
    groups = group(reading.runs, with_partial=with_partial)
    known = Known(
        costs=count_costs(networks_of_rows(groups)) if with_costs else {},
        latencies=latencies(reading.runs),
        metrics=METRICS,
    )
    return Summary(tuple(_notes(reading, groups)), reading, groups, known, resamples, beta)


def _notes(reading: Reading, groups: Groups, most: int = 10) -> list[str]:
    count = len(reading.runs)
    again = f", {reading.repeated:,} more of them again or in an earlier state" if reading.repeated else ""
    notes = [f"{count:,} run{'s' if count != 1 else ''} read{again}."]
    for title, listed in (("skipped", reading.skipped), ("in no table", groups.left_out)):
        reasons: dict[str, list[str]] = {}
        for where, why in listed:
            reasons.setdefault(why, []).append(where)
        for why, places in list(reasons.items())[:most]:
            more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
            notes.append(f"{title}: {places[0]}{more}: {why}")
        if len(reasons) > most:
            notes.append(f"{title}: {len(reasons) - most:,} further reasons (--json lists them all)")
    return notes
