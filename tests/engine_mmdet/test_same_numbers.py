"""The same detections file scores the same 12 numbers in both engines and in pycocotools, crowded pictures and masks.

detectron2's runs score the file with `rexdet.coco.evaluate`; MMDetection's evaluators with `RexDetCocoMetric`, which is
given here what the file holds, as a detector gives it.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import KEYS, evaluate

SIDE, OBJECTS, FOUND = 320, 150, 170
# Of three classes of the model, in its order; the file's ids have gaps, and its own order is another.
CLASSES = ("bird", "car", "dog")
IDS = {"dog": 7, "bird": 3, "car": 90}
ImageFound = tuple[np.ndarray, np.ndarray, list[int], np.ndarray]


def masks_of(boxes: np.ndarray) -> np.ndarray:
    """bool (N, SIDE, SIDE): the ellipse in each box (x, y, w, h)."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    x0, y0, w, h = (boxes[:, column, None, None] for column in range(4))
    inside: np.ndarray = ((x + 0.5 - x0 - w / 2) / (w / 2)) ** 2 + ((y + 0.5 - y0 - h / 2) / (h / 2)) ** 2 <= 1
    return inside


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[int, ImageFound]]:
    """(annotation file, detections file, image id -> what a detector found): three pictures of 150 objects, and an
    empty one. Boxes are whole sixteenths of a pixel, which float32 and JSON both hold."""
    folder = tmp_path_factory.mktemp("crowded")
    generator = np.random.default_rng(4)
    images = [{"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE} for number in (11, 4, 9, 2)]
    annotations: list[dict[str, Any]] = []
    found: dict[int, ImageFound] = {}
    for image in images[:3]:
        sizes = np.exp(generator.uniform(np.log(6), np.log(110), (OBJECTS, 2)))
        corners = generator.uniform(0, 1, (OBJECTS, 2)) * (SIDE - sizes)
        boxes = np.round(np.hstack([corners, sizes]) * 16) / 16
        labels = generator.integers(0, 3, OBJECTS)
        masks = masks_of(boxes)
        for row in range(OBJECTS):
            code = coco_mask.encode(np.asfortranarray(masks[row].astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": IDS[CLASSES[labels[row]]],
                    "bbox": boxes[row].tolist(),
                    "area": float(coco_mask.area(code)),
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                    "iscrowd": int(row % 25 == 0),
                }
            )
        drawn = generator.integers(0, OBJECTS, FOUND)
        moved = boxes[drawn] + generator.normal(0, 1.5, (FOUND, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], 2)
        moved = np.round(moved * 16) / 16
        # Ties between scores too: a few values only.
        scores = generator.integers(1, 60, FOUND).astype(np.float32) / 64
        wrong = generator.uniform(size=FOUND) < 0.15
        given = np.where(wrong, generator.integers(0, 3, FOUND), labels[drawn])
        corners = np.hstack([moved[:, :2], moved[:, :2] + moved[:, 2:]]).astype(np.float32)
        found[int(image["id"])] = (corners, scores, given.tolist(), masks_of(moved))
    categories = [{"id": number, "name": name} for name, number in IDS.items()]
    truth = folder / "truth.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    parts = [
        Detections.from_image(image, boxes, scores, [IDS[CLASSES[label]] for label in labels], masks)
        for image, (boxes, scores, labels, masks) in sorted(found.items())
    ]
    saved = folder / "detections.json"
    Detections.concatenate(parts).save(str(saved))
    return truth, saved, found


def in_mmdetection(truth: Path, found: dict[int, ImageFound]) -> dict[str, float]:
    metric = METRICS.build({"type": "RexDetCocoMetric", "ann_file": str(truth), "metric": ["bbox", "segm"]})
    metric.dataset_meta = {"classes": CLASSES}
    for image, (boxes, scores, labels, masks) in found.items():
        instances = {
            "bboxes": torch.from_numpy(boxes),
            "scores": torch.from_numpy(scores),
            "labels": torch.tensor(labels),
            "masks": torch.from_numpy(masks),
        }
        metric.process(None, [{"img_id": image, "pred_instances": instances}])
    numbers: dict[str, float] = metric.evaluate(size=len(found))
    return numbers


def in_pycocotools(truth: Path, saved: Path, kind: str) -> list[float]:
    rows = json.loads(saved.read_text())
    if kind == "segm":
        # With a box beside it, a mask's size would be taken to be that of the box; both engines leave the box out.
        rows = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(truth))
        scored = COCOeval(reference, reference.loadRes(rows), kind)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return list(scored.stats)


def test_twelve_numbers_of_boxes_and_masks(scene: tuple[Path, Path, dict[int, ImageFound]]) -> None:
    truth, saved, found = scene
    here = in_mmdetection(truth, found)
    for kind in ("bbox", "segm"):
        there = evaluate(truth, saved, kind).numbers
        reference = in_pycocotools(truth, saved, kind)
        assert 0.1 < (there["AP"] or 0) < 0.9
        for key, value in zip(KEYS, reference, strict=True):
            if value == -1:
                assert there[key] is None
                assert f"coco/{kind}_{key}" not in here
                continue
            assert there[key] == pytest.approx(value, abs=1e-6), (kind, key)
            assert here[f"coco/{kind}_{key}"] == pytest.approx(there[key], abs=1e-6), (kind, key)


def test_boxes_and_masks_are_not_the_same_question(scene: tuple[Path, Path, dict[int, ImageFound]]) -> None:
    truth, saved, _ = scene
    assert evaluate(truth, saved, "bbox").numbers["AP"] != evaluate(truth, saved, "segm").numbers["AP"]
    counts = evaluate(truth, saved, "bbox").counts
    assert counts["images"] == 4
    assert counts["images_without_objects"] == 1
    assert counts["crowds"] == 3 * 6


def test_an_engines_own_metric_rounds_and_counts_otherwise(scene: tuple[Path, Path, dict[int, ImageFound]]) -> None:
    """Why there is a metric of ours: MMDetection's gives three decimals."""
    from mmdet.evaluation import CocoMetric

    truth, saved, found = scene
    with contextlib.redirect_stdout(io.StringIO()):
        metric = CocoMetric(ann_file=str(truth), metric="bbox")
        metric.dataset_meta = {"classes": CLASSES}
        for image, (boxes, scores, labels, _) in found.items():
            instances = {
                "bboxes": torch.from_numpy(boxes),
                "scores": torch.from_numpy(scores),
                "labels": torch.tensor(labels),
            }
            metric.process(None, [{"img_id": image, "ori_shape": (SIDE, SIDE), "pred_instances": instances}])
        own = metric.evaluate(size=len(found))
    exact = evaluate(truth, saved, "bbox").numbers["AP"]
    assert own["coco/bbox_mAP"] == round(own["coco/bbox_mAP"], 3)
    assert own["coco/bbox_mAP"] != exact
