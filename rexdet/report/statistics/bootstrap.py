"""How sure an AP is: intervals over resampled images, for one run and for the difference of two.

The images of the validation set are taken as a sample of all images that could have been asked for; drawn anew with
replacement, as often as there are images, they show how far AP would move with other images (Efron, 1979). What
another seed of the training would change is not in these intervals: that takes several runs (`statistics`).

An AP of few images lies above that of many, and a resample's above that of its images. The interval of an AP is
therefore the basic one: percentiles, reflected about the number (Davison and Hinkley, 1997, section 5.2), so that the
shift counts against it and not for it. In the difference of two runs the shifts cancel; there the percentiles stand as
they are. docs/compare.md says how often both held what they should.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from rexdet.coco.matched import Matched
from rexdet.coco.matching import AREA_RANGES
from rexdet.coco.resample import Resampler, draw_images, mean_over_classes
from rexdet.report.statistics.intervals import CONFIDENCE, POWER

RESAMPLES = 1000
LEAST_IMAGES = 10
"""Fewer images with objects of a class or area range give no interval: resamples of one object never disagree."""
MOST_IMAGES = 10_000_000
_AT_ONCE = 100
# Key -> (area range, rows of the IoU thresholds or None for all): the numbers that are intervals of.
NUMBERS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "AP": ("all", None),
    "AP50": ("all", (0,)),
    "AP75": ("all", (5,)),
    "APs": ("small", None),
    "APm": ("medium", None),
    "APl": ("large", None),
}


@dataclass(frozen=True)
class Interval:
    """A number with its interval over resampled images; all 0 to 1 as AP is.

    value: on the images themselves, None without ground truth. The rest is None too where fewer than LEAST_IMAGES show
    an object that counts: what cannot vary would pass for certain. low, high: the interval. deviation: of the
    resamples. resamples: those in which the number exists; fewer than were drawn where a class or range is rare.
    """

    value: float | None
    low: float | None
    high: float | None
    deviation: float | None
    resamples: int


@dataclass(frozen=True)
class Difference:
    """The second run's number minus the first's over the same resamples.

    interval: of the difference. p_value: two-sided, from the share of resamples on the other side of 0.
    smallest: the difference that so many images would have shown in 80% of all cases. images_needed: images that would
    show the observed difference as often, if it is real. None: there is none, no spread, or more than MOST_IMAGES.
    """

    interval: Interval
    p_value: float | None
    smallest: float | None
    images_needed: int | None

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        low, high = self.interval.low, self.interval.high
        return low is not None and high is not None and not low <= 0.0 <= high

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self.interval),
            "p_value": self.p_value,
            "shown": self.is_shown,
            "smallest": self.smallest,
            "images_needed": self.images_needed,
        }


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """AP of one run on the images and on R resamples of them.

    values: key of NUMBERS -> number on the images, NaN without ground truth. drawn: key -> (R,) the same of resamples.
    class_values: (K,) AP a class; class_drawn: (R, K). seed: of the draws; two runs are compared over the same ones.
    shown, class_shown: how many images show an object that counts, by key and by class, (K,).
    """

    images: int
    seed: int
    shown: Mapping[str, int]
    class_shown: NDArray[np.int64]
    values: Mapping[str, float]
    drawn: Mapping[str, NDArray[np.float64]]
    class_values: NDArray[np.float64]
    class_drawn: NDArray[np.float64]

    def interval(self, key: str = "AP", confidence: float = CONFIDENCE) -> Interval:
        """The interval of one number."""
        return interval_of(self.values[key], self._drawn(key), confidence, reflected=True)

    def class_interval(self, row: int, confidence: float = CONFIDENCE) -> Interval:
        """The interval of a class's AP. row: of the ground truth's categories."""
        return interval_of(float(self.class_values[row]), self._class_drawn(row), confidence, reflected=True)

    def _drawn(self, key: str) -> NDArray[np.float64]:
        return self.drawn[key] if self.shown[key] >= LEAST_IMAGES else np.zeros(0)

    def _class_drawn(self, row: int) -> NDArray[np.float64]:
        return self.class_drawn[:, row] if self.class_shown[row] >= LEAST_IMAGES else np.zeros(0)


def bootstrap(matched: Matched, *, resamples: int = RESAMPLES, seed: int = 0, label: str = "") -> Bootstrap:
    """Resample the images of a run. Matching is done; a resample only walks down the scores again.

    label: what a bar of progress, shown where this takes more than five seconds, says; "": no bar.
    """
    images = len(matched.truth.image_ids)
    # Column 0 is the images themselves.
    weights = np.concatenate([np.ones((images, 1), np.int64), draw_images(images, resamples, seed)], axis=1)
    numbers: dict[str, NDArray[np.float64]] = {}
    classes = np.zeros((0, 0))
    areas = list(dict.fromkeys(area for area, _ in NUMBERS.values()))
    bar = tqdm(total=len(areas) * weights.shape[1], desc=label, unit="resample", delay=5, disable=not label)
    for area in areas:
        resampler = Resampler(matched, area)
        parts = []
        for begin in range(0, weights.shape[1], _AT_ONCE):
            part = weights[:, begin : begin + _AT_ONCE]
            parts.append(resampler.average_precision(part))
            bar.update(part.shape[1])
        values = np.concatenate(parts)
        if area == "all":
            classes = values.mean(axis=1)
        for key, (wanted, thresholds) in NUMBERS.items():
            if wanted == area:
                numbers[key] = mean_over_classes(values, thresholds)
    bar.close()
    shown, class_shown = _shown(matched)
    return Bootstrap(
        images=images,
        seed=seed,
        shown=shown,
        class_shown=class_shown,
        values={key: float(found[0]) for key, found in numbers.items()},
        drawn={key: found[1:] for key, found in numbers.items()},
        class_values=classes[0],
        class_drawn=classes[1:],
    )


def _shown(matched: Matched) -> tuple[dict[str, int], NDArray[np.int64]]:
    """How many images show an object that counts: by key, and by class in all sizes."""
    truth = matched.truth
    columns = {area: ~matched.ignored[:, place] for place, area in enumerate(AREA_RANGES)}
    by_key = {key: len(np.unique(truth.annotation_image[columns[area]])) for key, (area, _) in NUMBERS.items()}
    pairs = (truth.annotation_category * len(truth.image_ids) + truth.annotation_image)[columns["all"]]
    pairs = np.unique(pairs)
    return by_key, np.bincount(pairs // max(1, len(truth.image_ids)), minlength=len(truth.categories))


def compare_bootstraps(one: Bootstrap, other: Bootstrap, key: str = "AP", confidence: float = CONFIDENCE) -> Difference:
    """`other` minus `one`, paired: each resample holds the same images for both.

    Raises ValueError where the two were not drawn alike.
    """
    _check_alike(one, other)
    return difference_of(
        other.values[key] - one.values[key], other._drawn(key) - one._drawn(key), one.images, confidence=confidence
    )


def compare_class(one: Bootstrap, other: Bootstrap, row: int, confidence: float = CONFIDENCE) -> Difference:
    """The same for the AP of one class. row: of the ground truth's categories."""
    _check_alike(one, other)
    return difference_of(
        float(other.class_values[row] - one.class_values[row]),
        other._class_drawn(row) - one._class_drawn(row),
        one.images,
        confidence=confidence,
    )


def interval_of(
    value: float, drawn: NDArray[np.float64], confidence: float = CONFIDENCE, *, reflected: bool = False
) -> Interval:
    """The percentile interval, or the basic one. value: of the sample itself.

    drawn: (R,) of the resamples, NaN where there is none. reflected: the basic interval of a share: percentiles turned
    round about the value, cut at 0 and 1.
    """
    known = drawn[~np.isnan(drawn)]
    if math.isnan(value) or len(known) < 2:
        return Interval(None if math.isnan(value) else value, None, None, None, len(known))
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()
    if reflected:
        low, high = max(0.0, 2 * value - high), min(1.0, 2 * value - low)
    return Interval(value, low, high, float(known.std(ddof=1)), len(known))


def difference_of(
    value: float,
    drawn: NDArray[np.float64],
    images: int,
    *,
    confidence: float = CONFIDENCE,
    power: float = POWER,
) -> Difference:
    """A difference with its interval, and what so many images could have shown. drawn: (R,) differences."""
    interval = interval_of(value, drawn, confidence)
    if interval.deviation is None:
        return Difference(interval, None, None, None)
    known = drawn[~np.isnan(drawn)]
    # The sample itself counts as one more resample, so that no p is 0.
    sides = [(np.count_nonzero(side) + 1) / (len(known) + 1) for side in (known <= 0, known >= 0)]
    # Normal: a test at 1 - confidence shows a true difference of that many deviations with this probability.
    factor = float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power))
    smallest = factor * interval.deviation
    # The deviation falls with the square root of the images.
    needed = images * (smallest / value) ** 2 if value and smallest else math.inf
    told = math.ceil(needed) if needed <= MOST_IMAGES else None
    return Difference(interval, min(1.0, 2 * min(sides)), smallest, told)


def _check_alike(one: Bootstrap, other: Bootstrap) -> None:
    if (one.images, one.seed, one.class_drawn.shape) != (other.images, other.seed, other.class_drawn.shape):
        raise ValueError("the two runs were resampled differently: other images, classes, seed or number of resamples")
