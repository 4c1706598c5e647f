"""How long it takes from a detector's tensors to the 12 numbers: others' evaluators and ours, on the same data.

Every way starts from the same float32 tensors, one set an image, and ends with the 12 numbers; reading the ground truth
once is left out for all. Everything runs on one core, and processor time is what is measured, so that other processes
do not count. The ways take turns, so that a processor that slows down slows all of them; the ratios are what counts.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import KEYS, evaluate
from rexdet.coco.ground_truth import GroundTruth

CLASSES = 80
DETECTIONS_AN_IMAGE = 83
OURS = "rexdet"
REFERENCE = "pycocotools"
DETECTRON2 = "detectron2 COCOEvaluator"

Way = Callable[[], list[float]]
"""One way from the tensors to the 12 numbers in `KEYS` order, -1 where there is no ground truth."""


@dataclass(frozen=True)
class ImageOutput:
    """What a detector gives for one image: boxes (n, 4) x1, y1, x2, y2, scores (n,), classes (n,) from 0."""

    image_id: int
    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


def run(images: int = 1000, rounds: int = 3, progress: bool = True) -> list[dict[str, Any]]:
    """Time every evaluator that is installed; one row each, in the order of the table.

    Keys: `evaluator`; `seconds` of processor time, the median of `rounds` turns; `times detectron2` (or pycocotools,
    where detectron2 is not installed), how many times as fast as that; `largest difference` of the 12 numbers from
    pycocotools'.
    """
    truth, outputs = make_data(images)
    with _one_core(), tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "annotations.json"
        annotations.write_text(json.dumps(truth))
        ways = _ways(annotations, truth, outputs)
        numbers = {name: np.array(way()) for name, way in ways.items()}  # also warms everything up
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in tqdm(range(rounds), desc="rounds", disable=not progress):
            for name, way in ways.items():
                begin = time.process_time()
                way()
                seconds[name].append(time.process_time() - begin)
    base = DETECTRON2 if DETECTRON2 in ways else REFERENCE
    return [
        {
            "evaluator": name,
            "seconds": statistics.median(seconds[name]),
            f"times {base.split()[0]}": statistics.median(
                one / other for one, other in zip(seconds[base], seconds[name], strict=True)
            ),
            "largest difference": float(np.abs(numbers[name] - numbers[REFERENCE]).max()),
        }
        for name in ways
    ]


def make_data(images: int, seed: int = 0) -> tuple[dict[str, Any], list[ImageOutput]]:
    """A COCO annotation file's content and a detector's output for it: near the objects, and false alarms."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    outputs = []
    for image in range(1, images + 1):
        count = int(random.integers(0, 15))
        origins = random.uniform(0, 400, (count, 2))
        sides = random.lognormal(4, 0.9, (count, 2)).clip(4, 400)
        classes = random.integers(0, CLASSES, count)
        crowds = random.random(count) < 0.02
        for row in range(count):
            box = [*origins[row].tolist(), *sides[row].tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(classes[row]) + 1,
                    "bbox": box,
                    "area": 0.7 * box[2] * box[3],
                    "iscrowd": int(crowds[row]),
                }
            )
        outputs.append(_detect(random, image, np.concatenate([origins, origins + sides], axis=1), classes))
    content = {
        "info": {},
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 640} for image in range(1, images + 1)
        ],
        "categories": [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)],
        "annotations": annotations,
    }
    return content, outputs


def joined(outputs: Iterable[ImageOutput]) -> Detections:
    """The detections of all images; category ids are those of `make_data`, from 1."""
    return Detections.concatenate(
        Detections.from_image(output.image_id, output.boxes, output.scores, output.classes + 1) for output in outputs
    )


def _detect(
    random: np.random.Generator, image: int, corners: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]
) -> ImageOutput:
    """Half of the detections near objects (when there are any), most of those of the right class; the rest anywhere."""
    near = DETECTIONS_AN_IMAGE // 2 if len(corners) else 0
    chosen = random.integers(0, max(len(corners), 1), near)
    sides = corners[chosen, 2:] - corners[chosen, :2]
    jittered = corners[chosen] + random.normal(0, 0.12, (near, 4)) * np.concatenate([sides, sides], axis=1)
    begin = random.uniform(0, 500, (DETECTIONS_AN_IMAGE - near, 2))
    anywhere = np.concatenate([begin, begin + random.uniform(5, 140, begin.shape)], axis=1)
    boxes = np.concatenate([jittered, anywhere])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = random.integers(0, CLASSES, DETECTIONS_AN_IMAGE)
    right = np.flatnonzero(random.random(near) < 0.8)
    labels[right] = classes[chosen[right]]
    scores = random.beta(1, 4, DETECTIONS_AN_IMAGE)
    scores[right] = random.beta(2, 2, len(right))
    return ImageOutput(
        image,
        torch.from_numpy(boxes.astype(np.float32)),
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(labels),
    )


def _ways(annotations: Path, truth: dict[str, Any], outputs: list[ImageOutput]) -> dict[str, Way]:
    """Every evaluator that is installed, ready to run: its ground truth is read already."""
    ways: dict[str, Way] = {}
    if importlib.util.find_spec("detectron2"):
        ways[DETECTRON2] = _detectron2_way(annotations, outputs)
    ways[REFERENCE] = _pycocotools_way("pycocotools.coco", "pycocotools.cocoeval", "COCOeval", annotations, outputs)
    if importlib.util.find_spec("faster_coco_eval"):
        name = "faster_coco_eval"
        ways["faster-coco-eval"] = _pycocotools_way(name, name, "COCOeval_faster", annotations, outputs)
    if importlib.util.find_spec("hotcoco"):
        ways["hotcoco"] = _hotcoco_way(truth, outputs)
    ways[OURS] = _our_way(truth, outputs)
    return ways


def _our_way(truth: dict[str, Any], outputs: list[ImageOutput]) -> Way:
    ground_truth = GroundTruth.from_coco(truth)

    def way() -> list[float]:
        numbers = evaluate(ground_truth, joined(outputs)).numbers
        return [-1.0 if number is None else number for number in map(numbers.__getitem__, KEYS)]

    return way


def _detectron2_way(annotations: Path, outputs: list[ImageOutput]) -> Way:
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOEvaluator, coco_evaluation
    from detectron2.structures import Boxes, Instances

    # The catalogue is global and refuses a second value for a name: the temporary folder makes the name new.
    name = f"rexdet_benchmark_{annotations.parent.name}"
    MetadataCatalog.get(name).set(
        json_file=str(annotations),
        thing_classes=[f"class {number}" for number in range(CLASSES)],
        thing_dataset_id_to_contiguous_id={number + 1: number for number in range(CLASSES)},
    )
    logging.getLogger(coco_evaluation.__name__).setLevel(logging.WARNING)
    evaluator = COCOEvaluator(name, tasks=("bbox",), distributed=False, use_fast_impl=False)
    pairs = [
        (
            {"image_id": output.image_id},
            {
                "instances": Instances(
                    (640, 640), pred_boxes=Boxes(output.boxes), scores=output.scores, pred_classes=output.classes
                )
            },
        )
        for output in outputs
    ]
    kept: list[list[float]] = []
    original = coco_evaluation.COCOeval

    class Keeping(original):  # type: ignore[misc, valid-type]
        """detectron2 gives six of the numbers, in percent; this keeps all twelve."""

        def summarize(self) -> None:
            super().summarize()
            kept.append([float(number) for number in self.stats])

    def way() -> list[float]:
        coco_evaluation.COCOeval = Keeping
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                evaluator.reset()
                for given, output in pairs:
                    evaluator.process([given], [output])
                evaluator.evaluate()
        finally:
            coco_evaluation.COCOeval = original
        return kept.pop()

    return way


def _pycocotools_way(
    coco_module: str, evaluation_module: str, evaluation: str, annotations: Path, outputs: list[ImageOutput]
) -> Way:
    """pycocotools, or a library with its interface."""
    evaluation_class = getattr(importlib.import_module(evaluation_module), evaluation)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = importlib.import_module(coco_module).COCO(str(annotations))

    def way() -> list[float]:
        entries = []
        for output in outputs:
            boxes = output.boxes.clone()
            boxes[:, 2:] -= boxes[:, :2]
            entries += [
                {"image_id": output.image_id, "category_id": label + 1, "bbox": box, "score": score}
                for box, score, label in zip(
                    boxes.tolist(), output.scores.tolist(), output.classes.tolist(), strict=True
                )
            ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = evaluation_class(ground_truth, ground_truth.loadRes(entries), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(number) for number in evaluation.stats[:12]]

    return way


def _hotcoco_way(truth: dict[str, Any], outputs: list[ImageOutput]) -> Way:
    hotcoco = importlib.import_module("hotcoco")
    ground_truth = hotcoco.COCO(truth)

    def way() -> list[float]:
        rows = np.concatenate(
            [
                np.column_stack(
                    [
                        np.full(len(output.boxes), output.image_id),
                        output.boxes[:, :2].numpy(),
                        (output.boxes[:, 2:] - output.boxes[:, :2]).numpy(),
                        output.scores.numpy(),
                        output.classes.numpy() + 1,
                    ]
                )
                for output in outputs
            ]
        ).astype(np.float64)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = hotcoco.COCOeval(ground_truth, ground_truth.load_res(rows), "bbox")
            evaluation.run()
        return [float(number) for number in evaluation.stats]

    return way


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process on one of its cores (where the system can): libraries that start threads gain nothing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
