"""The parts of a run's record that detectron2's objects tell."""

from __future__ import annotations

from typing import Any

from torch import nn

from rexdet.coco.annotations import CocoDataset
from rexdet.detectron2.backbone import RexDetBackbone
from rexdet.detectron2.data import CocoFiles
from rexdet.detectron2.external import RexDetExternalBackbone
from rexdet.detectron2.plan import Plan
from rexdet.job import DetectionJob
from rexdet.nets.resnet import STRIDE_PLACES, stride_place
from rexdet.processes import world_size
from rexdet.runs.parts import DataSplit, Finding, Network, Pixels, Recipe
from rexdet.weights import Checkpoint
from rexdet.zoo.names import without_tag


def network_part(detector: nn.Module, plan: Plan) -> Network:
    """The backbone, its checkpoint, and the pixels that the detector takes."""
    backbone = getattr(getattr(detector, "backbone", None), "bottom_up", getattr(detector, "backbone", None))
    pixels = {"mean": plan.pixel_mean, "std": plan.pixel_std, "order": plan.image_format, "range": 255}
    part = Network(name=without_tag(plan.backbone), pixels=Pixels.model_validate(pixels))
    if not isinstance(backbone, RexDetBackbone | RexDetExternalBackbone):
        part.source = plan.detector_weights or None
        return part
    part.norm = norm_of(backbone)
    part.freeze_at = backbone.freeze_at
    part.overrides = {**_overrides(plan), **_stride_of(backbone)}
    checkpoint: Checkpoint | None = backbone.provenance
    if checkpoint is not None:
        part.sha256 = checkpoint.sha256
        part.origin_sha256 = checkpoint.origin_sha256
        part.source = checkpoint.source
        part.layout = checkpoint.layout
        part = Network.model_validate({**part.model_dump(), "pixels_known_by": checkpoint.pixels_known_by})
        part.licence = checkpoint.licence
    return part


def norm_of(backbone: nn.Module) -> str:
    """The kind of norm that the part of the backbone that learns has."""
    if isinstance(backbone, RexDetExternalBackbone):
        return backbone.norm_kind
    from rexdet.nets.layers import BatchNorm2d, FrozenBatchNorm2d, SyncBatchNorm

    kinds = {"BN": BatchNorm2d, "SyncBN": SyncBatchNorm, "GN": nn.GroupNorm}
    for name, kind in kinds.items():
        if any(isinstance(module, kind) for module in backbone.modules()):
            return name
    if any(isinstance(module, FrozenBatchNorm2d) for module in backbone.modules()):
        return "FrozenBN"
    return "BN"


def _stride_of(backbone: nn.Module) -> dict[str, Any]:
    """Where the stride stands, where that is not the network's default: its weights may have said so."""
    place = stride_place(backbone)
    return {} if place in (None, STRIDE_PLACES[0]) else {"stride_in": place}


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


def data_split(
    files: CocoFiles | None, dataset: CocoDataset, *, images: int | None = None, limited: bool = False
) -> DataSplit:
    """One split: its files, its fingerprint, what was found in it."""
    return DataSplit(
        path=str(files.annotations) if files else None,
        images_path=str(files.images) if files else None,
        fingerprint=dataset.fingerprint,
        images=len(dataset) if images is None else images,
        annotations=dataset.annotation_count,
        classes=list(dataset.class_names),
        findings=[
            Finding.model_validate(
                {"action": finding.action, "code": finding.code, "message": finding.message, "count": finding.count}
            )
            for finding in dataset.findings
        ],
        limited=limited,
    )
