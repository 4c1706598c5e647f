"""A trained detector on pictures of one's own: drawings and COCO JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from rexdet.detectron2.data import network_input
from rexdet.detectron2.plan import Plan, make_plan
from rexdet.detectron2.predict import found_by, predict_one
from rexdet.detectron2.resume import load_detector
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.session import predictions
from rexdet.session.checkpoints import classes_of, read_checkpoint
from rexdet.session.precision import autocast_type


def predict_files(job: DetectionJob, source: str, score_threshold: float) -> int:
    """Detect on one picture or on every picture below a folder, as `rexdet.session.predictions` does. Returns 0.

    Raises UserError: no pictures, a checkpoint that carries no class names or does not fit the config.
    """
    predictions.check_threshold(score_threshold)
    predictions.list_pictures(Path(source))
    detector, plan, names, ids = load_trained(job)

    def predict(picture: np.ndarray) -> predictions.Found:
        inputs = network_input(picture, plan.test_augmentations, plan.image_format)
        return found_by(predict_one(detector, inputs, autocast_type(plan.amp)), plan.use_masks)

    return predictions.predict_files(source, Path(job.output), score_threshold, predict, names, ids)


def load_trained(job: DetectionJob) -> tuple[nn.Module, Plan, list[str], list[int]]:
    """The detector of a checkpoint in evaluation mode, its plan, and its class names and category ids."""
    from rexdet.detectron2.run import check_rule, restore_choices

    content = read_checkpoint(job.weights)
    known = classes_of(content)
    if known is None:
        raise UserError("carries no class names: it was not written by train_det.py", where=job.weights)
    identity, (names, ids) = content["rexdet"], known
    plan = make_plan(job, classes=len(names))
    check_rule(plan, identity, job.weights)
    restore_choices(plan, identity, job.weights)
    detector = plan.build_model()
    load_detector(detector, content, job.weights)
    return detector.to(torch.device(plan.device)).eval(), plan, names, ids
