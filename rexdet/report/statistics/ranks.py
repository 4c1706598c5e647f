"""Networks beside each other over many data sets: mean ranks, and how far one score goes with another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rexdet.report.statistics.intervals import CONFIDENCE, POWER, Comparison, compare_paired, runs_needed


@dataclass(frozen=True)
class AverageRank:
    """Mean rank of each row over the data sets on which all rows have a score; 1 is the best, equal scores share.

    ranks: row -> mean rank, the best first. datasets: those counted. left_out: those on which some row has no score.
    p_value: of Friedman's test that all rows rank alike (Demšar, JMLR 2006); None below three rows or two data sets,
    where the test does not exist. critical: mean ranks that differ by less are not told apart (Nemenyi, at the same
    confidence); None likewise.
    """

    ranks: Mapping[str, float]
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    p_value: float | None
    critical: float | None


@dataclass(frozen=True)
class Correlation:
    """How one score of the networks goes with another, for instance ImageNet top-1 with AP.

    count: networks that have both. pearson, spearman: None below three networks, or where one score never changes.
    low, high: interval of Pearson's r (Fisher's transformation), None below four networks.
    p_value: of Pearson's r, two-sided. smallest: the |r| that so many networks would have shown in 80% of all cases.
    """

    count: int
    pearson: float | None
    low: float | None
    high: float | None
    p_value: float | None
    spearman: float | None
    smallest: float | None


@dataclass(frozen=True)
class RowDifference:
    """One row minus another over what they share: seeds, or data sets.

    comparison: None where they share nothing. needed: pairs that would show the observed difference in 80% of all
    cases, if it is real; None where there is no spread to tell by, or more than `most` would not.
    """

    comparison: Comparison | None
    needed: int | None


def average_ranks(
    scores: Mapping[str, Mapping[str, float | None]], *, confidence: float = CONFIDENCE
) -> AverageRank | None:
    """Mean ranks. scores: row -> data set -> score, higher is better, None or absent where there is none.

    Only data sets on which every row has a score count, so that all ranks are over the same ones. None where there is
    no such data set, or no row.
    """
    rows = list(scores)
    names = list(dict.fromkeys(name for row in rows for name in scores[row]))
    known = [name for name in names if all(scores[row].get(name) is not None for row in rows)]
    if not rows or not known:
        return None
    table = np.array([[scores[row][name] for name in known] for row in rows], np.float64)
    ranks = stats.rankdata(-table, axis=0)
    means = dict(sorted(zip(rows, ranks.mean(axis=1).tolist(), strict=True), key=lambda item: item[1]))
    p_value = critical = None
    if len(rows) >= 3 and len(known) >= 2:
        # Where all are equal everywhere, the statistic does not exist, and nothing speaks against it.
        p_value = float(stats.friedmanchisquare(*table).pvalue) if np.ptp(table, axis=0).any() else 1.0
        quantile = float(stats.studentized_range.ppf(confidence, len(rows), np.inf)) / math.sqrt(2)
        critical = quantile * math.sqrt(len(rows) * (len(rows) + 1) / (6 * len(known)))
    return AverageRank(means, tuple(known), tuple(name for name in names if name not in known), p_value, critical)


def correlate(
    pairs: Sequence[tuple[float | None, float | None]], *, confidence: float = CONFIDENCE, power: float = POWER
) -> Correlation:
    """Correlation of two scores. pairs: of each network; those where one is None do not count.

    A network should stand there once, with the mean over its seeds: networks are what is sampled.
    """
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    count = len(known)
    x, y = np.array(known, np.float64).reshape(-1, 2).T
    if count < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(count, None, None, None, None, None, None)
    result = stats.pearsonr(x, y)
    spearman = float(stats.spearmanr(x, y).statistic)
    if count < 4:
        return Correlation(count, float(result.statistic), None, None, float(result.pvalue), spearman, None)
    interval = result.confidence_interval(confidence)
    # Fisher's z of a sample has the deviation 1 / sqrt(n - 3).
    shown = (stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)) / math.sqrt(count - 3)
    return Correlation(
        count,
        float(result.statistic),
        float(interval.low),
        float(interval.high),
        float(result.pvalue),
        spearman,
        float(np.tanh(shown)),
    )


def compare_rows(ours: Mapping[object, float], theirs: Mapping[object, float], *, most: int = 10_000) -> RowDifference:
    """Two rows of a table over the seeds, or the data sets, that both have: how far apart, and how sure."""
    if not any(key in theirs for key in ours):
        return RowDifference(None, None)
    comparison = compare_paired(ours, theirs)
    deviation = comparison.summary.deviation
    needed = None if deviation is None else runs_needed(comparison.summary.mean, deviation, most=most)
    return RowDifference(comparison, needed)
