"""rexdet's backbones in detectron2.

Importing this module registers the builders `build_rexdet_backbone`, `build_rexdet_fpn_backbone` and
`build_retinanet_rexdet_fpn_backbone`, and puts the MODEL.REXDET node among detectron2's defaults, so that
`detectron2.config.get_cfg()` has it.
"""

from __future__ import annotations

from detectron2.config import defaults

from rexdet.detectron2.backbone import (
    RexDetBackbone,
    build_retinanet_rexdet_fpn_backbone,
    build_rexdet_backbone,
    build_rexdet_fpn_backbone,
    register_builders,
)
from rexdet.detectron2.check import check_config
from rexdet.detectron2.config import add_rexdet_config
from rexdet.detectron2.lazy import build_bottom_up
from rexdet.detectron2.merge import merge_config
from rexdet.detectron2.use import use_backbone

__all__ = [
    "RexDetBackbone",
    "add_rexdet_config",
    "build_bottom_up",
    "build_retinanet_rexdet_fpn_backbone",
    "build_rexdet_backbone",
    "build_rexdet_fpn_backbone",
    "check_config",
    "merge_config",
    "use_backbone",
]

register_builders()
add_rexdet_config(defaults._C)
