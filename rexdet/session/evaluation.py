"""Evaluating: a model over a data set, once within a training run, and alone with a record of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn
from tqdm import tqdm

from rexdet.coco.detections import Detections
from rexdet.job import DetectionJob
from rexdet.processes import is_main
from rexdet.runs.parts import PeriodicEvaluation, WeightsFile
from rexdet.runs.record import RunRecord
from rexdet.runs.run import Run
from rexdet.session.classes import ClassMap
from rexdet.session.predictions import Found
from rexdet.session.say import say
from rexdet.session.scores import Scores, merged, tell_scores


def predict_dataset(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    classes: ClassMap,
    predict: Callable[[Mapping[str, Any]], tuple[int, Found]],
) -> tuple[Detections, dict[int, str]]:
    """Run a model over this process's share of a data set; the main process gets everything.

    loader: what `predict` takes, a picture at a time; {"unreadable": reason, "image_id": id} for what is none.
    predict: the picture's id, and what the model finds on it. The model is in evaluation mode then.

    Returns the detections of all processes (on the main one; empty elsewhere), and image id -> reason of the pictures
    that could not be read. The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    parts: list[Detections] = []
    unreadable: dict[int, str] = {}
    try:
        for inputs in tqdm(
            loader, desc="evaluating", unit="image", disable=not is_main(), delay=5, mininterval=2, leave=False
        ):
            if "unreadable" in inputs:
                unreadable[int(inputs["image_id"])] = inputs["unreadable"]
                continue
            image_id, found = predict(inputs)
            parts.append(found.detections(image_id, classes.category_ids))
    finally:
        model.train(was_training)
    return merged(parts, unreadable)


def note_evaluation(current: Run, holds: Literal["raw", "ema"], scores: Scores, steps: int) -> None:
    """Add the scores after so many steps to a training run's record, and say them; the main process alone does."""
    if not is_main():
        return
    entry = PeriodicEvaluation(iteration=steps, holds=holds, metrics=scores.parts()["metrics"])
    current.update(evaluations=[*current.record.evaluations, entry])
    say(f"after {steps} steps:\n{scores.table()}")


def evaluation_folder(job: DetectionJob, training_folder: Path) -> Path:
    """Where an evaluation alone leaves its files: where the job says, else beside the training run's folder."""
    return Path(job.output) if job.output else training_folder.with_name(f"{training_folder.name}-evaluation")


def record_evaluation(
    record: RunRecord,
    folder: Path,
    weights: WeightsFile,
    evaluate: Callable[[Path], Scores],
    draw: Callable[[Path], None],
) -> None:
    """Evaluate and draw into a folder of its own, with a record that tells of it. weights: what was evaluated."""
    with Run.start(folder, record) as current:
        scores = evaluate(folder)
        draw(folder)
        current.finish(**scores.parts(), evaluated_weights=weights, files=scores.files())
        tell_scores(scores, folder)
