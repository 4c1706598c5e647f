"""Our metric in MMDetection: the same detections give the same 12 numbers as everywhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS

from rexdet.coco.evaluate import evaluate
from rexdet.errors import UserError

Truth = dict[str, Any]
Make = Callable[..., Any]


@pytest.fixture
def truth() -> Truth:
    """Three crowded pictures, 150 objects each, of two of three classes whose ids have gaps and another order."""
    generator = np.random.default_rng(0)
    annotations = []
    for image in (4, 9, 11):
        for _ in range(150):
            x, y = generator.uniform(0, 500, 2)
            w, h = generator.uniform(4, 130, 2)
            category = int(generator.choice([90, 7]))
            box = [float(v) for v in (x, y, w, h)]
            number = len(annotations) + 1
            entry = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": float(w * h)}
            annotations.append({**entry, "iscrowd": 0})
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 640} for i in (4, 9, 11)],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "car"}, {"id": 7, "name": "dog"}],
    }


@pytest.fixture
def make(tmp_path: Path, truth: Truth) -> Make:
    """(metric arguments) -> the metric over the file, told the model's classes."""
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))

    def build(classes: tuple[str, ...] = ("dog", "cat", "car"), **arguments: Any) -> Any:
        metric = METRICS.build({"type": "RexDetCocoMetric", "ann_file": str(path), **arguments})
        metric.dataset_meta = {"classes": classes}
        return metric

    return build


LABELS = {7: 0, 90: 2}  # of ("dog", "cat", "car")


def samples(truth: Truth) -> list[dict[str, Any]]:
    """What a detector says: jittered boxes, and for every picture one of a class that the file lacks."""
    generator = np.random.default_rng(1)
    found = []
    for image in truth["images"]:
        mine = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        boxes = np.array([entry["bbox"] for entry in mine]) + generator.normal(0, 4, (len(mine), 4))
        boxes[:, 2:] = boxes[:, :2] + np.maximum(boxes[:, 2:], 1)
        labels = [LABELS[entry["category_id"]] for entry in mine]
        instances = {
            "bboxes": torch.tensor(np.vstack([boxes, [[1, 1, 9, 9]]]), dtype=torch.float32),
            "scores": torch.tensor(generator.uniform(0, 1, len(mine) + 1), dtype=torch.float32),
            "labels": torch.tensor([*labels, 1]),
        }
        found.append({"img_id": image["id"], "pred_instances": instances})
    return found


def test_the_numbers_are_those_of_the_detections_file(make: Make, truth: Truth, tmp_path: Path) -> None:
    saved = tmp_path / "detections.json"
    metric = make(detections=str(saved))
    metric.process(None, samples(truth))
    numbers = metric.evaluate(size=3)
    rows = json.loads(saved.read_text())
    assert len(rows) == 450
    assert {row["category_id"] for row in rows} == {7, 90}
    again = evaluate(tmp_path / "truth.json", saved).numbers
    assert {f"coco/bbox_{key}": value for key, value in again.items() if value is not None} == numbers
    assert 0.1 < numbers["coco/bbox_AP"] < 0.9
    assert round(numbers["coco/bbox_AP"], 3) != numbers["coco/bbox_AP"]


def test_they_are_pycocotools_numbers(make: Make, truth: Truth, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    saved = tmp_path / "detections.json"
    metric = make(detections=str(saved))
    metric.process(None, samples(truth))
    numbers = metric.evaluate(size=3)
    reference = COCO(str(tmp_path / "truth.json"))
    scored = COCOeval(reference, reference.loadRes(str(saved)), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    for name, value in zip(names, scored.stats, strict=True):
        assert numbers[f"coco/bbox_{name}"] == pytest.approx(value, abs=1e-6), name


def test_a_picture_that_two_processes_predicted_counts_once(make: Make, truth: Truth) -> None:
    once, twice = make(), make()
    once.process(None, samples(truth))
    twice.process(None, samples(truth))
    twice.process(None, samples(truth)[:1])
    assert once.compute_metrics(once.results) == twice.compute_metrics(twice.results)


def test_an_empty_area_range_is_left_out_and_never_minus_one(make: Make, truth: Truth, tmp_path: Path) -> None:
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["area"] < 32**2]
    small = tmp_path / "truth.json"
    metric = make()
    small.write_text(json.dumps(truth))
    metric.process(None, samples(truth))
    numbers = metric.evaluate(size=3)
    assert "coco/bbox_APs" in numbers
    assert not {"coco/bbox_APm", "coco/bbox_APl", "coco/bbox_ARl"} & set(numbers)
    assert min(numbers.values()) >= 0


def test_a_model_of_other_classes_is_refused(make: Make, truth: Truth) -> None:
    metric = make(classes=("bird", "fish", "bee"))
    metric.process(None, samples(truth))
    with pytest.raises(UserError, match=r"none of its 2 classes is known to the model"):
        metric.evaluate(size=3)
    with pytest.raises(UserError, match="bbox, segm"):
        make(metric="keypoints")
