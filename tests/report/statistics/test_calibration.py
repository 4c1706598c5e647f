"""Reliability and score thresholds beside scikit-learn's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import fbeta_score, precision_score, recall_score

from rexdet.coco.detections import Detections
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matched import Matched, match_once
from rexdet.errors import UserError
from rexdet.report.statistics.calibration import best_threshold, calibration, choose_thresholds

BOX = [10.0, 10.0, 50.0, 50.0]
ELSEWHERE = [200.0, 200.0, 50.0, 50.0]


def matched_of(right: np.ndarray, scores: np.ndarray, *, missed: int = 0, crowds: int = 0) -> Matched:
    """An image a detection: on its object, or beside an image without any. `missed` images more have an object."""
    images = len(right) + missed + crowds
    annotated = [*np.flatnonzero(right).tolist(), *range(len(right), images)]
    truth = {
        "images": [
            {"id": number, "width": 640, "height": 640, "file_name": f"{number}.jpg"} for number in range(images)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "yeti"}],
        "annotations": [
            {
                "id": image,
                "image_id": image,
                "category_id": 1,
                "bbox": BOX,
                "area": 2500,
                "iscrowd": int(image >= images - crowds),
            }
            for image in annotated
        ],
    }
    found = [BOX if is_right else ELSEWHERE for is_right in right] + [BOX] * crowds
    detections = Detections(
        np.array([*range(len(right)), *range(images - crowds, images)], np.int64),
        np.array(found, np.float64).reshape(-1, 4),
        np.concatenate([scores, np.full(crowds, 0.99)]),
        np.ones(len(found), np.int64),
    )
    return match_once(GroundTruth.from_coco(truth), detections)


def made(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.uniform(0.05, 0.9, count)
    return random.random(count) < scores**1.5, scores


def test_bins_are_scikit_learns() -> None:
    right, scores = made(0)
    ours = calibration(matched_of(right, scores, missed=7))
    precision, score = calibration_curve(right, scores, n_bins=10)
    filled = [entry for entry in ours.bins if entry.count]
    assert [entry.precision for entry in filled] == pytest.approx(precision.tolist())
    assert [entry.score for entry in filled] == pytest.approx(score.tolist())
    counts = np.array([entry.count for entry in filled])
    assert ours.error == pytest.approx((counts * np.abs(precision - score)).sum() / counts.sum())
    assert ours.bins[9].count == 0
    assert (ours.bins[9].score, ours.bins[9].precision) == (None, None)


def test_scores_that_tell_the_truth_have_no_error() -> None:
    # In each bin the share of right ones is the score.
    scores = np.repeat([0.25, 0.5, 0.75], 40)
    right = np.concatenate([np.arange(40) < 40 * share for share in (0.25, 0.5, 0.75)])
    assert calibration(matched_of(right, scores)).error == pytest.approx(0.0)
    assert calibration(matched_of(right, np.full(120, 0.9))).error == pytest.approx(0.4)


def test_crowds_count_neither_way_and_odd_scores_are_left_out() -> None:
    right, scores = made(1, 50)
    assert calibration(matched_of(right, scores, crowds=5)) == calibration(matched_of(right, scores))
    beyond = calibration(matched_of(right, scores * 10))
    assert beyond.beyond == int((scores * 10 > 1).sum())
    # 1 belongs to the last bin.
    assert calibration(matched_of(np.array([True]), np.array([1.0]))).bins[-1].count == 1


def test_a_score_on_a_border_belongs_to_the_bin_that_begins_there() -> None:
    tenths = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    found = calibration(matched_of(np.ones(10, bool), tenths)).bins
    assert [(entry.low, entry.count, entry.score) for entry in found] == [(score, 1, score) for score in tenths]
    # As float32, some of them lie below the border, and stay there.
    found = calibration(matched_of(np.ones(2, bool), np.array([0.7, 0.9], np.float32).astype(np.float64))).bins
    assert [entry.count for entry in found] == [0, 0, 0, 0, 0, 0, 1, 0, 1, 0]


def test_without_detections() -> None:
    nothing = matched_of(np.zeros(0, bool), np.zeros(0), missed=3)
    assert calibration(nothing).error is None
    thresholds = choose_thresholds(nothing)
    assert [entry.threshold for entry in thresholds.classes] == [None, None]
    json.dumps([calibration(nothing).as_json(), thresholds.as_json()], allow_nan=False)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("digits", [1, 6])
def test_the_threshold_is_the_best_of_all_by_scikit_learns_f(beta: float, digits: int) -> None:
    right, scores = made(2, 120)
    scores = scores.round(digits)
    # What is missed altogether never gets a score.
    is_object = np.concatenate([right, np.ones(15, bool)])
    given = np.concatenate([scores, np.full(15, -1.0)])
    values = {
        float(threshold): fbeta_score(is_object, given >= threshold, beta=beta) for threshold in np.unique(scores)
    }
    best = max(values.values())
    expected = max(threshold for threshold, value in values.items() if value == pytest.approx(best, abs=1e-12))
    assert best_threshold(scores, right, int(is_object.sum()), beta) == expected


def test_thresholds_are_chosen_on_one_half_and_measured_on_the_other() -> None:
    right, scores = made(3)
    matched = matched_of(right, scores, missed=20)
    found = choose_thresholds(matched, 1.0, seed=4)
    assert (found.chosen_on, found.held_out) == (210, 210)
    cat = found.classes[0]
    assert cat.threshold is not None
    assert cat.chosen is not None
    assert cat.held_out is not None
    assert cat.chosen.objects + cat.held_out.objects == right.sum() + 20
    chosen = np.zeros(420, bool)
    chosen[np.random.default_rng(4).permutation(420)[:210]] = True
    is_object = np.concatenate([right, np.ones(20, bool)])
    given = np.concatenate([scores, np.full(20, -1.0)])
    for rates, half in ((cat.chosen, chosen), (cat.held_out, ~chosen)):
        kept = given[half] >= cat.threshold
        assert rates.precision == pytest.approx(precision_score(is_object[half], kept))
        assert rates.recall == pytest.approx(recall_score(is_object[half], kept))
        assert rates.f == pytest.approx(fbeta_score(is_object[half], kept, beta=1.0))
    # The halves are others with another seed, and the same with the same.
    assert choose_thresholds(matched, 1.0, seed=4) == found
    assert choose_thresholds(matched, 1.0, seed=5) != found
    # A class without objects has no threshold.
    assert (found.classes[1].name, found.classes[1].threshold) == ("yeti", None)


def test_a_higher_beta_asks_for_more_recall() -> None:
    right, scores = made(5)
    thresholds = [best_threshold(scores, right, int(right.sum()) + 10, beta) for beta in (0.3, 1.0, 3.0)]
    assert thresholds == sorted(thresholds, reverse=True)  # type: ignore[type-var]
    assert thresholds[0] != thresholds[2]


@pytest.mark.parametrize(
    ("beta", "rate"), [(1e200, "recall"), (1e308, "recall"), (1e-200, "precision"), (5e-324, "precision")]
)
@pytest.mark.filterwarnings("error")
def test_an_extreme_beta_weighs_one_of_the_two_alone(beta: float, rate: str) -> None:
    right, scores = made(3)
    # The surest is right: where it is in the half that is chosen on, precision keeps nothing of the other.
    right[0], scores[0] = True, 0.99
    matched = matched_of(right, scores, missed=20)
    seen = set()
    for seed in range(4):
        found = choose_thresholds(matched, beta, seed=seed)
        json.dumps(found.as_json(), allow_nan=False)
        rates = [rates for rates in (found.classes[0].chosen, found.classes[0].held_out) if rates is not None]
        assert [entry.f for entry in rates] == pytest.approx([getattr(entry, rate) or 0.0 for entry in rates])
        seen.update(entry.kept > 0 for entry in rates)
    assert seen == ({True, False} if rate == "precision" else {True})


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf"), float("nan")])
def test_a_beta_that_is_none(beta: float) -> None:
    with pytest.raises(UserError, match="beta"):
        choose_thresholds(matched_of(*made(0, 10)), beta)
