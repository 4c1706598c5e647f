"""What a job means in detectron2: one plan, whether the config is YAML or a LazyConfig.

A plan holds what the rest of this room needs to know and how to build model, optimiser and schedule; nothing behind it
asks which of detectron2's two config systems it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rexdet.job import DetectionJob
from rexdet.session import recipe

Lines = list[str]


@dataclass
class Plan:
    """A detection run in numbers and builders.

    batch: images a forward pass over all processes. iterations: optimiser steps. The periods count steps.
    backbone: the zoo name, or the builder's name where the backbone is not ours (own_backbone tells).
    group_by_aspect: batches hold pictures that are all wide or all tall. largest_side: px, of a training picture.
    detector_weights: a whole detector's file to start from, or "". said: lines to print before the run begins.
    """

    name: str
    config_text: str
    output: Path
    seed: int | None
    device: str
    train_name: str
    val_name: str
    image_format: str
    train_augmentations: Sequence[Any]
    test_augmentations: Sequence[Any]
    use_masks: bool
    keep_empty: bool
    batch: int
    iterations: int
    checkpoint_period: int
    evaluation_period: int
    workers: int
    amp: str | None
    backbone: str
    own_backbone: bool
    group_by_aspect: bool
    largest_side: int
    detector_weights: str
    base_lr: float
    optimizer_name: str
    schedule: str
    warm_up: str
    pixel_mean: list[float]
    pixel_std: list[float]
    build_model: Callable[[], nn.Module]
    build_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    build_scheduler: Callable[[torch.optim.Optimizer], Any]
    recipe: dict[str, Any]
    cfg: Any
    said: Lines = field(default_factory=list)


def make_plan(job: DetectionJob, *, classes: int | None) -> Plan:
    """Read a job's config and everything that overrides it. classes: how many the heads get; None: the config's own.

    Raises UserError for whatever in the config cannot be.
    """
    if Path(job.config).suffix.lower() == ".py":
        from rexdet.detectron2.plan_lazy import plan_from_lazy

        return plan_from_lazy(job, classes)
    from rexdet.detectron2.plan_yaml import plan_from_yaml

    return plan_from_yaml(job, classes)


def whole_detector(source: str) -> bool:
    """Whether `source` is a file that holds a whole detector of ours, told by its content.

    A name@tag, and a file of a backbone or a classifier, is none. Raises UserError where the file cannot be opened.
    """
    if not Path(source).is_file():
        return False
    from rexdet.weights.formats import read_file

    content = read_file(source).value
    weights = content.get("model", content) if isinstance(content, Mapping) else {}
    parts = ("backbone.bottom_up.", "backbone.fpn_", "proposal_generator.", "roi_heads.", "head.cls_score.")
    return any(str(key).removeprefix("module.").startswith(parts) for key in weights)


def check_shared_memory(plan: Plan, *, per_process_batch: int) -> None:
    """Raise UserError where the workers' batches do not fit into /dev/shm."""
    recipe.check_shared_memory(plan.workers, per_process_batch, plan.largest_side, "DATALOADER.NUM_WORKERS")


def lr_mismatch(plan: Plan, effective_batch: int) -> str | None:
    """A line where learning rate and batch do not fit each other, judged by the recipe's ratio of the two."""
    return recipe.lr_mismatch(plan.base_lr, effective_batch, plan.recipe["lr_reference"], "SOLVER.BASE_LR {rate}")


def recipe_differences(plan: Plan, effective_batch: int) -> Lines:
    """Where the run differs from its config file, which states the recipe, a line each."""
    actual = {
        "batch": effective_batch,
        "base_lr": plan.base_lr,
        "iterations": plan.iterations,
        "optimizer": plan.optimizer_name,
        "schedule": plan.schedule,
        "warm_up": plan.warm_up,
        "amp": plan.amp or "float32",
    }
    return recipe.recipe_differences(actual, plan.recipe)
