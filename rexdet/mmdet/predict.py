"""Detections of a model of MMDetection: over a data set, and over one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
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
        found = predict_one(model, inputs, autocast=autocast, use_masks=use_masks)
        return int(inputs["data_samples"].img_id), found

    return evaluation.predict_dataset(model, loader, classes, predict)


def predict_one(
    model: Any, inputs: Mapping[str, Any], *, autocast: torch.dtype | None = None, use_masks: bool = False
) -> Found:
    """What is found on one picture, in its own pixels. The model must be in evaluation mode.

    inputs: what a test pipeline gives.
    """
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        (sample,) = model.test_step(pseudo_collate([dict(inputs)]))
    found = sample.pred_instances
    boxes = getattr(found.bboxes, "tensor", found.bboxes)
    masks = _array(found.masks).astype(bool) if use_masks and "masks" in found else None
    return Found(_array(boxes), _array(found.scores), _array(found.labels), masks)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
