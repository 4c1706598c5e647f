"""Detections of a model of detectron2: over a data set, and over one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from rexdet.coco.detections import Detections
from rexdet.session import evaluation
from rexdet.session.classes import ClassMap
from rexdet.session.predictions import Found


def predict_dataset(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    classes: ClassMap,
    *,
    autocast: torch.dtype | None = None,
    use_masks: bool = False,
) -> tuple[Detections, dict[int, str]]:
    """Run a model over this process's share of a data set: `rexdet.session.evaluation.predict_dataset`."""

    def predict(inputs: Mapping[str, Any]) -> tuple[int, Found]:
        return int(inputs["image_id"]), found_by(predict_one(model, inputs, autocast), use_masks)

    return evaluation.predict_dataset(model, loader, classes, predict)


def predict_one(model: nn.Module, inputs: Mapping[str, Any], autocast: torch.dtype | None = None) -> Any:
    """detectron2's Instances for one picture, on the CPU, in its own pixels. The model must be in evaluation mode."""
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        return model([inputs])[0]["instances"].to("cpu")


def found_by(instances: Any, use_masks: bool) -> Found:
    """detectron2's Instances of one picture as every engine's detections."""
    masks = instances.pred_masks.numpy() if use_masks and instances.has("pred_masks") else None
    # NumPy has no bfloat16.
    boxes, scores = instances.pred_boxes.tensor.float().numpy(), instances.scores.float().numpy()
    return Found(boxes, scores, instances.pred_classes.numpy(), masks)
