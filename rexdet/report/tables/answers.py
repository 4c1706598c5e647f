"""The answer at a glance: in each setting the best row, what it costs, and which others may be as good."""

from __future__ import annotations

from collections.abc import Sequence

from rexdet.report.records.groups import Groups
from rexdet.report.statistics.intervals import compare_paired
from rexdet.report.tables.cost_columns import CostColumns
from rexdet.report.tables.entries import Entry, entries_by_setting
from rexdet.report.tables.networks import Known, group_cell, seeds_cell
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, fact, words

MOST_NAMED = 6


def answers_table(groups: Groups, known: Known) -> Table:
    """A row for each setting in which two or more rows have a number."""
    costs = known.cost_columns(groups)
    columns = (
        Column("setting", "setting"),
        Column("best", "best"),
        Column("value", "its value (%)", "%"),
        Column("seeds", "seeds", "seeds", help="that its value is over"),
        Column("macs", "MACs of the best (G)", "G"),
        Column("latency", "latency of the best (ms)", "ms"),
        Column(
            "others", "not shown to be worse", help="their paired difference, over seeds, is not shown to be below 0"
        ),
        Column("cheapest", "the cheapest of all these", help="by MACs, where all were counted for one size of image"),
        Column("cheapest_macs", "MACs of the cheapest (G)", "G"),
        Column("compared", "rows", "rows"),
    )
    builder = TableBuilder("answers", "Which one?", [costs.titled(column) for column in columns])
    for title, ranked in entries_by_setting(groups, known).items():
        if len(ranked) > 1:
            builder.add(title, _answer(title, ranked, costs))
    if builder.rows:
        builder.notes.append(
            "Best: the highest mean. Others stand beside it where their paired difference over seeds is not shown to "
            "be below 0, or where fewer than two seeds are shared or the differences do not vary, so that nothing can "
            "be said. The table of any two rows has the numbers, and how many seeds would settle it."
        )
    return builder.build()


def _answer(title: str, ranked: list[Entry], costs: CostColumns) -> dict[str, Cell]:
    best, *others = ranked
    equals = [entry for entry in others if not _is_worse(entry, best)]
    named = ", ".join(entry.name for entry in equals[:MOST_NAMED])
    more = f" and {len(equals) - MOST_NAMED} more" if len(equals) > MOST_NAMED else ""
    told = costs.cells(best.group.row)
    return {
        "setting": words(title),
        "best": words(best.name),
        "value": group_cell(best.group, best.key),
        "seeds": seeds_cell(best.group),
        "macs": told.get("macs", MISSING),
        "latency": told.get("latency", MISSING),
        "others": words(named + more or "none"),
        **_cheapest((best, *equals), costs),
        "compared": fact(len(ranked)),
    }


def _cheapest(entries: Sequence[Entry], costs: CostColumns) -> dict[str, Cell]:
    """The entry of fewest MACs, where all were counted by one rule: whoever has a smaller image has fewer of them."""
    rule = costs.shared_rule([entry.group.row for entry in entries])
    counted = [(cost.macs, entry) for entry in entries if (cost := costs.by_rule(entry.group.row, rule))]
    if len(counted) < len(entries):
        return {"cheapest": Cell(status="missing", source="not all of these were counted for one image and classifier")}
    _, cheapest = min(counted, key=lambda pair: pair[0])
    return {
        "cheapest": words(cheapest.name),
        "cheapest_macs": costs.cells(cheapest.group.row).get("macs", MISSING),
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
