"""What a few runs can tell: mean and interval over seeds, paired differences, and what they could not have shown.

Intervals are Student's t: the runs are taken as independent draws from a normal distribution. Numbers are in whatever
unit the values have. One run has no spread, and is given none. Where paired differences are all the same there is no
spread to judge by either: nothing was random, and nothing is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from scipy import special

CONFIDENCE = 0.95
POWER = 0.8
# Differences that vary by less than this share of the values vary by rounding alone.
_ROUNDING = 1e-9
# What two settings are paired by.
Key = TypeVar("Key")


@dataclass(frozen=True)
class Summary:
    """count: of the values. deviation: of the sample (n - 1). low, high: interval of the mean. None: a single value.

    Of paired differences that do not vary the deviation is 0 and there is no interval: low and high are None.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """Half of the interval, None where there is none."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Comparison:
    """The mean difference of paired runs, one minus the other.

    summary: of the differences. p_value: of the paired t-test, two-sided. smallest: the difference that so many runs of
    this spread would have shown in 80% of all cases; what is below it they were likely to miss. None: a single pair, or
    differences that do not vary.
    """

    summary: Summary
    p_value: float | None
    smallest: float | None

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        low, high = self.summary.low, self.summary.high
        return low is not None and high is not None and not low <= 0.0 <= high


def summarise(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Summary:
    """Mean, deviation and interval of the mean. Raises ValueError for no value and for one that is not finite."""
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("there is no value to summarise")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"a value is not finite: {numbers}")
    count = len(numbers)
    mean = math.fsum(numbers) / count
    if count == 1:
        return Summary(1, mean, None, None, None)
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (count - 1))
    half = _critical(confidence, count - 1) * deviation / math.sqrt(count)
    return Summary(count, mean, deviation, mean - half, mean + half)


def compare_paired(
    ours: Mapping[Key, float],
    theirs: Mapping[Key, float],
    *,
    confidence: float = CONFIDENCE,
    power: float = POWER,
) -> Comparison:
    """Compare two settings whose runs share a key (the seed, the data set); keys that only one has are left out.

    Differences that are the same but for rounding have no interval, no p and nothing that they show. Raises ValueError
    where no key is shared.
    """
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise ValueError("the two settings have no run in common")
    summary = summarise([ours[key] - theirs[key] for key in shared], confidence=confidence)
    if summary.deviation is None:
        return Comparison(summary, None, None)
    largest = max(abs(value) for key in shared for value in (ours[key], theirs[key]))
    if summary.deviation <= _ROUNDING * largest:
        return Comparison(Summary(summary.count, summary.mean, 0.0, None, None), None, None)
    smallest = smallest_difference(summary.deviation, summary.count, confidence=confidence, power=power)
    return Comparison(summary, _p_value(summary), smallest)


def smallest_difference(
    deviation: float, runs: int, *, confidence: float = CONFIDENCE, power: float = POWER
) -> float | None:
    """The smallest true difference that so many pairs would have shown with this probability.

    None for a single pair and without any spread.

    deviation: of the differences between paired runs. Shown means that the paired t-test, two-sided, rejects 0 at 1 -
    confidence; its power comes from the noncentral t distribution.
    """
    if runs < 2 or deviation == 0.0:
        return None
    return deviation * _smallest_effect(runs, confidence, power)


def runs_needed(
    difference: float, deviation: float, *, confidence: float = CONFIDENCE, power: float = POWER, most: int = 10_000
) -> int | None:
    """How many pairs would show this true difference with this probability.

    None where more than `most` would not, and where there is no spread to tell by.
    """
    if difference == 0.0 or deviation == 0.0:
        return None
    effect = abs(difference) / deviation
    if _power(effect, most, confidence) < power:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _power(effect, middle, confidence) < power else (low, middle)
    return high


def describe(summary: Summary, *, scale: float = 1.0, digits: int = 2) -> str:
    """ "mean ± half of the interval" as text; the mean alone where there is no interval."""
    mean = f"{scale * summary.mean:.{digits}f}"
    if summary.half_width is None:
        return mean
    return f"{mean} ± {scale * summary.half_width:.{digits}f}"


def describe_p(value: float) -> str:
    """A p-value in three digits; none is 0."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _p_value(summary: Summary) -> float:
    assert summary.deviation
    statistic = summary.mean / (summary.deviation / math.sqrt(summary.count))
    return float(2 * special.stdtr(summary.count - 1, -abs(statistic)))


# Tables ask for the same few numbers of runs again and again.
@lru_cache(maxsize=1024)
def _critical(confidence: float, freedom: int) -> float:
    """The t beyond which a two-sided test at this confidence rejects."""
    return float(special.stdtrit(freedom, (1 + confidence) / 2))


@lru_cache(maxsize=1024)
def _smallest_effect(runs: int, confidence: float, power: float) -> float:
    """The smallest true difference, in deviations, that so many pairs show with this probability."""
    low, high = 0.0, 1.0
    while _power(high, runs, confidence) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, runs, confidence) < power else (low, middle)
    return high


def _power(effect: float, runs: int, confidence: float) -> float:
    """Probability that a paired two-sided t-test shows a true difference of `effect` deviations."""
    freedom = runs - 1
    critical = _critical(confidence, freedom)
    shift = effect * math.sqrt(runs)
    if shift > 37.0:
        # Beyond this the noncentral distribution is out of reach of doubles, and is normal for all purposes.
        return float(special.ndtr(shift - critical))
    # The other tail, below -critical, counts as well: a test that rejects has shown a difference.
    return float(1 - special.nctdtr(freedom, shift, critical) + special.nctdtr(freedom, shift, -critical))
