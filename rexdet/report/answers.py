"""The answer at a glance: in each setting the best row, what it costs, and which others may be as good."""

from __future__ import annotations

from rexdet.report.groups import Group, Groups
from rexdet.report.networks_table import Known, cost_cells, group_cell
from rexdet.report.row_pairs import Entry, entries_by_setting
from rexdet.report.statistics import compare_paired
from rexdet.report.tables import MISSING, Cell, Column, Table, TableBuilder, fact, words

MOST_NAMED = 6


def answers_table(groups: Groups, known: Known) -> Table:
    """A row for each setting in which two or more rows have a number."""
    columns = (
        Column("setting", "setting"),
        Column("best", "best"),
        Column("value", "its value (%)", "%"),
        Column("runs", "runs", "runs"),
        Column("macs", "its MACs (G)", "G"),
        Column("latency", "its latency (ms)", "ms"),
        Column("others", "not shown to be worse", help="their paired difference, over seeds, has an interval with 0"),
        Column("cheapest", "the cheapest of all these", help="by MACs"),
        Column("cheapest_macs", "its MACs (G)", "G"),
        Column("compared", "rows", "rows"),
    )
    builder = TableBuilder("answers", "Which one?", columns)
    for (title, _), entries in sorted(entries_by_setting(groups, known).items(), key=lambda item: item[0]):
        valued = [(group_cell(entry.group, entry.key).number, entry) for entry in entries]
        ranked = sorted(((value, entry) for value, entry in valued if value is not None), key=lambda pair: -pair[0])
        if len(ranked) > 1:
            builder.add(title, _answer(title, [entry for _, entry in ranked], groups, known))
    if builder.rows:
        builder.notes.append(
            "Best: the highest mean. Others stand beside it where their paired difference over seeds does not leave 0 "
            "out, or where fewer than two seeds are shared, so that nothing can be said. The table of any two rows "
            "has the numbers, and how many seeds would settle it."
        )
    return builder.build()


def _answer(title: str, ranked: list[Entry], groups: Groups, known: Known) -> dict[str, Cell]:
    best, *others = ranked
    equals = [entry for entry in others if not _is_worse(entry.group, best.group, best.key)]
    named = ", ".join(entry.name for entry in equals[:MOST_NAMED])
    more = f" and {len(equals) - MOST_NAMED} more" if len(equals) > MOST_NAMED else ""
    costs = {entry.name: cost_cells(entry.group.row, groups, known) for entry in (best, *equals)}
    counted = [(cells["macs"].number, name) for name, cells in costs.items() if "macs" in cells]
    cheapest = min(counted, key=lambda pair: pair[0] or 0.0)[1] if len(counted) == len(costs) else None
    return {
        "setting": words(title),
        "best": words(best.name),
        "value": group_cell(best.group, best.key),
        "runs": fact(float(len(best.group.runs))),
        "macs": costs[best.name].get("macs", MISSING),
        "latency": costs[best.name].get("latency", MISSING),
        "others": words(named + more or "none"),
        "cheapest": words(cheapest),
        "cheapest_macs": costs[cheapest]["macs"] if cheapest else MISSING,
        "compared": fact(float(len(ranked))),
    }


def _is_worse(one: Group, best: Group, key: str) -> bool:
    """Whether the paired difference shows it; never where fewer than two seeds are shared."""
    ours, theirs = one.by_seed(key), best.by_seed(key)
    return len(set(ours) & set(theirs)) > 1 and compare_paired(ours, theirs).is_shown
