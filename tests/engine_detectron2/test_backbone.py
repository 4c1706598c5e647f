"""The builders: shapes, names, levels."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

import rexdet
import rexdet.detectron2
from rexdet.errors import UserError


def config(builder: str = "build_rexdet_backbone", **node: object) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = builder
    for key, value in node.items():
        cfg.MODEL.REXDET[key] = value
    return cfg


@pytest.mark.parametrize("name", ["rexnet_0.9", "rexnet_1.0", "rexnet_1.3", "rexnet_lite_1.0"])
def test_reported_shapes_are_measured_shapes(name: str) -> None:
    backbone = build_backbone(config(NAME=name)).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 97, 130))
    assert list(maps) == list(backbone.output_shape()) == ["res2", "res3", "res4", "res5"]
    for feature, shape in backbone.output_shape().items():
        size = (-(-97 // shape.stride), -(-130 // shape.stride))
        assert maps[feature].shape == (1, shape.channels, *size)


@pytest.mark.parametrize("name", rexdet.list_models("rexnet*"))
def test_every_network_reports_the_channels_that_it_gives(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(config(NAME=name)).eval()
        maps = backbone(torch.zeros(1, 3, 64, 64))
    reported = {feature: (shape.channels, 64 // shape.stride) for feature, shape in backbone.output_shape().items()}
    assert {feature: tuple(value.shape[1:3]) for feature, value in maps.items()} == reported
    assert reported["res5"][0] < 1000


def test_last_map_is_the_last_block_and_not_the_classifiers_convolution() -> None:
    assert build_backbone(config()).output_shape()["res5"].channels == 185


def test_levels_of_the_three_builders() -> None:
    def levels(builder: str, features: list[str]) -> dict[str, int]:
        cfg = config(builder)
        cfg.MODEL.FPN.IN_FEATURES = features
        return {name: shape.stride for name, shape in build_backbone(cfg).output_shape().items()}

    plain, fpn = "build_rexdet_backbone", "build_rexdet_fpn_backbone"
    retinanet = "build_retinanet_rexdet_fpn_backbone"
    assert levels(plain, []) == {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
    assert levels(plain, ["res3", "res5"]) == {"res3": 8, "res5": 32}
    assert levels(fpn, []) == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    assert levels(fpn, ["res3", "res2"]) == {"p2": 4, "p3": 8, "p4": 16}
    assert levels(retinanet, ["res5", "res3", "res4"]) == {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


def test_gaps_in_the_pyramid_are_refused() -> None:
    cfg = config("build_rexdet_fpn_backbone", OUT_FEATURES=["res2", "res4"])
    with pytest.raises(UserError, match=r"res2 \(stride 4\), res4 \(16\)"):
        build_backbone(cfg)


def test_a_random_start_is_said_aloud_and_nothing_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        backbone = build_backbone(config())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert [record for record in caplog.records if "random weights" in record.message and "FREEZE_AT" in record.message]


def test_a_frozen_norm_without_statistics_is_refused() -> None:
    with pytest.raises(UserError, match="frozen norm without statistics"):
        build_backbone(config(NORM="FrozenBN"))


def test_importing_twice_and_adding_the_node_twice_is_harmless() -> None:
    cfg = config(NAME="rexnet_1.3")
    rexdet.detectron2.add_rexdet_config(cfg)
    assert cfg.MODEL.REXDET.NAME == "rexnet_1.3"


def test_a_config_without_the_node_means_defaults() -> None:
    cfg = config()
    del cfg.MODEL["REXDET"]
    assert build_backbone(cfg).output_shape()["res5"].channels == 185
