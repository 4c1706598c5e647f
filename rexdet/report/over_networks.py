"""What holds over many networks: who ranks where over the data sets, and whether one score foretells another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from rexdet.report.row_pairs import scores_by_row
from rexdet.report.tables import MISSING, Cell, Column, Table, TableBuilder, fact, words

_FEWEST = 3


def ranks_table(networks: Table) -> Table:
    """Mean rank of each row over the settings of which all rows have a number."""
    columns = (
        Column("row", "row"),
        Column("rank", "mean rank", "rank", help="1 is the best"),
        Column("settings", "settings", "settings"),
    )
    builder = TableBuilder("ranks", "Mean ranks", columns)
    scores = scores_by_row(networks, "ap", "transfer")
    # A row without a number would leave its setting out for all: rows with all of them are ranked.
    complete = _complete(scores)
    if len(complete) < 2:
        return builder.build()
    # Not above: scipy.stats takes seconds to import, and few summaries come here.
    from rexdet.report.ranks import average_ranks

    found = average_ranks(complete)
    if found is None:
        return builder.build()
    for row, rank in found.ranks.items():
        cells = {"row": words(row), "rank": Cell(f"{rank:.2f}", rank), "settings": fact(float(len(found.datasets)))}
        builder.add(row, cells)
    builder.notes.append(f"Over {', '.join(found.datasets)}; 1 is the best, equal numbers share a rank.")
    if found.p_value is not None and found.critical is not None:
        builder.notes.append(
            f"Friedman's test that all rank alike: p {found.p_value:.3f}. Mean ranks that differ by less than "
            f"{found.critical:.2f} are not told apart (Nemenyi)."
        )
    return builder.build()


def correlations_table(networks: Table) -> Table:
    """How ImageNet top-1, AP and the transfer accuracies go with each other over the networks."""
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
    numbers = {key: networks.numbers(key) for key in titles if key == "imagenet" or key.startswith(("ap", "transfer"))}
    for one, other in combinations(numbers, 2):
        shared = [row for row in numbers[one] if row in numbers[other]]
        if len(shared) < _FEWEST:
            continue
        from rexdet.report.ranks import correlate

        found = correlate([(numbers[one][row], numbers[other][row]) for row in shared])
        interval = MISSING
        if found.low is not None and found.high is not None:
            interval = words(f"{found.low:.2f} to {found.high:.2f}")
        builder.add(
            f"{titles[one]} {titles[other]}",
            {
                "one": words(titles[one]),
                "other": words(titles[other]),
                "count": fact(float(found.count)),
                "pearson": _rounded(found.pearson),
                "interval": interval,
                "p": _rounded(found.p_value, 3),
                "spearman": _rounded(found.spearman),
                "smallest": _rounded(found.smallest),
            },
        )
    if builder.rows:
        builder.notes.append("A point is a row of the networks' table. Correlation over few networks tells little.")
    return builder.build()


def _complete(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    most = max((len(values) for values in scores.values()), default=0)
    return {row: values for row, values in scores.items() if len(values) == most}


def _rounded(value: float | None, digits: int = 2) -> Cell:
    return MISSING if value is None else Cell(f"{value:.{digits}f}", value)
