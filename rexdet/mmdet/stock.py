"""MMDetection's own ResNets in the words of ours: a baseline stands in the tables beside what is held against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from rexdet.mmdet.plan import Plan
from rexdet.runs.parts import Network
from rexdet.session.record import stock_resnet
from rexdet.weights.checkpoint import hash_file


def describe_stock(part: Network, backbone: nn.Module | None, plan: Plan) -> Network:
    """What is known of a backbone of MMDetection's own: name, norm, freezing, and the file that it began from.

    A backbone that none of our names fits keeps its type's name.
    """
    from mmdet.models.backbones import ResNet

    if isinstance(backbone, ResNet):
        if (known := _name(backbone)) is not None:
            part.name, part.overrides = known
        norm = dict(getattr(backbone, "norm_cfg", None) or {})
        part.norm = str(norm["type"]) if "type" in norm else None
        part.freeze_at = int(getattr(backbone, "frozen_stages", -1)) + 1
    source = plan.detector_weights or _weights_of(plan)
    if not source:
        return part
    part.source = source
    if not plan.detector_weights and Path(source).is_file():
        part.sha256 = hash_file(Path(source))
    return part


def _name(backbone: Any) -> tuple[str, dict[str, Any]] | None:
    """The zoo name and what differs from it, None where no name fits."""
    is_plain = not (backbone.deep_stem or backbone.avg_down or backbone.dcn or backbone.plugins)
    if not is_plain or backbone.stem_channels != 64 or backbone.base_channels != 64:
        return None
    if tuple(backbone.dilations) != (1, 1, 1, 1)[: len(backbone.dilations)] or backbone.conv_cfg is not None:
        return None
    groups = getattr(backbone, "groups", 1)
    # MMDetection looks at the width of a group where there are several.
    width = backbone.base_width if groups > 1 else 64
    strided_first = backbone.depth >= 50 and backbone.style == "caffe"
    return stock_resnet(backbone.depth, groups=groups, width=width, strided_first=strided_first)


def _weights_of(plan: Plan) -> str:
    """Where the config says that the backbone's weights come from, "" for random ones."""
    start = plan.cfg.model.get("backbone", {}).get("init_cfg") or {}
    is_file = isinstance(start, dict) and start.get("type") == "Pretrained"
    return str(start.get("checkpoint") or "") if is_file else ""
