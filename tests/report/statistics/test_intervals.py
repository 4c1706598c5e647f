"""Means, intervals and what a few runs could have shown, against textbook values and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rexdet.report.statistics.intervals import compare_paired, describe, runs_needed, smallest_difference, summarise

# Student's "sleep" data (Biometrika 1908): extra hours of two drugs on ten patients.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_an_interval_is_students() -> None:
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    # 3 ± 2.776 * sqrt(2.5) / sqrt(5), from the table of t for four degrees of freedom.
    assert (summary.count, summary.mean) == (5, 3.0)
    assert summary.deviation == pytest.approx(2.5**0.5)
    assert summary.high == pytest.approx(3 + 2.776 * 2.5**0.5 / 5**0.5, abs=1e-3)
    assert summary.low == pytest.approx(3 - 2.776 * 2.5**0.5 / 5**0.5, abs=1e-3)
    assert describe(summary, digits=2) == "3.00 ± 1.96"


def test_one_run_has_no_interval() -> None:
    summary = summarise([0.5])
    assert (summary.deviation, summary.low, summary.high) == (None, None, None)
    assert describe(summary, scale=100) == "50.00"
    comparison = compare_paired({0: 0.5}, {0: 0.4})
    assert (comparison.p_value, comparison.smallest, comparison.is_shown) == (None, None, False)
    assert smallest_difference(1.0, 1) is None


def test_paired_runs_are_compared_as_in_students_own_example() -> None:
    comparison = compare_paired(dict(enumerate(SECOND)), dict(enumerate(FIRST)))
    # R's documentation of `sleep`: t = 4.0621, df = 9, p = 0.002833, interval 0.7001142 to 2.4598858, mean 1.58.
    assert comparison.summary.mean == pytest.approx(1.58)
    assert comparison.summary.low == pytest.approx(0.7001142, abs=1e-6)
    assert comparison.summary.high == pytest.approx(2.4598858, abs=1e-6)
    assert comparison.p_value == pytest.approx(0.002833, abs=1e-6)
    assert comparison.is_shown


def test_runs_that_only_one_setting_has_are_left_out() -> None:
    comparison = compare_paired({0: 1.0, 1: 2.0, 2: 9.0}, {1: 1.0, 0: 0.5, 7: 4.0})
    assert comparison.summary.count == 2
    assert comparison.summary.mean == pytest.approx(0.75)
    with pytest.raises(ValueError, match="in common"):
        compare_paired({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize("runs", [3, 5, 12])
def test_the_smallest_difference_is_shown_in_four_of_five_cases(runs: int) -> None:
    difference = smallest_difference(2.0, runs)
    assert difference is not None
    draws = np.random.default_rng(0).normal(difference, 2.0, size=(20_000, runs))
    share = (stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05).mean()
    assert share == pytest.approx(0.8, abs=0.01)


def test_runs_needed_turns_the_smallest_difference_round() -> None:
    for runs in (2, 3, 5, 17, 60):
        difference = smallest_difference(1.0, runs)
        assert difference is not None
        assert runs_needed(difference * 1.0001, 1.0) == runs
    # The usual table for a paired t-test: 34 pairs for half a deviation at 80% and 5%.
    assert runs_needed(0.5, 1.0) == 34
    assert runs_needed(-0.5, 1.0) == 34
    assert runs_needed(0.0, 1.0) is None
    assert runs_needed(1e-3, 1.0, most=10_000) is None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # Nothing is random in a linear probe: three seeds are one number three times.
        ((0.9, 0.9, 0.9), (0.899, 0.899, 0.899)),
        ((0.5, 0.5), (0.5, 0.5)),
        # The differences are 0.1 in tenths; in binary they differ in the last digit.
        ((0.3, 0.4, 0.8), (0.2, 0.3, 0.7)),
        ((1e6 + 0.1, 2e6 + 0.1), (1e6, 2e6)),
    ],
)
def test_differences_that_do_not_vary_show_nothing(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    comparison = compare_paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert comparison.summary.mean == pytest.approx(ours[0] - theirs[0])
    assert (comparison.p_value, comparison.smallest, comparison.is_shown) == (None, None, False)
    assert (comparison.summary.deviation, comparison.summary.low, comparison.summary.high) == (0.0, None, None)
    assert "±" not in describe(comparison.summary)


def test_no_number_of_runs_is_needed_where_nothing_varies() -> None:
    assert runs_needed(0.5, 0.0) is None
    assert smallest_difference(0.0, 3) is None


def test_a_small_spread_is_a_spread() -> None:
    comparison = compare_paired({0: 0.9, 1: 0.90001}, {0: 0.8, 1: 0.8})
    assert comparison.is_shown
    assert comparison.p_value is not None
    assert 0.0 < comparison.p_value < 0.01


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_cannot_be_summarised_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="value"):
        summarise(values)
