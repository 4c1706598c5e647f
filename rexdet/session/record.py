"""The parts of a run's record that are told the same way for every engine."""

from __future__ import annotations

from typing import Any

from torch import nn

from rexdet.coco.annotations import CocoDataset
from rexdet.nets.layers import BatchNorm2d, FrozenBatchNorm2d, SyncBatchNorm
from rexdet.nets.resnet import STRIDE_PLACES, stride_place
from rexdet.runs.parts import DataSplit, Finding, Network
from rexdet.session.data import CocoFiles
from rexdet.weights import Checkpoint
from rexdet.zoo.open import is_network


def with_checkpoint(part: Network, checkpoint: Checkpoint | None) -> Network:
    """The network's part with what is known of the checkpoint that it started from; None: random weights."""
    if checkpoint is None:
        return part
    part.sha256 = checkpoint.sha256
    part.origin_sha256 = checkpoint.origin_sha256
    part.source = checkpoint.source
    part.layout = checkpoint.layout
    part = Network.model_validate({**part.model_dump(), "pixels_known_by": checkpoint.pixels_known_by})
    part.licence = checkpoint.licence
    return part


def own_norm_of(backbone: nn.Module) -> str:
    """The kind of norm that the part of a backbone of ours that learns has."""
    kinds = {"BN": BatchNorm2d, "SyncBN": SyncBatchNorm, "GN": nn.GroupNorm}
    for name, kind in kinds.items():
        if any(isinstance(module, kind) for module in backbone.modules()):
            return name
    if any(isinstance(module, FrozenBatchNorm2d) for module in backbone.modules()):
        return "FrozenBN"
    return "BN"


def stride_of(backbone: nn.Module) -> dict[str, Any]:
    """Where the stride stands, where that is not the network's default: its weights may have said so."""
    place = stride_place(backbone)
    return {} if place in (None, STRIDE_PLACES[0]) else {"stride_in": place}


def stock_resnet(depth: int, *, groups: int, width: int, strided_first: bool) -> tuple[str, dict[str, Any]] | None:
    """The zoo name of a toolbox's own ResNet, and what differs from it; None where no name fits.

    groups, width: of the middle convolutions in res2, channels a group. strided_first: the stride stands in the first
    convolution of a bottleneck.
    """
    name = f"resnet{depth}" if (groups, width) == (1, 64) else f"resnext{depth}_{groups}x{width}d"
    return (name, {"stride_in": STRIDE_PLACES[1]} if strided_first else {}) if is_network(name) else None


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
