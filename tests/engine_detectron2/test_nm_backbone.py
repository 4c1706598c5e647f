"""Names with an N:M rule as backbones of detectron2: from a config, from a command line's pairs, with weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

import rexdet
from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.errors import UserError
from rexdet.nets.executed import record
from rexdet.zoo.names import parse


def activations(network: torch.nn.Module) -> int:
    return len([call for call in record(network).calls if call.activation is not None])


@pytest.mark.parametrize(
    ("name", "removed"),
    [("nm2:1/resnet50", 16), ("nm3:2/resnext50_32x4d", 16), ("nm2:1/rexnet_1.0", 16), ("nm2:1-leaky/resnet18", 0)],
)
def test_a_config_builds_the_network_under_its_rule(
    make_config: Callable[..., CfgNode], tmp_path: Path, name: str, removed: int
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"MODEL:\n  BACKBONE:\n    NAME: build_rexdet_backbone\n  REXDET:\n    NAME: {name}\n")
    cfg = get_cfg()
    merge_config(cfg, path, ())
    cfg.MODEL.DEVICE = "cpu"
    assert name == cfg.MODEL.REXDET.NAME
    with torch.device("meta"):
        ruled = build_backbone(cfg)
        plain = build_backbone(make_config(NAME=parse(name).base))
    assert activations(plain) - activations(ruled) == removed
    assert list(ruled.state_dict()) == list(plain.state_dict())
    assert ruled.output_shape() == plain.output_shape()


def test_a_rule_comes_through_pairs_and_use_backbone(repository: Path) -> None:
    cfg = get_cfg()
    merge_config(cfg, repository / "configs" / "retinanet_rexnet.yaml", ("MODEL.REXDET.NAME", "nm2:1/resnet18"))
    assert cfg.MODEL.REXDET.NAME == "nm2:1/resnet18"
    cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    use_backbone(cfg, "nm3:2/resnext50_32x4d")
    check_config(cfg)
    assert cfg.MODEL.REXDET.NAME == "nm3:2/resnext50_32x4d"


def test_the_networks_own_weights_fill_the_backbone_and_freeze(
    make_config: Callable[..., CfgNode], weights_file: Path, imagenet_pixels: Callable[[CfgNode], None]
) -> None:
    cfg = make_config(NAME="nm2:1/rexnet_1.0", WEIGHTS=str(weights_file))
    imagenet_pixels(cfg)
    backbone = build_backbone(cfg).train()
    saved = torch.load(weights_file, weights_only=True)
    state = backbone.state_dict()
    assert all(torch.equal(saved[key], value) for key, value in state.items())
    assert not any(parameter.requires_grad for parameter in backbone.stem.parameters())
    assert backbone.freeze_at == 2


@pytest.mark.parametrize("name", ["nm1:2/resnet50", "nm2/resnet50", "nm2:1/nm2:1/resnet50", "nm2:1/resnet51"])
def test_a_wrong_rule_is_told(make_config: Callable[..., CfgNode], name: str) -> None:
    with pytest.raises(UserError) as caught:
        build_backbone(make_config(NAME=name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("retinanet_R_50_FPN_1x", "nm2:1/resnet18"), ("faster_rcnn_R_50_FPN_1x", "nm3:2/resnext50_8x4d")],
)
def test_a_detector_trains_a_step(
    kind: str, name: str, small_training: Callable[[CfgNode, Path], None], tmp_path: Path
) -> None:
    from detectron2.engine import DefaultTrainer

    cfg = model_zoo.get_config(f"COCO-Detection/{kind}.yaml")
    use_backbone(cfg, name)
    small_training(cfg, tmp_path)
    torch.manual_seed(0)
    trainer = DefaultTrainer(cfg)
    bottom_up = trainer._trainer.model.backbone.bottom_up
    before = {key: value.detach().clone() for key, value in bottom_up.named_parameters()}
    trainer.train()
    losses = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert math.isfinite(losses["total_loss"])
    convolutions = {key: value for key, value in bottom_up.named_parameters() if value.dim() == 4}
    assert all(not torch.equal(value, before[key]) for key, value in convolutions.items())
    reference = rexdet.create_backbone(parse(name).base)
    assert activations(reference) > activations(bottom_up)
