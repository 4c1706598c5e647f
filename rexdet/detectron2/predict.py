"""Detections of a model of detectron2: over a data set, and over one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rexdet.coco.detections import Detections
from rexdet.processes import is_main
from rexdet.session.classes import ClassMap
from rexdet.session.predictions import Found
from rexdet.session.scores import merged


def predict_dataset(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    classes: ClassMap,
    *,
    autocast: torch.dtype | None = None,
    use_masks: bool = False,
) -> tuple[Detections, dict[int, str]]:
    """Run a model over this process's share of a data set; the main process gets everything.

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
            instances = predict_one(model, inputs, autocast)
            parts.append(found_by(instances, use_masks).detections(int(inputs["image_id"]), classes.category_ids))
    finally:
        model.train(was_training)
    return merged(parts, unreadable)


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
