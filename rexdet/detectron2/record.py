"""The parts of a run's record that detectron2's objects tell."""

from __future__ import annotations

from typing import Any

from torch import nn

from rexdet.detectron2.backbone import RexDetBackbone
from rexdet.detectron2.counts import multiplying_part
from rexdet.detectron2.external import RexDetExternalBackbone
from rexdet.detectron2.plan import Plan
from rexdet.detectron2.stock import describe_stock
from rexdet.job import DetectionJob
from rexdet.processes import world_size
from rexdet.runs.parts import DetectorComplexity, Network, Pixels, Recipe
from rexdet.session.detector_complexity import detector_complexity
from rexdet.session.record import own_norm_of, stride_of, with_checkpoint
from rexdet.zoo.names import without_tag


def network_part(detector: nn.Module, plan: Plan) -> Network:
    """The backbone, its checkpoint, and the pixels that the detector takes."""
    backbone = getattr(getattr(detector, "backbone", None), "bottom_up", getattr(detector, "backbone", None))
    pixels = {"mean": plan.pixel_mean, "std": plan.pixel_std, "order": plan.image_format, "range": 255}
    part = Network(name=without_tag(plan.backbone), pixels=Pixels.model_validate(pixels))
    if not isinstance(backbone, RexDetBackbone | RexDetExternalBackbone):
        return describe_stock(part, backbone, plan)
    part.norm = norm_of(backbone)
    part.freeze_at = backbone.freeze_at
    part.overrides = {**_overrides(plan), **stride_of(backbone)}
    return with_checkpoint(part, backbone.provenance)


def detector_complexity_part(detector: nn.Module, plan: Plan) -> DetectorComplexity:
    """What the whole detector costs."""
    return detector_complexity(detector, multiplying_part(detector), channels=len(plan.pixel_mean))


def norm_of(backbone: nn.Module) -> str:
    """The kind of norm that the part of the backbone that learns has."""
    return backbone.norm_kind if isinstance(backbone, RexDetExternalBackbone) else own_norm_of(backbone)


def _overrides(plan: Plan) -> dict[str, Any]:
    from rexdet.detectron2.config import read_settings

    return read_settings(plan.cfg).overrides if hasattr(plan.cfg, "MODEL") else {}


def recipe_part(plan: Plan, job: DetectionJob, effective: int, differences: list[str]) -> Recipe:
    """How the run trains."""
    return Recipe(
        effective_batch=effective,
        per_process_batch=plan.batch // world_size(),
        accumulation=job.accumulate,
        world_size=world_size(),
        optimizer=plan.optimizer_name,
        base_lr=plan.base_lr,
        warm_up=plan.warm_up,
        schedule=plan.schedule,
        iterations=plan.iterations,
        amp="bf16" if plan.amp == "bf16" else "fp16" if plan.amp else None,
        ema=job.ema or None,
        differs_from_recipe=differences,
    )
