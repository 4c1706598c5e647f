"""Intervals over resampled images, beside re-evaluations, scipy's own bootstrap, and differences that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import evaluate
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matched import Matched, match_once
from rexdet.coco.resample import draw_images
from rexdet.report.statistics.bootstrap import (
    LEAST_IMAGES,
    NUMBERS,
    bootstrap,
    compare_bootstraps,
    compare_class,
    difference_of,
    interval_of,
)


def scene(seed: int, images: int, *, found: float) -> tuple[dict[str, Any], Detections]:
    """Two classes, three objects an image of which a share is found, and a false alarm an image."""
    random = np.random.default_rng(0)
    annotations = []
    for image in range(images):
        for number in range(3):
            side = float(random.choice([20, 60, 120]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1 + int(random.random() < 0.3),
                    "bbox": [200.0 * number, 0.0, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
    content = {
        "images": [{"id": image, "width": 640, "height": 640, "file_name": f"{image}.jpg"} for image in range(images)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    random = np.random.default_rng(seed)
    kept = [entry for entry in annotations if random.random() < found]
    boxes = [np.array(entry["bbox"]) * [1, 1, random.uniform(0.6, 1), 1] for entry in kept]
    return content, Detections(
        np.array([entry["image_id"] for entry in kept] + list(range(images)), np.int64),
        np.array(boxes + [[500.0, 500.0, 50.0, 50.0]] * images),
        random.random(len(kept) + images),
        np.array([entry["category_id"] for entry in kept] + [1] * images, np.int64),
    )


def matched(seed: int = 1, images: int = 40, found: float = 0.7) -> Matched:
    content, detections = scene(seed, images, found=found)
    return match_once(GroundTruth.from_coco(content), detections)


def test_values_and_resamples_are_those_of_evaluations() -> None:
    content, detections = scene(1, 15, found=0.7)
    result = bootstrap(match_once(GroundTruth.from_coco(content), detections), resamples=5, seed=3)
    whole = evaluate(content, detections)
    for key in NUMBERS:
        assert result.values[key] == pytest.approx(whole.numbers[key], abs=1e-12)
    for row, entry in enumerate(whole.per_class):
        assert result.class_values[row] == pytest.approx(entry.numbers["AP"], abs=1e-12)
    for column, counts in enumerate(draw_images(15, 5, 3).T):
        images, annotations, parts = [], [], []
        for image in np.repeat(np.arange(15), counts):
            new = len(images)
            images.append({**content["images"][image], "id": new})
            annotations += [{**e, "image_id": new} for e in content["annotations"] if e["image_id"] == image]
            part = detections.take(detections.image_ids == image)
            parts.append(Detections(np.full(len(part), new), part.boxes, part.scores, part.category_ids))
        again = evaluate(
            {**content, "images": images, "annotations": annotations}, Detections.concatenate(parts)
        ).numbers
        for key in NUMBERS:
            assert result.drawn[key][column] == pytest.approx(again[key], abs=1e-12)


@pytest.mark.parametrize(("method", "reflected"), [("percentile", False), ("basic", True)])
def test_intervals_are_scipys(method: str, reflected: bool) -> None:
    sample = np.random.default_rng(0).beta(2.0, 4.0, size=60)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=5000, method=method, random_state=1)
    ours = interval_of(float(sample.mean()), theirs.bootstrap_distribution, reflected=reflected)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)
    assert ours.deviation == pytest.approx(theirs.standard_error, abs=1e-12)
    # Draws of ours give the same interval, up to chance.
    means = sample @ draw_images(60, 5000, 2) / 60
    mine = interval_of(float(sample.mean()), means, reflected=reflected)
    assert (mine.low, mine.high) == pytest.approx((ours.low, ours.high), abs=0.005)


def test_an_interval_of_a_share_stays_one() -> None:
    nearly_all = interval_of(0.99, np.random.default_rng(0).uniform(0.9, 1.0, 1000), reflected=True)
    assert nearly_all.high == 1.0
    assert nearly_all.low == pytest.approx(0.98, abs=0.01)


def test_more_images_make_the_interval_narrower() -> None:
    widths = []
    for images in (40, 160):
        interval = bootstrap(matched(images=images), resamples=300).interval()
        assert interval.low is not None
        assert interval.high is not None
        assert interval.value is not None
        assert interval.low < interval.value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.4)


def test_a_run_does_not_differ_from_itself() -> None:
    result = bootstrap(matched(), resamples=50)
    difference = compare_bootstraps(result, result)
    assert (difference.interval.value, difference.interval.low, difference.interval.high) == (0.0, 0.0, 0.0)
    assert (difference.p_value, difference.is_shown, difference.images_needed) == (1.0, False, None)


def test_a_better_run_is_shown_to_be_better_and_the_other_way_round() -> None:
    bad, good = (bootstrap(matched(seed, images=80, found=found), resamples=300) for seed, found in ((1, 0.4), (2, 1)))
    difference = compare_bootstraps(bad, good)
    assert difference.is_shown
    assert difference.interval.value is not None
    assert difference.interval.value > 0.1
    assert difference.p_value == pytest.approx(2 / 301)
    assert difference.images_needed is not None
    assert difference.images_needed < 80
    back = compare_bootstraps(good, bad)
    assert back.interval.value == -difference.interval.value
    assert back.interval.low == pytest.approx(-(difference.interval.high or 0))
    assert back.p_value == difference.p_value
    assert back.as_json()["shown"] is True
    # Class by class the same, for the class that both runs share out.
    for row in range(2):
        assert compare_class(bad, good, row).interval.value == pytest.approx(
            good.class_values[row] - bad.class_values[row]
        )


def test_pairing_takes_out_what_the_images_have_in_common() -> None:
    one, other = (bootstrap(matched(seed, images=60), resamples=400) for seed in (1, 2))
    paired = compare_bootstraps(one, other).interval.deviation
    alone = [result.interval().deviation for result in (one, other)]
    assert paired is not None
    assert all(value is not None for value in alone)
    shared = np.corrcoef(one.drawn["AP"], other.drawn["AP"])[0, 1]
    expected = alone[0] ** 2 + alone[1] ** 2 - 2 * shared * alone[0] * alone[1]  # type: ignore[operator]
    assert paired**2 == pytest.approx(expected, rel=1e-9)


def test_the_smallest_difference_is_shown_in_four_of_five_cases() -> None:
    random = np.random.default_rng(0)
    difference = difference_of(0.5, random.normal(0.5, 1.0, 200_000), 100)
    assert difference.smallest == pytest.approx(2.8, abs=0.02)
    # An estimate of deviation 1 around that difference lies outside ± 1.96 as often.
    assert (np.abs(random.normal(difference.smallest, 1.0, 200_000)) > 1.96).mean() == pytest.approx(0.8, abs=0.01)
    # A difference of 0.5 takes (2.8 / 0.5)^2 as many images.
    assert difference.images_needed == pytest.approx(100 * 5.6**2, rel=0.02)
    # What differs in the last digit alone is not told to need a number of images that nobody has.
    assert difference_of(1e-17, random.normal(0, 1.0, 1000), 100).images_needed is None


def test_what_has_no_ground_truth_has_no_interval() -> None:
    content, detections = scene(1, 10, found=1.0)
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["category_id"] == 1 and entry["area"] > 1024
    ]
    result = bootstrap(match_once(GroundTruth.from_coco(content), detections), resamples=20)
    small, dog = result.interval("APs"), result.class_interval(1)
    for interval in (small, dog):
        assert (interval.value, interval.low, interval.high, interval.resamples) == (None, None, None, 0)
    assert compare_bootstraps(result, result, "APs").as_json() == {
        "value": None,
        "low": None,
        "high": None,
        "deviation": None,
        "resamples": 0,
        "p_value": None,
        "shown": False,
        "smallest": None,
        "images_needed": None,
    }
    assert result.interval("AP").value == pytest.approx(result.class_values[0])


def test_few_images_give_no_interval_since_one_object_never_varies() -> None:
    content, detections = scene(1, 40, found=1.0)
    # Dogs on nine images, cats on all; large objects on one.
    dogs = set(range(LEAST_IMAGES - 1))
    for entry in content["annotations"]:
        entry["category_id"] = 1
        entry["area"] = 500.0
    for entry in content["annotations"][::3]:
        entry["category_id"] = 2 if entry["image_id"] in dogs else 1
    content["annotations"][0]["area"] = 20_000.0
    result = bootstrap(match_once(GroundTruth.from_coco(content), detections), resamples=50)
    assert (result.shown["AP"], result.shown["APl"], result.shown["APm"]) == (40, 1, 0)
    assert result.class_shown.tolist() == [40, LEAST_IMAGES - 1]
    for interval in (result.interval("APl"), result.class_interval(1)):
        assert interval.value is not None
        assert (interval.low, interval.high, interval.deviation) == (None, None, None)
    for difference in (compare_bootstraps(result, result, "APl"), compare_class(result, result, 1)):
        assert (difference.interval.value, difference.p_value, difference.is_shown) == (0.0, None, False)
    assert result.interval("APs").low is not None
    assert result.class_interval(0).low is not None


def test_runs_that_were_drawn_differently_are_not_paired() -> None:
    one = bootstrap(matched(), resamples=10, seed=0)
    for other in (
        bootstrap(matched(), resamples=10, seed=1),
        bootstrap(matched(), resamples=11),
        bootstrap(matched(images=41), resamples=10),
    ):
        with pytest.raises(ValueError, match="differently"):
            compare_bootstraps(one, other)
