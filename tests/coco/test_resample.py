"""AP of resampled images beside a re-evaluation of annotation files in which the drawn images are really copied."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rexdet.coco.detections import Detections, encode_masks
from rexdet.coco.evaluate import evaluate
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matched import Matched, match_once
from rexdet.coco.matching import AREA_RANGES
from rexdet.coco.resample import Resampler, draw_images, image_average_precision, mean_over_classes

Entries = list[dict[str, Any]]
KEYS = {"all": "AP", "small": "APs", "medium": "APm", "large": "APl"}


def random_set(seed: int, images: int = 12, classes: int = 4) -> tuple[dict[str, Any], Entries]:
    """Crowds, objects of all sizes, a class and images without objects, equal scores in different images."""
    random = np.random.default_rng(seed)
    annotations: Entries = []
    detections: Entries = []
    for image in range(1, images + 1):
        here: Entries = []
        for _ in range(random.integers(0, 7)):
            x, y, width, height = (*random.uniform(0, 120, 2), *random.choice([8, 24, 40, 80, 110], 2))
            here.append(
                {
                    "id": len(annotations) + len(here) + 1,
                    "image_id": image,
                    "category_id": int(random.integers(1, classes)),  # the last class has no object
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height),
                    "iscrowd": int(random.random() < 0.1),
                }
            )
        annotations += here
        # None twice in one image, many in different ones.
        scores = random.permutation(40)
        for number in range(random.integers(0, 20)):
            box = random.uniform(1, 100, 4)
            category = int(random.integers(1, classes + 1))
            if here and random.random() < 0.8:
                near = here[random.integers(len(here))]
                box = np.array(near["bbox"]) + random.normal(size=4) * random.choice([0, 1, 5])
                category = near["category_id"] if random.random() < 0.9 else category
            box[2:] = np.abs(box[2:])
            detections.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "score": float(scores[number]) / 40,
                }
            )
    return {
        "info": {},
        "images": [{"id": n, "width": 240, "height": 240, "file_name": f"{n}.jpg"} for n in range(1, images + 1)],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)],
        "annotations": annotations,
    }, detections


def copied(truth: dict[str, Any], entries: Entries, weights: np.ndarray) -> tuple[dict[str, Any], Entries]:
    """The files of a resample: an image drawn twice is there twice, with its objects and detections."""
    images, annotations, detections = [], [], []
    for image, times in zip(truth["images"], weights.tolist(), strict=True):
        for _ in range(times):
            new = len(images) + 1
            images.append({**image, "id": new})
            for target, source in ((annotations, truth["annotations"]), (detections, entries)):
                target += [{**entry, "image_id": new} for entry in source if entry["image_id"] == image["id"]]
    numbered = [{**entry, "id": number} for number, entry in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": numbered}, detections


def columns(entries: Entries) -> Detections:
    return Detections(
        np.array([entry["image_id"] for entry in entries], np.int64),
        np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], np.float64),
        np.array([entry["category_id"] for entry in entries], np.int64),
        [entry["segmentation"] for entry in entries] if entries and "segmentation" in entries[0] else None,
    )


def matched_of(truth: dict[str, Any], entries: Entries, iou_type: str = "bbox") -> Matched:
    return match_once(GroundTruth.from_coco(truth), columns(entries), iou_type)


@pytest.mark.parametrize("seed", range(6))
def test_a_resample_has_the_numbers_of_pycocotools_on_copied_images(seed: int) -> None:
    truth, entries = random_set(seed)
    weights = draw_images(len(truth["images"]), 4, seed)
    assert weights.max() > 1
    matched = matched_of(truth, entries)
    ours = {area: Resampler(matched, area).average_precision(weights) for area in AREA_RANGES}
    for column in range(weights.shape[1]):
        files, detections = copied(truth, entries, weights[:, column])
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = files
            coco.createIndex()
            theirs = COCOeval(coco, coco.loadRes(detections), "bbox")
            theirs.evaluate()
            theirs.accumulate()
        precision = theirs.eval["precision"][..., 2].copy()  # thresholds, recalls, classes, areas; 100 detections
        precision[precision == -1] = np.nan
        for place, area in enumerate(AREA_RANGES):
            np.testing.assert_allclose(
                ours[area][column], precision[..., place].mean(axis=1), atol=1e-12, equal_nan=True
            )


def test_every_image_once_is_the_evaluation_itself() -> None:
    truth, entries = random_set(7, images=30)
    numbers = evaluate(truth, columns(entries)).numbers
    matched = matched_of(truth, entries)
    ones = np.ones((30, 1), np.int64)
    for area, key in KEYS.items():
        values = Resampler(matched, area).average_precision(ones)
        assert mean_over_classes(values)[0] == pytest.approx(numbers[key], abs=1e-12)
    whole = Resampler(matched).average_precision(ones)
    assert mean_over_classes(whole, [0])[0] == pytest.approx(numbers["AP50"], abs=1e-12)
    assert mean_over_classes(whole, [5])[0] == pytest.approx(numbers["AP75"], abs=1e-12)


def test_masks_are_resampled_too() -> None:
    masks = np.zeros((3, 60, 60), bool)
    masks[0, 5:30, 5:30] = masks[1, 5:30, 5:25] = masks[2, 40:50, 40:50] = True
    good, fair, other = encode_masks(masks)
    box = [5.0, 5.0, 25.0, 25.0]
    truth = {
        "images": [{"id": n, "width": 60, "height": 60, "file_name": f"{n}.jpg"} for n in (1, 2, 3)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": box, "area": 625, "iscrowd": 0, "segmentation": good}
            for n in (1, 2)
        ],
    }
    entries = [
        {"image_id": n, "category_id": 1, "bbox": box, "score": score, "segmentation": code}
        for n, score, code in ((1, 0.9, fair), (2, 0.8, other), (3, 0.95, good))
    ]
    weights = np.array([[1, 2, 0], [1, 1, 3], [1, 0, 0]])
    values = mean_over_classes(Resampler(matched_of(truth, entries, "segm")).average_precision(weights))
    for column in range(3):
        files, detections = copied(truth, entries, weights[:, column])
        assert values[column] == pytest.approx(evaluate(files, columns(detections), "segm").numbers["AP"], abs=1e-12)
    assert values[2] == 0.0


def test_a_class_whose_images_are_not_drawn_counts_in_no_mean() -> None:
    truth, entries = random_set(3)
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in (1, 2)]
    matched = matched_of(truth, entries)
    weights = np.zeros((12, 2), np.int64)
    weights[5, 0] = weights[0, 1] = 12
    values = Resampler(matched).average_precision(weights)
    assert np.isnan(values[0]).all()
    means = mean_over_classes(values)
    assert np.isnan(means[0])
    assert means[1] == pytest.approx(np.nanmean(values[1]))


@pytest.mark.parametrize("without", ["images", "detections", "objects"])
def test_nothing_to_resample(without: str) -> None:
    truth, entries = random_set(0)
    if without == "images":
        truth, entries = {**truth, "images": [], "annotations": []}, []
    if without == "detections":
        entries = []
    if without == "objects":
        truth = {**truth, "annotations": []}
    weights = draw_images(len(truth["images"]), 5, 0)
    assert weights.shape == (len(truth["images"]), 5)
    means = mean_over_classes(Resampler(matched_of(truth, entries)).average_precision(weights))
    assert (means == 0).all() if without == "detections" else np.isnan(means).all()


def test_draws_are_with_replacement_and_the_same_for_a_seed() -> None:
    weights = draw_images(200, 300, 5)
    assert (weights.sum(axis=0) == 200).all()
    assert np.array_equal(weights, draw_images(200, 300, 5))
    # A longer series begins with the shorter one, so that more resamples refine the same answer.
    assert np.array_equal(weights[:, :20], draw_images(200, 20, 5))
    # Of an image that is drawn n times out of n, (1 - 1/n)^n is the chance to be left out.
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 200) ** 200, abs=0.005)


def test_an_image_alone_is_an_evaluation_with_one_class() -> None:
    truth, entries = random_set(11, images=20)
    values = image_average_precision(matched_of(truth, entries))
    # Matching stays within a class: an object and a detection of different classes never meet. Keeping classes apart
    # in place, far from each other, makes one class of all without changing a single overlap.
    apart = [
        [
            {**entry, "category_id": 1, "bbox": [entry["bbox"][0] + 1000 * entry["category_id"], *entry["bbox"][1:]]}
            for entry in source
        ]
        for source in (truth["annotations"], entries)
    ]
    for row, image in enumerate(truth["images"]):
        one = {**truth, "images": [image], "categories": truth["categories"][:1]}
        one["annotations"] = [entry for entry in apart[0] if entry["image_id"] == image["id"]]
        expected = evaluate(one, columns([e for e in apart[1] if e["image_id"] == image["id"]])).numbers["AP"]
        if expected is None:
            assert np.isnan(values[row])
        else:
            assert values[row] == pytest.approx(expected, abs=1e-9)
