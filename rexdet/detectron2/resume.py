"""What is detectron2's own about the checkpoints of a run: their names, what they hold, their class-dependent layers.

A checkpoint holds tensors, numbers, strings, lists and dicts, so that `torch.load(weights_only=True)` opens it with no
allow-list. The weights under "model" are those that an evaluation takes: the averaged ones where there are such, and
then "raw" holds the ones that training goes on with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from rexdet.session import checkpoints
from rexdet.session.checkpoints import Weights

RESUME_KEYS = ("model", "optimizer", "scheduler", "iteration", "sampler", "random", "time", "numbers")
COMPANION_KEYS = ("rexdet", "ema", "raw", "scaler")


def step_file(iteration: int) -> str:
    """The name of the checkpoint written after `iteration`, counted from 0 as detectron2 does."""
    return f"model_{iteration:07d}.pth"


def check_resumable(content: Mapping[str, Any], where: str) -> None:
    """Raise UserError where going on from a checkpoint is not possible, or not the same run."""
    checkpoints.check_resumable(content, where, RESUME_KEYS, COMPANION_KEYS)


def load_detector(model: nn.Module, content: Mapping[str, Any], where: str) -> list[str]:
    """Fill a whole detector from a checkpoint, strictly; returns lines that tell what was loaded. Raises UserError."""
    return checkpoints.load_detector(
        model,
        content["model"],
        where,
        backbone="backbone.bottom_up.",
        depends_on_classes=lambda key: _CLASS_LAYERS.search(key) is not None,
        class_counts=_class_counts,
    )


_CLASS_LAYERS = re.compile(r"(cls_score|bbox_pred|predictor)\.(weight|bias)$")


def _class_counts(keys: list[str], own: Weights, weights: Weights) -> tuple[int, int]:
    """How many classes the file has and the model has, read off a layer that was reset."""
    key = next((key for key in keys if "cls_score" in key), keys[0])
    return _classes_of(key, weights), _classes_of(key, own)


def _classes_of(key: str, weights: Weights) -> int:
    outputs = weights[key].shape[0]
    if key.startswith("head."):
        # A dense head scores every class for every anchor, and has four box outputs an anchor.
        return outputs // max(weights[re.sub(r"cls_score", "bbox_pred", key)].shape[0] // 4, 1)
    if "cls_score" in key:
        # A region head has one output more, for the background.
        return outputs - 1
    return outputs // 4 if "bbox_pred" in key else outputs
