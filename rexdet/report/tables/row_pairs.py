"""Any two rows: their paired difference, what these runs could have shown, and what would settle it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from rexdet.report.records.groups import Groups
from rexdet.report.statistics.intervals import Comparison, compare_paired, describe, describe_p, runs_needed
from rexdet.report.tables.entries import entries_by_setting
from rexdet.report.tables.networks import Known
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, fact, scaled, words

# Pairs grow with the square of the rows: beyond this many the rest is left out, and that is said.
MOST_PAIRS = 2_000
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class _Pair:
    """Two rows of one setting. ours, theirs: points by what pairs them, a seed or a data set."""

    setting: str
    one: str
    other: str
    ours: Mapping[Any, float]
    theirs: Mapping[Any, float]


# Points of the rows of a setting, the best row first, by row and by what pairs them.
_Points = Mapping[str, Mapping[Any, float]]


def pairs_table(groups: Groups, known: Known) -> Table:
    """Any two rows of one setting, paired by seed."""
    builder = TableBuilder("pairs", "Any two rows", _columns("setting", "pairs"))
    points = {
        title: {entry.name: _scaled(entry.group.by_seed(entry.key)) for entry in entries}
        for title, entries in entries_by_setting(groups, known).items()
    }
    _add(builder, points, paired_by="seed", fewest=1)
    if builder.rows:
        builder.notes.insert(
            0,
            "Paired by seed; the intervals are not corrected for how many pairs there are. With a single seed in "
            "common there is a difference and no interval: it could have come by chance.",
        )
    return builder.build()


def overall_table(networks: Table) -> Table:
    """Any two rows over the data sets that both have: of one transfer protocol, of one detector and its recipe."""
    signs = (Column("higher", "higher on", "data sets"), Column("lower", "lower on", "data sets"))
    builder = TableBuilder("overall", "Any two rows over many data sets", _columns("over", "data sets", *signs))
    points = {f"data sets, {family}": scores for family, scores in scores_by_family(networks).items()}
    _add(builder, points, paired_by="data set", fewest=2)
    if builder.rows:
        builder.notes.insert(
            0,
            "Paired by data set, each with its mean over seeds: how far would other data sets of this kind move it. "
            "Only numbers of one protocol, or of one detector and recipe, are held against each other. Not corrected "
            "for how many pairs there are.",
        )
    return builder.build()


def scores_by_family(networks: Table) -> dict[str, dict[str, dict[str, float]]]:
    """family -> row -> data set -> its number in points, the best row first.

    A family is one transfer protocol, or one detector with its recipe. Where it has several columns of one data set
    (other images under the same name) that of most rows stands for the set, so that no set counts twice.
    """
    columns: dict[str, dict[str, dict[str, float]]] = {}
    for column in networks.columns:
        if column.family:
            numbers, family = networks.numbers(column.key), columns.setdefault(column.family, {})
            if len(numbers) > len(family.get(column.dataset, ())):
                family[column.dataset] = numbers
    return {family: _by_row(datasets) for family, datasets in columns.items()}


def _by_row(datasets: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for dataset, numbers in datasets.items():
        for row, value in numbers.items():
            rows.setdefault(row, {})[dataset] = value
    means = {row: sum(values.values()) / len(values) for row, values in rows.items()}
    return {row: rows[row] for row in sorted(rows, key=lambda row: (-means[row], row))}


def _columns(over: str, paired: str, *signs: Column) -> tuple[Column, ...]:
    return (
        Column("setting", over),
        Column("one", "one"),
        Column("other", "minus the other"),
        Column("difference", "difference (points)", "points", help=f"mean over the {paired}"),
        Column("pairs", paired, paired),
        *signs,
        Column("p", "p", "p", help=f"two-sided paired t-test over the {paired}"),
        Column("shown", "shown"),
        Column("smallest", "smallest (points)", "points", help=f"so many {paired} show it in 80 of 100 cases"),
        Column("needed", f"{paired} needed", paired, help="to show the observed difference as often, if it is real"),
    )


def _scaled(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: 100 * value for seed, value in values.items()}


def _add(builder: TableBuilder, points: Mapping[str, _Points], paired_by: str, fewest: int) -> None:
    counts_signs = any(column.key == "higher" for column in builder.columns)
    counts = {title: _count(rows, fewest) for title, rows in points.items()}
    quotas = fair_quotas(counts, MOST_PAIRS)
    never_vary = False
    for title, rows in points.items():
        best = islice(_pairs_of(title, rows, fewest), quotas[title])
        for pair in sorted(best, key=lambda pair: (pair.one, pair.other)):
            comparison = compare_paired(pair.ours, pair.theirs)
            never_vary |= comparison.summary.deviation == 0.0
            cells = _cells(pair, comparison, paired_by)
            if counts_signs:
                differences = [pair.ours[name] - pair.theirs[name] for name in pair.ours if name in pair.theirs]
                cells["higher"] = fact(sum(difference > 0 for difference in differences))
                cells["lower"] = fact(sum(difference < 0 for difference in differences))
            builder.add(f"{pair.setting} {pair.one} {pair.other}", cells)
    if never_vary:
        builder.notes.append(
            "Where all differences of two rows are the same there is no spread to judge them by (nothing is random in "
            "a linear probe): no interval, no p, and nothing is shown."
        )
    left_out = [count - quotas[title] for title, count in counts.items() if count > quotas[title]]
    if left_out:
        in_all = sum(map(bool, counts.values()))
        builder.notes.append(
            f"{sum(left_out):,} further pairs are left out, in {len(left_out):,} of {in_all:,} settings: each setting "
            "has the pairs of its best rows."
        )


def _pairs_of(title: str, rows: _Points, fewest: int) -> Iterator[_Pair]:
    """The pairs that share enough, those of the best rows first; in each the name that sorts first stands first."""
    names = list(rows)
    for place, lower in enumerate(names):
        for upper in names[:place]:
            if len(rows[upper].keys() & rows[lower].keys()) >= fewest:
                one, other = sorted((upper, lower))
                yield _Pair(title, one, other, rows[one], rows[other])


def _count(rows: _Points, fewest: int) -> int:
    """How many pairs share enough. Rows are many, what they are paired by are few different sets."""
    sets = Counter(frozenset(values) for values in rows.values())
    within = sum(count * (count - 1) // 2 for found, count in sets.items() if len(found) >= fewest)
    across = combinations(sets.items(), 2)
    return within + sum(mine * yours for (one, mine), (other, yours) in across if len(one & other) >= fewest)


def fair_quotas(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """How many of each so that they are no more than `most` in all: what one does not need, the others get.

    Each has at least one where it has any, so that none goes missing as a whole.
    """
    quotas = {}
    left = most
    for place, (name, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        share = max(left // (len(counts) - place), 1)
        quotas[name] = min(count, share)
        left -= quotas[name]
    return quotas


def _cells(pair: _Pair, comparison: Comparison, paired_by: str) -> dict[str, Cell]:
    summary = comparison.summary
    tells_nothing = comparison.p_value is None
    needed = None
    if summary.deviation is not None:
        needed = runs_needed(summary.mean, summary.deviation, most=_MOST_RUNS)
    # How many it would be, nobody has computed: the words stand without a number.
    too_many = MISSING if tells_nothing else words(f"over {_MOST_RUNS:,}")
    return {
        "setting": words(pair.setting),
        "one": words(pair.one),
        "other": words(pair.other),
        "difference": Cell(describe(summary), summary.mean, "ours", summary, f"paired by {paired_by}"),
        "pairs": fact(summary.count),
        "p": MISSING if comparison.p_value is None else Cell(describe_p(comparison.p_value), comparison.p_value),
        "shown": MISSING if tells_nothing else words("yes" if comparison.is_shown else "no"),
        "smallest": scaled(comparison.smallest, 1, 2),
        "needed": too_many if needed is None else fact(needed),
    }
