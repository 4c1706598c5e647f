"""Pictures of what a detector of detectron2 finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from rexdet.coco.annotations import CocoDataset, ImageEntry
from rexdet.coco.draw import Objects
from rexdet.detectron2.data import network_input
from rexdet.detectron2.plan import Plan
from rexdet.detectron2.predict import found_by, predict_one
from rexdet.session import scores
from rexdet.session.classes import ClassMap
from rexdet.session.precision import autocast_type


def write_pictures(
    model: nn.Module, dataset: CocoDataset | None, classes: ClassMap, plan: Plan, folder: Path | None = None
) -> None:
    """Draw ground truth beside predictions, into `pictures/` of the run's folder."""

    def predict(picture: np.ndarray, entry: ImageEntry) -> Objects:
        inputs = network_input(picture, plan.test_augmentations, plan.image_format)
        return found_by(predict_one(model, inputs, autocast_type(plan.amp)), use_masks=True).objects(classes.names)

    was_training = model.training
    model.eval()
    try:
        scores.write_pictures(dataset, folder or plan.output, predict)
    finally:
        model.train(was_training)
