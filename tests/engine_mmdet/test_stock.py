"""MMDetection's own ResNets are told in words of ours, and a baseline's configuration counts as ours beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from rexdet.configs import get_config
from rexdet.mmdet import complete_config
from rexdet.mmdet.plan import Plan
from rexdet.mmdet.stock import describe_stock
from rexdet.report.records.shaping import keeps_statistics, shaping_key
from rexdet.runs.parts import Network


def described(detector_weights: str = "", **changes: Any) -> Network:
    """What a record says of a backbone of MMDetection's own: ResNet-50 as its configs have it, with changes."""
    node = {
        "type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3), "frozen_stages": 1,
        "norm_cfg": {"type": "BN", "requires_grad": True}, "norm_eval": True, "style": "pytorch", **changes,
    }  # fmt: skip
    backbone = MODELS.build({key: value for key, value in node.items() if key != "init_cfg"})
    plan = SimpleNamespace(detector_weights=detector_weights, cfg=Config({"model": {"backbone": node}}))
    return describe_stock(Network(name=str(node["type"])), backbone, cast(Plan, plan))


@pytest.mark.parametrize(
    ("changes", "name", "overrides"),
    [
        ({}, "resnet50", {}),
        ({"style": "caffe"}, "resnet50", {"stride_in": "1x1"}),
        ({"depth": 18}, "resnet18", {}),
        ({"type": "ResNeXt", "groups": 32, "base_width": 4}, "resnext50_32x4d", {}),
        ({"deep_stem": True}, "ResNet", {}),
        ({"base_channels": 32}, "ResNet", {}),
        ({"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}, "ResNet", {}),
    ],
)
def test_a_resnet_is_told_by_our_name(changes: dict[str, Any], name: str, overrides: dict[str, str]) -> None:
    part = described(**changes)
    assert (part.name, part.overrides) == (name, overrides)
    assert (part.norm, part.freeze_at, part.source, part.sha256) == ("BN", 2, None, None)


def test_where_it_began_is_told(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    part = described(init_cfg={"type": "Pretrained", "checkpoint": str(path)})
    assert (part.source, part.sha256) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    part = described(init_cfg={"type": "Pretrained", "checkpoint": "torchvision://resnet50"})
    assert (part.source, part.sha256) == ("torchvision://resnet50", None)
    # A whole detector says nothing of what its backbone began from.
    part = described(str(path))
    assert (part.source, part.sha256) == (str(path), None)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_mmdetections_own_config_has_the_key_of_ours(detector: str) -> None:
    ours = Config.fromfile(get_config(f"mmdet/{detector}_rexnet"))
    complete_config(ours)
    mmdet = pytest.importorskip("mmdet")
    name = detector.replace("_", "-") if detector == "faster_rcnn" else detector
    folder = "faster_rcnn" if detector == "faster_rcnn" else "retinanet"
    theirs = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / folder / f"{name}_r50_fpn_1x_coco.py")

    def key(config: Config, network: str) -> str:
        return shaping_key(config.pretty_text, "mmdet", batch_is_told=True, network=network)

    baseline = key(theirs, "resnet50")
    assert baseline == key(ours, "rexnet_1.0")
    assert key(theirs, "ResNet") != baseline
    assert keeps_statistics(theirs.pretty_text, "mmdet", has_weights=True)
    theirs.model.backbone.depth = 101
    assert key(theirs, "resnet101") == baseline
    theirs.model.neck.out_channels = 64
    assert key(theirs, "resnet101") != baseline
