"""The shipped configs over ResNeXt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

import rexdet
from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.detectron2.backbone import draft_backbone
from rexdet.detectron2.config import BackboneSettings
from rexdet.zoo.published import published_names

KINDS = ("retinanet", "faster_rcnn")


def load(name: str, *pairs: object) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, rexdet.get_config(name), pairs)
    return cfg


def flat(cfg: CfgNode, place: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in cfg.items():
        leaves |= flat(value, f"{place}{key}.") if isinstance(value, CfgNode) else {f"{place}{key}": value}
    return leaves


def different(one: CfgNode, other: CfgNode) -> set[str]:
    return {key for key, value in flat(one).items() if flat(other)[key] != value}


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_network_differs_from_the_config_over_rexnet(kind: str) -> None:
    ours, rexnet = load(f"{kind}_resnext"), load(f"{kind}_rexnet")
    assert different(ours, rexnet) == {"MODEL.REXDET.NAME"}
    assert ours.MODEL.REXDET.NAME == "resnext50_32x4d@tv_in1k"


@pytest.mark.parametrize("kind", KINDS)
def test_network_and_pixels_alone_differ_from_the_baseline(kind: str) -> None:
    assert different(load(f"{kind}_resnext"), load(f"{kind}_r50")) == {
        "MODEL.WEIGHTS",
        "MODEL.BACKBONE.NAME",
        "MODEL.REXDET.NAME",
        "MODEL.RESNETS.OUT_FEATURES",
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "INPUT.FORMAT",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["resnext50_32x4d@tv_in1k", "resnext50_32x4d@tv2_in1k", "resnext101_32x8d@tv_in1k"])
def test_what_a_config_says_is_what_use_backbone_would_say(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the weights that the configs name as overrides, and before any of them is fetched."""
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    assert name in published_names()
    written = load(f"{kind}_resnext", "MODEL.REXDET.NAME", name)
    set_together = written.clone()
    use_backbone(set_together, name)
    assert different(written, set_together) == {"MODEL.REXDET.NORM"}
    assert set_together.MODEL.REXDET.NORM == "FrozenBN"


@pytest.mark.parametrize(("name", "place"), [("resnet50@d2_msra_in1k", "unit1"), ("resnet50@tv_in1k", "unit2")])
def test_where_a_published_networks_stride_stands_is_known_before_it_is_fetched(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    backbone = draft_backbone(BackboneSettings(name=name), ("res3", "res5"))
    assert backbone.get_submodule(f"stages.1.0.{place}.conv").stride == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["resnext101_32x4d", "resnext101_32x8d"])
def test_the_larger_network_is_one_override(kind: str, name: str) -> None:
    cfg = load(f"{kind}_resnext", "MODEL.REXDET.NAME", name, "MODEL.DEVICE", "meta")
    check_config(cfg, training=False)
    with torch.device("meta"):
        model = build_model(cfg)
    third_stage = model.backbone.bottom_up.get_submodule("stages.2")
    assert len(list(third_stage.children())) == 23
    assert model.backbone.fpn_lateral5.in_channels == 2048


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_trains_from_a_file_of_weights(
    small_training: Callable[[CfgNode, Path], None], tmp_path: Path, kind: str
) -> None:
    from detectron2.engine import DefaultTrainer

    torch.manual_seed(0)
    weights = tmp_path / "classifier.pth"
    torch.save(rexdet.create_model("resnext50_32x4d").state_dict(), weights)
    cfg = load(f"{kind}_resnext", "MODEL.REXDET.NAME", "resnext50_32x4d", "MODEL.REXDET.WEIGHTS", str(weights))
    small_training(cfg, tmp_path)
    check_config(cfg)
    DefaultTrainer(cfg).train()
    trained = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    before = torch.load(weights, weights_only=True)
    key = "stages.3.2.unit3.conv.weight"
    assert not torch.equal(trained[f"backbone.bottom_up.{key}"], before[key])
    # The stem and res2 keep every bit.
    for frozen in ("stem.conv.weight", "stages.0.2.unit2.conv.weight"):
        assert torch.equal(trained[f"backbone.bottom_up.{frozen}"], before[frozen])
