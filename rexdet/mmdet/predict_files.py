"""A trained detector of MMDetection on pictures of one's own: drawings and COCO JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.begin import begin
from rexdet.mmdet.build import build_model
from rexdet.mmdet.checkpoint import known_classes, load_detector, read_checkpoint
from rexdet.mmdet.data import PixelPipeline
from rexdet.mmdet.plan import Plan, make_plan
from rexdet.mmdet.predict import predict_one
from rexdet.session import predictions
from rexdet.session.checkpoints import check_rule, is_own
from rexdet.session.precision import autocast_type


def predict_files(job: DetectionJob, source: str, score_threshold: float) -> int:
    """Detect on one picture or on every picture below a folder, as `rexdet.session.predictions` does. Returns 0.

    Raises UserError: no pictures, a checkpoint that carries no class names or does not fit the config.
    """
    predictions.check_threshold(score_threshold)
    predictions.list_pictures(Path(source))
    detector, plan, names, ids = load_trained(job)
    pipeline = PixelPipeline(plan.test_pipeline)

    def predict(picture: np.ndarray) -> predictions.Found:
        dtype = autocast_type(plan.amp)
        return predict_one(detector, pipeline(picture), autocast=dtype, use_masks=plan.use_masks)

    return predictions.predict_files(source, Path(job.output), score_threshold, predict, names, ids)


def load_trained(job: DetectionJob) -> tuple[nn.Module, Plan, list[str], list[int]]:
    """The detector of a checkpoint in evaluation mode, its plan, and its class names and category ids.

    A checkpoint of MMDetection's own tools has no category ids: they are then 1, 2, ... in the order of the classes.
    """
    begin()
    content = read_checkpoint(job.weights)
    known = known_classes(content)
    if known is None:
        raise UserError("carries no class names", where=job.weights, fix="take a checkpoint that training wrote")
    identity = content["rexdet"] if is_own(content) else None
    names = known[0]
    plan = make_plan(job, classes=len(names), identity=identity)
    if identity is not None:
        check_rule(plan.backbone, identity, job.weights, "set model.backbone.name to {network}")
    detector = build_model(plan, filled=True)
    load_detector(detector, content, job.weights, len(names))
    return detector.to(plan.device).eval(), plan, names, known[1] or list(range(1, len(names) + 1))
