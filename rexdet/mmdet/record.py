"""The parts of a run's record that MMDetection's objects tell."""

from __future__ import annotations

from typing import Any

from torch import nn

from rexdet.mmdet.backbone import RexDetBackbone
from rexdet.mmdet.counts import multiplying_part
from rexdet.mmdet.operators import operators_in_use
from rexdet.mmdet.plan import Plan, length_words
from rexdet.mmdet.stock import describe_stock
from rexdet.processes import world_size
from rexdet.runs.environment import collect_versions
from rexdet.runs.parts import DetectorComplexity, Network, Pixels, Recipe
from rexdet.session.detector_complexity import detector_complexity
from rexdet.session.recipe import lr_mismatch, recipe_differences
from rexdet.session.record import own_norm_of, stride_of, with_checkpoint
from rexdet.zoo.names import without_tag


def network_part(detector: nn.Module, plan: Plan) -> Network:
    """The backbone, its checkpoint, and the pixels that the detector takes."""
    backbone = getattr(detector, "backbone", None)
    part = Network(name=without_tag(plan.backbone), pixels=Pixels.model_validate({**plan.pixels, "range": 255}))
    if not isinstance(backbone, RexDetBackbone):
        return describe_stock(part, backbone, plan)
    part.norm = norm_of(backbone)
    part.freeze_at = backbone.frozen_stages + 1
    part.overrides = {**dict(backbone.settings.overrides), **stride_of(backbone)}
    return with_checkpoint(part, backbone.provenance)


def detector_complexity_part(detector: nn.Module, plan: Plan) -> DetectorComplexity:
    """What the whole detector costs."""
    return detector_complexity(detector, multiplying_part(detector), channels=len(plan.pixels["mean"]))


def norm_of(backbone: RexDetBackbone) -> str:
    """The kind of norm that the part of the backbone that learns has."""
    kind = getattr(backbone.__dict__["network"], "norm_kind", "")
    return str(kind) or own_norm_of(backbone)


def recipe_part(plan: Plan, samples: int) -> Recipe:
    """How the run trains. samples: of its training set."""
    words = plan.words()
    return Recipe(
        effective_batch=plan.effective_batch,
        per_process_batch=plan.batch,
        accumulation=plan.accumulate,
        world_size=world_size(),
        optimizer=words["optimizer"],
        base_lr=plan.base_lr,
        warm_up=words["warm_up"],
        schedule=words["schedule"],
        iterations=-(-plan.iterations(samples) // plan.accumulate),
        amp="bf16" if plan.amp == "bf16" else "fp16" if plan.amp else None,
        ema=plan.ema or None,
        differs_from_recipe=differences(plan),
    )


def differences(plan: Plan) -> list[str]:
    """Where the run differs from its config file, which states the recipe, a line each."""
    actual: dict[str, Any] = {
        "batch": plan.effective_batch,
        "base_lr": plan.base_lr,
        "length": length_words(plan.cfg.train_cfg),
        "amp": plan.amp or "float32",
        **plan.words(),
    }
    return recipe_differences(actual, plan.recipe)


def rate_mismatch(plan: Plan) -> str | None:
    """A line where learning rate and batch do not fit each other, judged by the recipe's ratio of the two."""
    key = "--cfg-options optim_wrapper.optimizer.lr={rate}"
    return lr_mismatch(plan.base_lr, plan.effective_batch, plan.recipe["lr_reference"], key)


def versions() -> dict[str, str]:
    """What the run was made with, mmcv's operators included."""
    return {**collect_versions(), "mmcv operators": operators_in_use()}
