"""One detector costs the same, whichever engine builds it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")
pytest.importorskip("mmdet")

from rexdet.configs import get_config
from rexdet.runs.parts import DetectorComplexity
from rexdet.session.detector_complexity import detector_complexity


def in_detectron2(kind: str, network: str) -> DetectorComplexity:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from rexdet.detectron2 import use_backbone
    from rexdet.detectron2.counts import multiplying_part
    from rexdet.detectron2.merge import merge_config

    cfg = get_cfg()
    merge_config(cfg, get_config("faster_rcnn_rexnet" if kind == "cascade_rcnn" else f"{kind}_rexnet"), [])
    use_backbone(cfg, network)
    if kind == "cascade_rcnn":
        cfg.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        detector = build_model(cfg)
    return detector_complexity(detector, multiplying_part(detector))


def in_mmdet(kind: str, network: str) -> DetectorComplexity:
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from rexdet.mmdet import complete_config
    from rexdet.mmdet.counts import multiplying_part

    config = Config.fromfile(get_config(f"mmdet/{kind}_rexnet"))
    config.merge_from_dict({"model.backbone.name": network})
    init_default_scope("mmdet")
    complete_config(config)
    detector = MODELS.build(config.model)
    return detector_complexity(detector, multiplying_part(detector))


@pytest.mark.parametrize(
    ("kind", "millions", "billions"),
    [
        ("retinanet", 12.62, 158.61),
        ("faster_rcnn", 20.64, 123.95),
        ("mask_rcnn", 23.29, 123.95),
        ("cascade_rcnn", 48.29, 151.59),
    ],
)
def test_both_engines_count_alike(kind: str, millions: float, billions: float) -> None:
    ours, theirs = in_detectron2(kind, "rexnet_1.0"), in_mmdet(kind, "rexnet_1.0")
    assert ours == theirs
    assert ours.macs is not None
    assert (round(ours.parameters / 1e6, 2), round(ours.macs / 1e9, 2)) == (millions, billions)


def test_what_cannot_run_without_data_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> float:
            return float(images.sum())

    part = detector_complexity(nn.Linear(3, 4), Odd())
    assert "are not counted: Tensor.item()" in capsys.readouterr().out
    assert (part.parameters, part.macs) == (16, None)
    assert detector_complexity(nn.Linear(3, 4), None).macs is None
