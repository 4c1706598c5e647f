"""What holds over many networks: who ranks where over the data sets, and whether one score foretells another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from rexdet.report.records.facts import RowKey
from rexdet.report.statistics.intervals import describe_p
from rexdet.report.tables.networks import row_id
from rexdet.report.tables.row_pairs import scores_by_family
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, fact, scaled, words

if TYPE_CHECKING:
    from rexdet.report.statistics.ranks import Correlation

_FEWEST = 3
_MOST_NAMED = 6
# Sets of data sets that are held against each other in search of a complete block: their pairs grow with the square.
_MOST_SETS = 100
# How the key of a row from random weights ends.
_RANDOM = row_id(RowKey(""))


def ranks_table(networks: Table) -> Table:
    """Mean rank of each row over data sets, in each transfer protocol, and each detector with its recipe.

    All rows of a ranking have a number on all its data sets: the largest such block is ranked, and what is left out of
    it is said.
    """
    columns = (
        Column("family", "of"),
        Column("row", "row"),
        Column("rank", "mean rank", "rank", help="1 is the best"),
        Column("settings", "data sets", "data sets"),
    )
    builder = TableBuilder("ranks", "Mean ranks", columns)
    for family, scores in scores_by_family(networks).items():
        rows, datasets = largest_block(scores)
        if rows:
            _rank(builder, family, scores, rows, datasets)
    if builder.rows:
        builder.notes.insert(0, "1 is the best; equal numbers share a rank.")
    return builder.build()


def largest_block(scores: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """(rows, data sets) such that every row has every set: two or more of each, with as many numbers as there are.

    Looked at are the sets of each row, and those that two rows share. Empty where no two rows share two sets.
    """
    sets = Counter(frozenset(values) for values in scores.values())
    common = [found for found, _ in sets.most_common(_MOST_SETS)]
    candidates = {*sets, *(one & other for one, other in combinations(common, 2))}
    owners = {found: sum(count for own, count in sets.items() if own >= found) for found in candidates}
    sizes = {found: len(found) * rows for found, rows in owners.items() if len(found) > 1 and rows > 1}
    if not sizes:
        return [], []
    best = max(sizes, key=lambda found: (sizes[found], len(found), sorted(found)))
    rows = [row for row, values in scores.items() if values.keys() >= best]
    return rows, [name for name in dict.fromkeys(name for row in rows for name in scores[row]) if name in best]


def _rank(
    builder: TableBuilder,
    family: str,
    scores: Mapping[str, Mapping[str, float]],
    rows: Sequence[str],
    datasets: Sequence[str],
) -> None:
    # Not above: scipy.stats takes seconds to import, and few summaries come here.
    from rexdet.report.statistics.ranks import average_ranks

    found = average_ranks({row: {name: scores[row][name] for name in datasets} for row in rows})
    assert found is not None
    for row, rank in found.ranks.items():
        cells = {
            "family": words(family),
            "row": words(row),
            "rank": Cell(f"{rank:.2f}", rank),
            "settings": fact(len(datasets)),
        }
        builder.add(f"{family} {row}", cells, of=row)
    note = f"{family}: over {', '.join(datasets)}."
    if found.p_value is not None and found.critical is not None:
        note += (
            f" Friedman's test that all rank alike: p {describe_p(found.p_value)}. Mean ranks that differ by less than "
            f"{found.critical:.2f} are not told apart (Nemenyi)."
        )
    known = dict.fromkeys(name for values in scores.values() for name in values)
    left_out = [
        f"{title} {_named([name for name in names if name not in kept])}"
        for title, names, kept in (("rows", scores, set(rows)), ("data sets", known, set(datasets)))
        if len(names) > len(kept)
    ]
    if left_out:
        note += f" Left out, for not every row has a number on every data set: {'; '.join(left_out)}."
    builder.notes.append(note)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def correlations_table(networks: Table) -> Table:
    """How ImageNet top-1, AP and the transfer accuracies go with each other over the networks.

    Rows from random weights stay out: between what was pretrained and what was not, everything goes with everything.
    """
    columns = (
        Column("one", "one"),
        Column("other", "other"),
        Column("count", "networks", "networks"),
        Column("pearson", "Pearson's r", "r"),
        Column("interval", "95% interval"),
        Column("p", "p", "p"),
        Column("spearman", "Spearman's rho", "rho"),
        Column("smallest", "smallest r", "r", help="that so many networks show in 80 of 100 cases"),
    )
    builder = TableBuilder("correlations", "What foretells what", columns)
    titles = {column.key: column.title for column in networks.columns}
    numbers = {
        column.key: {row: value for row, value in networks.numbers(column.key).items() if not row.endswith(_RANDOM)}
        for column in networks.columns
        if column.key == "imagenet" or column.family
    }
    for one, other in combinations(numbers, 2):
        shared = [row for row in numbers[one] if row in numbers[other]]
        if len(shared) < _FEWEST:
            continue
        from rexdet.report.statistics.ranks import correlate

        found = correlate([(numbers[one][row], numbers[other][row]) for row in shared])
        cells = {"one": words(titles[one]), "other": words(titles[other]), **_correlation_cells(found)}
        builder.add(f"{titles[one]} {titles[other]}", cells)
    if builder.rows:
        builder.notes.append(
            "A point is a row of the networks' table that has a checkpoint. Correlation over few networks tells little."
        )
    return builder.build()


def _correlation_cells(found: Correlation) -> dict[str, Cell]:
    interval = MISSING
    if found.low is not None and found.high is not None:
        interval = words(f"{found.low:.2f} to {found.high:.2f}")
    return {
        "count": fact(found.count),
        "pearson": scaled(found.pearson, 1, 2),
        "interval": interval,
        "p": MISSING if found.p_value is None else Cell(describe_p(found.p_value), found.p_value),
        "spearman": scaled(found.spearman, 1, 2),
        "smallest": scaled(found.smallest, 1, 2),
    }
