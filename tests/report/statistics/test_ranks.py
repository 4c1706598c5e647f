"""Mean ranks, correlations and differences of rows, beside scipy, published examples and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rexdet.report.statistics.ranks import average_ranks, compare_rows, correlate

VARIANTS = ("plain", "m", "cf", "m+cf")
SCORES = [
    (0.763, 0.768, 0.771, 0.798),
    (0.599, 0.591, 0.590, 0.569),
    (0.954, 0.971, 0.968, 0.967),
    (0.628, 0.661, 0.654, 0.657),
    (0.882, 0.888, 0.886, 0.898),
    (0.936, 0.931, 0.916, 0.931),
    (0.661, 0.668, 0.609, 0.685),
    (0.583, 0.583, 0.563, 0.625),
    (0.775, 0.838, 0.866, 0.875),
    (1.000, 1.000, 1.000, 1.000),
    (0.940, 0.962, 0.965, 0.962),
    (0.619, 0.666, 0.614, 0.669),
    (0.972, 0.981, 0.975, 0.975),
    (0.957, 0.978, 0.946, 0.970),
]


def scores() -> dict[str, dict[str, float | None]]:
    return {
        name: {f"set {row}": line[column] for row, line in enumerate(SCORES)} for column, name in enumerate(VARIANTS)
    }


def test_mean_ranks_are_scipys() -> None:
    found = average_ranks(scores())
    assert found is not None
    table = np.array(SCORES)
    expected = stats.rankdata(-table, axis=1).mean(axis=0)
    assert [found.ranks[name] for name in VARIANTS] == pytest.approx(expected.tolist())
    assert list(found.ranks) == ["m+cf", "m", "cf", "plain"]
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*table.T).pvalue)
    assert (len(found.datasets), found.left_out) == (14, ())


@pytest.mark.parametrize(("rows", "quantile"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_printed_tables(rows: int, quantile: float) -> None:
    # Demšar (JMLR 2006), table 5(a): Nemenyi's critical values at 0.05.
    random = np.random.default_rng(0)
    found = average_ranks(
        {f"row {row}": {str(place): float(random.random()) for place in range(14)} for row in range(rows)}
    )
    assert found is not None
    assert found.critical == pytest.approx(quantile * (rows * (rows + 1) / (6 * 14)) ** 0.5, rel=1e-3)


def test_a_data_set_that_one_row_lacks_counts_for_none() -> None:
    table = scores()
    table["plain"]["set 0"] = None
    del table["m"]["set 3"]
    found = average_ranks(table)
    assert found is not None
    assert found.left_out == ("set 0", "set 3")
    assert len(found.datasets) == 12
    kept = np.array([row for number, row in enumerate(SCORES) if number not in (0, 3)])
    expected = stats.rankdata(-kept, axis=1).mean(axis=0)
    assert [found.ranks[name] for name in VARIANTS] == pytest.approx(expected.tolist())


def test_few_rows_and_no_data_sets() -> None:
    assert average_ranks({}) is None
    assert average_ranks({"a": {"x": 1.0}, "b": {"x": None}}) is None
    two = average_ranks({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 0.0, "y": 3.0}})
    assert two is not None
    assert (dict(two.ranks), two.p_value, two.critical) == ({"a": 1.5, "b": 1.5}, None, None)
    equal = average_ranks({name: {"x": 1.0, "y": 1.0} for name in "abc"})
    assert equal is not None
    assert (set(equal.ranks.values()), equal.p_value) == ({2.0}, 1.0)


def test_correlation_is_scipys_and_its_interval_fishers() -> None:
    random = np.random.default_rng(0)
    top1 = random.uniform(60, 82, 12)
    ap = 0.5 * top1 + random.normal(0, 4, 12)
    pairs = [*zip(top1.tolist(), ap.tolist(), strict=True), (None, 30.0), (75.0, None)]
    found = correlate(pairs)
    assert found.count == 12
    r, p = stats.pearsonr(top1, ap)
    assert (found.pearson, found.p_value) == pytest.approx((r, p))
    assert found.spearman == pytest.approx(stats.spearmanr(top1, ap).statistic)
    z, width = np.arctanh(r), 1.959964 / 3
    assert (found.low, found.high) == pytest.approx((np.tanh(z - width), np.tanh(z + width)), abs=1e-6)


def test_few_networks_have_no_interval_and_constants_no_correlation() -> None:
    assert correlate([]).count == 0
    two = correlate([(1.0, 2.0), (2.0, 3.0)])
    assert (two.count, two.pearson, two.low, two.spearman) == (2, None, None, None)
    three = correlate([(1.0, 2.0), (2.0, 3.0), (3.0, 3.5)])
    assert three.pearson == pytest.approx(np.corrcoef([1, 2, 3], [2, 3, 3.5])[0, 1])
    assert (three.low, three.high, three.smallest) == (None, None, None)
    assert correlate([(1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (1.0, 5.0)]).pearson is None


def test_the_smallest_correlation_is_shown_in_four_of_five_cases() -> None:
    found = correlate([(x, y) for x, y in np.random.default_rng(1).normal(size=(20, 2)).tolist()])
    assert found.smallest is not None
    random = np.random.default_rng(2)
    x = random.normal(size=(4000, 20))
    y = found.smallest * x + np.sqrt(1 - found.smallest**2) * random.normal(size=(4000, 20))
    shown = (stats.pearsonr(x, y, axis=1).pvalue < 0.05).mean()
    assert shown == pytest.approx(0.8, abs=0.02)


def test_rows_are_compared_over_what_they_share() -> None:
    # Over seeds 1 to 5; the second row lacks seed 5.
    ours = {1: 30.0, 2: 31.0, 3: 30.5, 4: 31.5, 5: 90.0}
    theirs = {1: 29.0, 2: 31.0, 3: 29.0, 4: 31.0}
    found = compare_rows(ours, theirs)
    assert found.comparison is not None
    expected = stats.ttest_rel([30, 31, 30.5, 31.5], [29, 31, 29, 31])
    assert found.comparison.summary.count == 4
    assert found.comparison.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (found.comparison.summary.low, found.comparison.summary.high) == pytest.approx((low, high))
    # As many pairs as show this difference: the power of the paired test with them is at least 0.8, with one less not.
    assert found.needed is not None
    effect = found.comparison.summary.mean / found.comparison.summary.deviation  # type: ignore[operator]
    powers = []
    for pairs in (found.needed, found.needed - 1):
        critical = stats.t.ppf(0.975, pairs - 1)
        shift = effect * np.sqrt(pairs)
        powers.append(stats.nct.sf(critical, pairs - 1, shift) + stats.nct.cdf(-critical, pairs - 1, shift))
    assert powers[0] >= 0.8 > powers[1]


def test_rows_with_one_shared_run_or_none() -> None:
    assert compare_rows({1: 1.0}, {2: 1.0}).comparison is None
    alone = compare_rows({1: 1.0}, {1: 0.5})
    assert alone.comparison is not None
    assert (alone.comparison.summary.mean, alone.comparison.smallest, alone.needed) == (0.5, None, None)
