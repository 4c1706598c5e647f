"""The answer at a glance: in each setting the best row, what it costs, and which others may be as good."""

from __future__ import annotations

from collections.abc import Callable

from rexdet.report.records.facts import RowKey
from rexdet.report.records.groups import Groups
from rexdet.report.statistics.intervals import compare_paired
from rexdet.report.tables.entries import Entry, entries_by_setting
from rexdet.report.tables.networks import Known, cost_cells, group_cell, latency_conditions, with_conditions
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, fact, words

MOST_NAMED = 6


def answers_table(groups: Groups, known: Known) -> Table:
    """A row for each setting in which two or more rows have a number."""
    conditions = latency_conditions(groups, known)
    columns = (
        Column("setting", "setting"),
        Column("best", "best"),
        Column("value", "its value (%)", "%"),
        Column("runs", "runs", "runs"),
        Column("macs", "its MACs (G)", "G"),
        with_conditions(Column("latency", "its latency (ms)", "ms"), conditions),
        Column(
            "others", "not shown to be worse", help="their paired difference, over seeds, is not shown to be below 0"
        ),
        Column("cheapest", "the cheapest of all these", help="by MACs"),
        Column("cheapest_macs", "its MACs (G)", "G"),
        Column("compared", "rows", "rows"),
    )
    builder = TableBuilder("answers", "Which one?", columns)
    for title, ranked in entries_by_setting(groups, known).items():
        if len(ranked) > 1:
            builder.add(title, _answer(title, ranked, lambda row: cost_cells(row, groups, known, conditions)))
    if builder.rows:
        builder.notes.append(
            "Best: the highest mean. Others stand beside it where their paired difference over seeds is not shown to "
            "be below 0, or where fewer than two seeds are shared or the differences do not vary, so that nothing can "
            "be said. The table of any two rows has the numbers, and how many seeds would settle it."
        )
    return builder.build()


def _answer(title: str, ranked: list[Entry], cost_of: Callable[[RowKey], dict[str, Cell]]) -> dict[str, Cell]:
    best, *others = ranked
    equals = [entry for entry in others if not _is_worse(entry, best)]
    named = ", ".join(entry.name for entry in equals[:MOST_NAMED])
    more = f" and {len(equals) - MOST_NAMED} more" if len(equals) > MOST_NAMED else ""
    costs = {entry.name: cost_of(entry.group.row) for entry in (best, *equals)}
    counted = [(cells["macs"].number, name) for name, cells in costs.items() if "macs" in cells]
    cheapest = min(counted, key=lambda pair: pair[0] or 0.0)[1] if len(counted) == len(costs) else None
    return {
        "setting": words(title),
        "best": words(best.name),
        "value": group_cell(best.group, best.key),
        "runs": fact(len(best.group.runs)),
        "macs": costs[best.name].get("macs", MISSING),
        "latency": costs[best.name].get("latency", MISSING),
        "others": words(named + more or "none"),
        "cheapest": words(cheapest),
        "cheapest_macs": costs[cheapest]["macs"] if cheapest else MISSING,
        "compared": fact(len(ranked)),
    }


def _is_worse(one: Entry, best: Entry) -> bool:
    """Whether the paired difference shows it; never where fewer than two seeds are shared.

    The best by its mean may be the worse one over the seeds that both have.
    """
    ours, theirs = one.group.by_seed(one.key), best.group.by_seed(best.key)
    if len(ours.keys() & theirs.keys()) < 2:
        return False
    comparison = compare_paired(ours, theirs)
    return comparison.is_shown and comparison.summary.mean < 0.0
