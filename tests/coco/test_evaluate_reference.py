"""Our numbers beside pycocotools' own, on random sets full of edge cases and on real photographs' annotations."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rexdet.coco.detections import Detections, encode_masks
from rexdet.coco.evaluate import KEYS, Evaluation, evaluate

Entries = list[dict[str, Any]]


def random_set(seed: int, *, images: int, classes: int, most_detections: int) -> tuple[dict[str, Any], Entries]:
    """Ground truth and detections with what trips evaluators.

    Crowds; areas unlike the boxes, exactly on the ends of the ranges; boxes without size; classes and images without
    annotations; classes never detected; equal scores across and within images; equal overlaps; ids out of order.
    """
    random = np.random.default_rng(seed)
    image_list = [
        {"id": int(number) * 3 + 1, "width": 200, "height": 200, "file_name": f"{number}.jpg"}
        for number in random.permutation(images)
    ]
    categories = [{"id": int(number) * 2 + 1, "name": f"class {number}"} for number in random.permutation(classes)]
    annotations: Entries = []
    detections: Entries = []
    for image in image_list:
        here: Entries = []
        for _ in range(random.integers(0, 8)):
            width, height = random.choice([0, 5, 32, 40, 96, 120], 2) + random.choice([0, 0.5], 2)
            x, y = random.uniform(0, 140, 2).round(1)
            here.append(
                {
                    "id": len(annotations) + len(here) + 1,
                    "image_id": image["id"],
                    "category_id": categories[random.integers(max(1, classes - 1))]["id"],
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height * random.choice([0.5, 1, 1])),
                    "iscrowd": int(random.random() < 0.15),
                }
            )
            if random.random() < 0.1:
                here.append({**here[-1], "id": here[-1]["id"] + 1})
        annotations += here
        for _ in range(random.integers(0, most_detections + 1)):
            category = categories[random.integers(classes)]["id"]
            box = random.uniform(0, 100, 4)
            if here and random.random() < 0.8:
                near = here[random.integers(len(here))]
                box = np.array(near["bbox"]) + random.choice([0, 0, 1, 3, 9], 4) * random.normal(size=4).round(1)
                category = near["category_id"] if random.random() < 0.9 else category
            box[2:] = np.abs(box[2:])
            detections.append(
                {
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box.tolist(),
                    "score": round(float(random.random()), int(random.choice([1, 6]))),
                }
            )
    random.shuffle(detections)  # type: ignore[arg-type]
    return {"info": {}, "images": image_list, "categories": categories, "annotations": annotations}, detections


def columns(entries: Entries) -> Detections:
    return Detections(
        np.array([entry["image_id"] for entry in entries], np.int64),
        np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], np.float64),
        np.array([entry["category_id"] for entry in entries], np.int64),
        [entry["segmentation"] for entry in entries] if entries and "segmentation" in entries[0] else None,
    )


def reference(truth: dict[str, Any], entries: Entries, iou_type: str) -> COCOeval:
    """pycocotools' own evaluation. For masks the boxes are taken away, or it would decide area ranges by them."""
    entries = copy.deepcopy(entries)
    if iou_type == "segm":
        for entry in entries:
            del entry["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(entries), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal(ours: Evaluation, theirs: COCOeval) -> None:
    """The 12 numbers, and every point of every curve, to the last digit (-1 there is None and NaN here)."""
    numbers = [-1.0 if ours.numbers[key] is None else ours.numbers[key] for key in KEYS]
    np.testing.assert_allclose(numbers, theirs.stats, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        np.nan_to_num(ours.curves.precision, nan=-1), theirs.eval["precision"][..., 2], rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(np.nan_to_num(ours.curves.score, nan=-1), theirs.eval["scores"][..., 2])
    np.testing.assert_allclose(np.nan_to_num(ours.curves.recall, nan=-1), theirs.eval["recall"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(24))
def test_boxes(seed: int) -> None:
    truth, entries = random_set(
        seed, images=(20, 3, 1)[seed % 3], classes=1 + seed % 5, most_detections=(30, 8, 60)[seed % 3]
    )
    if not entries:
        pytest.skip("this seed detects nothing, which pycocotools cannot evaluate")
    assert_equal(evaluate(truth, columns(entries)), reference(truth, entries, "bbox"))


@pytest.mark.parametrize("seed", range(100, 104))
def test_boxes_with_more_than_100_detections_an_image(seed: int) -> None:
    truth, entries = random_set(seed, images=4, classes=2, most_detections=700)
    ours = evaluate(truth, columns(entries))
    assert ours.counts["detections_beyond_100"] > 0
    assert_equal(ours, reference(truth, entries, "bbox"))


def add_masks(truth: dict[str, Any], entries: Entries, seed: int) -> None:
    """Polygons and both forms of run-length codes for the annotations, ellipse-like codes for the detections."""
    random = np.random.default_rng(seed)
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        polygon = [x, y, x + width + 2, y, x + width + 2, y + height + 2, x + 1, y + height + 3]
        form = random.integers(3)
        if form == 0:
            annotation["segmentation"] = [polygon, [2, 2, 9, 2, 9, 12]]
        else:
            code = mask_tools.merge(mask_tools.frPyObjects([polygon], 200, 200))
            annotation["segmentation"] = (
                {"size": [200, 200], "counts": code["counts"].decode()}
                if form == 1
                else {"size": [200, 200], "counts": run_lengths(mask_tools.decode(code))}
            )
    rows, row_columns = np.mgrid[:200, :200]
    for entry in entries:
        x, y, width, height = entry["bbox"]
        inside = ((row_columns - x - width / 2) / (width / 2 + 1)) ** 6 + (
            (rows - y - height / 2) / (height / 2 + 1)
        ) ** 6 <= 1
        entry["segmentation"] = encode_masks(inside[None])[0]


def run_lengths(pixels: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], pixels.reshape(-1, order="F"), [2]])
    ends = np.flatnonzero(np.diff(flat) != 0)
    return np.diff(ends, prepend=0).tolist()


@pytest.mark.parametrize("seed", range(200, 206))
def test_masks(seed: int) -> None:
    truth, entries = random_set(seed, images=5, classes=1 + seed % 3, most_detections=25)
    add_masks(truth, entries, seed)
    ours = evaluate(truth, columns(entries), "segm")
    assert ours.numbers["AP50"]
    assert_equal(ours, reference(truth, entries, "segm"))


def test_masks_of_another_size_match_nothing_as_in_pycocotools() -> None:
    truth, entries = random_set(300, images=3, classes=1, most_detections=10)
    add_masks(truth, entries, 300)
    for entry in entries[::2]:
        entry["segmentation"] = encode_masks(np.ones((1, 50, 60), bool))[0]
    ours = evaluate(truth, columns(entries), "segm")
    assert ours.counts["masks_of_another_size"] == len(entries[::2])
    assert "of another size than the image" in ours.table()
    assert_equal(ours, reference(truth, entries, "segm"))


@pytest.fixture(scope="module")
def photographs(shared_dir: Path) -> dict[str, Any]:
    path = shared_dir / "data" / "coco-mini" / "annotations" / "instances_val2017.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations_with_jittered_detections(photographs: dict[str, Any], iou_type: str) -> None:
    random = np.random.default_rng(5)
    sizes = {image["id"]: (image["height"], image["width"]) for image in photographs["images"]}
    classes = [category["id"] for category in photographs["categories"]]
    entries: Entries = []
    for annotation in photographs["annotations"]:
        height, width = sizes[annotation["image_id"]]
        for _ in range(random.integers(0, 4)):
            x, y, w, h = np.array(annotation["bbox"]) * random.normal(1, 0.06, 4)
            x, y = np.clip([x, y], 0, [width - 2, height - 2])
            corners = np.array([x, y, min(x + w, width), y, min(x + w, width), min(y + h, height), x, y + h])
            code = mask_tools.merge(mask_tools.frPyObjects([corners.tolist()], height, width))
            entries.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"]
                    if random.random() < 0.8
                    else classes[random.integers(len(classes))],
                    "bbox": [float(x), float(y), float(w), float(h)],
                    "score": round(float(random.random()), 2),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                }
            )
    ours = evaluate(photographs, columns(entries), iou_type)
    assert ours.counts["images"] == len(photographs["images"])
    assert_equal(ours, reference(photographs, entries, iou_type))
