"""How often the intervals of rexdet.report.statistics.bootstrap hold the AP of all images: a simulation.

    python docs/studies/intervals/coverage.py --images 200 --trials 300

A population of 20,000 images is made up: objects in different numbers on each, five classes, images easier and harder
for both of two detectors, boxes beside their places, false alarms. Its AP is the truth. Then so many images are drawn
from it again and again, and each time both kinds of interval are taken: of one detector's AP, and of the difference.
"""

from __future__ import annotations

import argparse

import numpy as np

from rexdet.coco.detections import Detections
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matched import Matched, match_once
from rexdet.coco.resample import Resampler, draw_images, mean_over_classes
from rexdet.coco.schema import Category
from rexdet.report.statistics.bootstrap import interval_of

POPULATION, CLASSES = 20_000, 5


class Population:
    """Images, their objects, and what two detectors find on them."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        counts = random.poisson(3, POPULATION)
        self.image = np.repeat(np.arange(POPULATION), counts)
        self.category = random.integers(0, CLASSES, len(self.image))
        place = np.arange(len(self.image)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.boxes = np.stack([200.0 * place, 0 * place, 0 * place + 100.0, 0 * place + 100.0], axis=1)
        self.difficulty = random.normal(0, 1, POPULATION)
        self.detectors = [self._detect(1.2, 1), self._detect(1.4, 2)]

    def _detect(self, skill: float, seed: int) -> Detections:
        random = np.random.default_rng(seed)
        hard = self.difficulty[self.image]
        found = random.random(len(hard)) < 1 / (1 + np.exp(0.7 * hard - skill))
        shift = np.abs(random.normal(0, 12, len(hard))) * (1 + 0.3 * (hard > 0))
        boxes = self.boxes.copy()
        boxes[:, 0] += shift
        false = np.repeat(np.arange(POPULATION), random.poisson(1.5, POPULATION))
        scores = np.concatenate(
            [random.normal(1, 1, found.sum()) - shift[found] / 20, random.normal(-0.7, 1, len(false))]
        )
        return Detections(
            np.concatenate([self.image[found], false]),
            np.concatenate([boxes[found], np.tile([0.0, 300.0, 80.0, 80.0], (len(false), 1))]),
            1 / (1 + np.exp(-scores)),
            np.concatenate([self.category[found], random.integers(0, CLASSES, len(false))]),
        )

    def on(self, images: np.ndarray) -> list[Matched]:
        """Both detectors on some of the images (ascending)."""
        chosen = np.isin(self.image, images)
        truth = GroundTruth(
            image_ids=images,
            image_sizes=np.full((len(images), 2), 640),
            categories=tuple(Category(number, f"class {number}") for number in range(CLASSES)),
            annotation_image=np.searchsorted(images, self.image[chosen]),
            annotation_category=self.category[chosen],
            boxes=self.boxes[chosen],
            areas=np.full(int(chosen.sum()), 1e4),
            crowd=np.zeros(int(chosen.sum()), np.bool_),
            segmentations=list,
            annotation_ids=np.flatnonzero(chosen),
        )
        return [match_once(truth, found.take(np.isin(found.image_ids, images))) for found in self.detectors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    arguments = parser.parse_args()
    population = Population()
    truth = [aps(matched, np.ones((POPULATION, 1), np.int64))[0] for matched in population.on(np.arange(POPULATION))]
    print(f"AP of all images: {truth[0]:.4f} and {truth[1]:.4f}")
    random = np.random.default_rng(7)
    held: dict[tuple[str, str], list[bool]] = {}
    for trial in range(arguments.trials):
        images = np.sort(random.choice(POPULATION, arguments.images, replace=False))
        drawn = draw_images(arguments.images, arguments.resamples, trial)
        weights = np.concatenate([np.ones((arguments.images, 1), np.int64), drawn], axis=1)
        one, other = (aps(matched, weights) for matched in population.on(images))
        for name, values, true in (("AP", one, truth[0]), ("difference", other - one, truth[1] - truth[0])):
            for kind, reflected in (("percentile", False), ("basic", True)):
                interval = interval_of(values[0], values[1:], reflected=reflected and name == "AP")
                low, high = interval.low or 0.0, interval.high or 0.0
                if reflected and name != "AP":
                    low, high = 2 * values[0] - high, 2 * values[0] - low
                held.setdefault((name, kind), []).append(low <= true <= high)
    for (name, kind), found in held.items():
        print(f"{name}, {kind}: {100 * np.mean(found):.1f}% of {len(found)} intervals hold the truth")


def aps(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """AP of each resample."""
    return mean_over_classes(Resampler(matched).average_precision(weights))


if __name__ == "__main__":
    main()
