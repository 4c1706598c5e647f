"""How long it takes to compare two runs of COCO's size, image by image: whole processes, over made-up detections."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rexdet.bench.evaluation import CLASSES, joined, make_data
from rexdet.bench.processes import time_in_turn
from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import evaluate
from rexdet.errors import UserError
from rexdet.runs import Data, DataSplit, Network, Recipe, RunRecord, WeightsFile, write_record

IMAGES = 5_000
# What is asked for, and the words for it; {folder} holds the runs.
WAYS = {
    "compare two runs": ("compare", "{folder}/a", "{folder}/b", "--pictures", "0", "--output", "{folder}/sheets"),
    "intervals of both": ("summarize", "{folder}/a", "{folder}/b", "--no-costs", "--table", "intervals"),
    "errors of both": ("summarize", "{folder}/a", "{folder}/b", "--no-costs", "--table", "errors"),
    "the page of both": ("summarize", "{folder}/a", "{folder}/b", "--no-costs", "--html", "{folder}/page.html"),
}


def run(images: int = IMAGES, rounds: int = 1, *, progress: bool = True) -> list[dict[str, Any]]:
    """A row for each of WAYS: of how many images and detections a run, seconds and processor seconds (medians).

    The ways take turns. Raises UserError for less than one image.
    """
    if images < 1:
        raise UserError(f"--images is {images}", fix="give a number of at least 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detections = make_runs(folder, images)
        ways = {what: [word.format(folder=folder) for word in words] for what, words in WAYS.items()}
        found = time_in_turn(ways, rounds, folder, progress=progress)
    return [
        {
            "what": what,
            "images": images,
            "detections": detections,
            "seconds": round(taken.seconds, 1),
            "processor seconds": round(taken.processor_seconds, 1),
        }
        for what, taken in found.items()
    ]


def make_runs(folder: Path, images: int) -> int:
    """Write two runs, `a` and `b`, of two networks on the same made-up images; returns how many detections each has."""
    truth, outputs = make_data(images)
    annotations = folder / "instances_val.json"
    annotations.write_text(json.dumps(truth))
    one = joined(outputs)
    _write_run(folder / "a", annotations, one, images)
    _write_run(folder / "b", annotations, _worse(one), images)
    return len(one.scores)


def _worse(detections: Detections) -> Detections:
    """What a second detector might have found: much the same, a little beside, and less sure of it."""
    random = np.random.default_rng(1)
    count = len(detections.scores)
    sides = np.tile(detections.boxes[:, 2:], 2)
    boxes = detections.boxes + random.normal(0, 0.03, (count, 4)) * sides
    scores = (0.9 * detections.scores + 0.1 * random.random(count)).clip(0, 1)
    return Detections(detections.image_ids, boxes, scores, detections.category_ids)


def _write_run(folder: Path, annotations: Path, detections: Detections, images: int) -> None:
    detections.save(folder / "detections.json")
    val = DataSplit(
        path=str(annotations),
        fingerprint=hashlib.sha256(annotations.read_bytes()).hexdigest(),
        images=images,
        classes=[f"class {number}" for number in range(CLASSES)],
    )
    record = RunRecord(
        kind="detection",
        name=f"made-up-{folder.name}",
        status="done",
        engine="detectron2",
        config="MODEL:\n  META_ARCHITECTURE: RetinaNet\n",
        seed=0,
        network=Network(name=f"made_up_{folder.name}", norm="BN"),
        data=Data(val=val),
        recipe=Recipe(base_lr=0.01, iterations=90_000),
        metrics={"bbox": evaluate(annotations, detections).numbers},
        evaluated_weights=WeightsFile(holds="raw", iteration=90_000),
        files={"detections": "detections.json"},
    )
    write_record(folder, record)
