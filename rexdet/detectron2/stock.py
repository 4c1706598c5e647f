"""detectron2's own ResNets in the words of ours: a baseline stands in the tables beside what is held against it.

Read off the built modules, so that configs of both kinds are told alike.
"""

from __future__ import annotations

from typing import Any

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, ResNet
from torch import nn

from rexdet.detectron2.foreign import CATALOGUE, CATALOGUE_URL, foreign_file
from rexdet.detectron2.plan import Plan, whole_detector
from rexdet.errors import UserError
from rexdet.runs.parts import Network
from rexdet.session.record import stock_resnet
from rexdet.weights.checkpoint import hash_file
from rexdet.zoo import published

_DEPTHS = {
    (BasicBlock, (2, 2, 2, 2)): 18,
    (BasicBlock, (3, 4, 6, 3)): 34,
    (BottleneckBlock, (3, 4, 6, 3)): 50,
    (BottleneckBlock, (3, 4, 23, 3)): 101,
    (BottleneckBlock, (3, 8, 36, 3)): 152,
}
_NORMS = {
    FrozenBatchNorm2d: "FrozenBN",
    nn.BatchNorm2d: "BN",
    nn.SyncBatchNorm: "SyncBN",
    nn.GroupNorm: "GN",
}


def describe_stock(part: Network, backbone: nn.Module | None, plan: Plan) -> Network:
    """What is known of a backbone of detectron2's own: name, norm, freezing, and the file that it began from.

    A backbone that none of our names fits keeps its builder's name.
    """
    if isinstance(backbone, ResNet):
        if (known := _name(backbone)) is not None:
            part.name, part.overrides = known
        part.norm = _norm(backbone)
        part.freeze_at = _frozen(backbone)
    if not plan.detector_weights:
        return part
    part.source = _published_name(plan.detector_weights) or plan.detector_weights
    try:
        # A whole detector says nothing of the file that its backbone began from.
        if not whole_detector(plan.detector_weights):
            part.sha256 = hash_file(foreign_file(plan.detector_weights))
    except (OSError, UserError):
        # It was there when the run began, and a run that goes on needs it no more: its name is what is known.
        pass
    return part


def _name(backbone: ResNet) -> tuple[str, dict[str, Any]] | None:
    """The zoo name and what differs from it, None where no name fits."""
    blocks = [[*stage] for stage in backbone.stages]
    kinds = {type(block) for stage in blocks for block in stage}
    if len(kinds) != 1 or len(blocks) not in (3, 4):
        return None
    (kind,) = kinds
    counts = tuple(map(len, blocks))
    depths = [depth for (of, known), depth in _DEPTHS.items() if of is kind and known[: len(counts)] == counts]
    if not depths or any(block.conv2.dilation != (1, 1) for stage in blocks for block in stage):
        return None
    first = blocks[0][0]
    if backbone.stem.out_channels != 64 or first.out_channels != (64 if kind is BasicBlock else 256):
        return None
    groups = first.conv2.groups
    # Of stages with a stride the first block says where it stands.
    strided_first = kind is BottleneckBlock and blocks[1][0].conv1.stride != (1, 1)
    return stock_resnet(depths[0], groups=groups, width=first.conv2.out_channels // groups, strided_first=strided_first)


def _norm(backbone: ResNet) -> str | None:
    """The kind of norm of the last stage, which is frozen last."""
    found = [_NORMS[type(part)] for part in backbone.stages[-1].modules() if type(part) in _NORMS]
    return found[0] if found else None


def _frozen(backbone: ResNet) -> int:
    """How many of stem and stages do not learn, counted as FREEZE_AT."""
    parts = (backbone.stem, *backbone.stages)
    learning = [any(parameter.requires_grad for parameter in part.parameters()) for part in parts]
    return learning.index(True) if any(learning) else len(parts)


def _published_name(source: str) -> str:
    """NAME@TAG of a file of detectron2's model zoo, "" for any other."""
    if not source.startswith(CATALOGUE):
        return ""
    url = CATALOGUE_URL + source.removeprefix(CATALOGUE)
    return next((entry.name for entry in published.entries() for file in entry.files if file.url == url), "")
