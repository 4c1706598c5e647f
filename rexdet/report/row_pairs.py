"""Any two rows: their paired difference, what these runs could have shown, and what would settle it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rexdet.report.groups import Group, Groups
from rexdet.report.networks_table import Known, row_id
from rexdet.report.statistics import Comparison, compare_paired, describe, runs_needed
from rexdet.report.tables import MISSING, Cell, Column, Table, TableBuilder, fact, scaled, words

# Pairs grow with the square of the rows: beyond this many the rest is left out, and that is said.
_MOST_PAIRS = 300
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Entry:
    """A row in one setting. key: of the number that the setting is about."""

    name: str
    group: Group
    key: str


@dataclass(frozen=True)
class _Pair:
    """Two rows of one setting. ours, theirs: points by what pairs them, a seed or the title of a setting."""

    setting: str
    one: str
    other: str
    ours: Mapping[Any, float]
    theirs: Mapping[Any, float]

    @property
    def shared(self) -> set[Any]:
        return self.ours.keys() & self.theirs.keys()


def pairs_table(groups: Groups, known: Known) -> Table:
    """Any two rows of one setting, paired by seed."""
    builder = TableBuilder("pairs", "Any two rows", _columns("setting", "pairs"))
    _add(builder, [pair for pair in _by_seed(groups, known) if pair.shared], paired_by="seed")
    if builder.rows:
        builder.notes.insert(
            0,
            "Paired by seed; the intervals are not corrected for how many pairs there are. With a single seed in "
            "common there is a difference and no interval: it could have come by chance.",
        )
    return builder.build()


def overall_table(networks: Table) -> Table:
    """Any two rows over all settings that both have: accuracies over data sets, APs over detectors and their data."""
    signs = (Column("higher", "higher on", "settings"), Column("lower", "lower on", "settings"))
    builder = TableBuilder("overall", "Any two rows over many settings", _columns("over", "settings", *signs))
    _add(builder, [pair for pair in _by_setting(networks) if len(pair.shared) > 1], paired_by="setting")
    if builder.rows:
        builder.notes.insert(
            0,
            "Paired by setting, each with its mean over seeds: how far would other data sets of this kind move it. "
            "Not corrected for how many pairs there are.",
        )
    return builder.build()


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


def scores_by_row(networks: Table, *prefixes: str) -> dict[str, dict[str, float]]:
    """row -> title of a column of ours -> its number, in points. prefixes: "ap", "transfer", or both."""
    found: dict[str, dict[str, float]] = {}
    for column in networks.columns:
        if column.key.startswith(prefixes):
            for row, value in networks.numbers(column.key).items():
                found.setdefault(row, {})[column.title] = value
    return found


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


def _by_seed(groups: Groups, known: Known) -> list[_Pair]:
    pairs = []
    for (title, _), entries in sorted(entries_by_setting(groups, known).items(), key=lambda item: item[0]):
        for one, other in combinations(sorted(entries, key=lambda entry: entry.name), 2):
            pairs.append(_Pair(title, one.name, other.name, _points(one), _points(other)))
    return pairs


def _points(entry: Entry) -> dict[object, float]:
    return {seed: 100 * value for seed, value in entry.group.by_seed(entry.key).items()}


def _by_setting(networks: Table) -> list[_Pair]:
    pairs = []
    for title, prefix in (("data sets", "transfer"), ("detection", "ap")):
        points = scores_by_row(networks, prefix)
        for one, other in combinations(sorted(points), 2):
            pairs.append(_Pair(title, one, other, points[one], points[other]))
    return pairs


def _add(builder: TableBuilder, pairs: Sequence[_Pair], paired_by: str) -> None:
    counts_signs = any(column.key == "higher" for column in builder.columns)
    for pair in pairs[:_MOST_PAIRS]:
        cells = _cells(pair, compare_paired(pair.ours, pair.theirs), paired_by)
        if counts_signs:
            differences = [pair.ours[name] - pair.theirs[name] for name in pair.shared]
            cells["higher"] = fact(float(sum(difference > 0 for difference in differences)))
            cells["lower"] = fact(float(sum(difference < 0 for difference in differences)))
        builder.add(f"{pair.setting} {pair.one} {pair.other}", cells)
    if len(pairs) > _MOST_PAIRS:
        builder.notes.append(f"{len(pairs) - _MOST_PAIRS:,} further pairs are left out.")


def _cells(pair: _Pair, comparison: Comparison, paired_by: str) -> dict[str, Cell]:
    summary = comparison.summary
    is_alone = comparison.p_value is None
    needed = None
    if summary.deviation is not None:
        needed = runs_needed(summary.mean, summary.deviation, most=_MOST_RUNS)
    too_many = MISSING if is_alone else Cell(f"over {_MOST_RUNS:,}", float(_MOST_RUNS + 1))
    return {
        "setting": words(pair.setting),
        "one": words(pair.one),
        "other": words(pair.other),
        "difference": Cell(describe(summary), summary.mean, "ours", summary, f"paired by {paired_by}"),
        "pairs": fact(float(summary.count)),
        "p": MISSING if comparison.p_value is None else Cell(f"{comparison.p_value:.3f}", comparison.p_value),
        "shown": MISSING if is_alone else words("yes" if comparison.is_shown else "no"),
        "smallest": scaled(comparison.smallest, 1, 2),
        "needed": too_many if needed is None else fact(float(needed)),
    }
