"""Sizes of whole detectors against the ReXNet paper's tables (arXiv 2007.00992v3, Tables 7 and 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from rexdet.detectron2 import merge_config, use_backbone
from rexdet.nets.layers import BatchNorm2d


@pytest.mark.parametrize(
    ("config", "name", "millions", "printed"),
    [
        ("faster_rcnn_rexnet", "rexnet_0.9", 20.117, 20.1),
        ("faster_rcnn_rexnet", "rexnet_1.0", 20.656, 20.7),
        ("faster_rcnn_rexnet", "rexnet_2.2", 32.980, 33.0),
        ("mask_rcnn_rexnet", "rexnet_0.9", 22.762, 22.8),
        ("mask_rcnn_rexnet", "rexnet_1.0", 23.302, 23.3),
        ("mask_rcnn_rexnet", "rexnet_2.2", 35.626, 35.6),
    ],
)
def test_parameters_of_detectors(repository: Path, config: str, name: str, millions: float, printed: float) -> None:
    """The papers' rule, as far as it can be told: 90 classes, the backbone's norms frozen, so not counted."""
    cfg = get_cfg()
    merge_config(cfg, repository / f"configs/{config}.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", 90])
    use_backbone(cfg, name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    norms = [part for part in model.backbone.bottom_up.modules() if isinstance(part, BatchNorm2d)]
    affine = sum(parameter.numel() for norm in norms for parameter in norm.parameters())
    count = (sum(parameter.numel() for parameter in model.parameters()) - affine) / 1e6
    assert norms
    assert count == pytest.approx(millions, abs=0.0005)
    assert round(count, 1) == printed
