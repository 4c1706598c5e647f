"""ResNets told by their tensors: the names of rules first, else a name with widths of its own."""

from __future__ import annotations

from typing import Any

import pytest

import rexdet
from rexdet.nets.features import Backbone
from rexdet.zoo.registry import identify, skeleton


@pytest.mark.parametrize(
    "name",
    [
        "resnext50_8x15d",
        "resnext101_16x8d",
        "resnext152_3x7d",
        "resnext50_1x128d",
        "resnet26_cifar",
        "resnet38b_cifar",
        "resnet8_cifar",
        "resnet1202b_cifar",
        "resnext47_4x32d_cifar",
        "resnext11_2x64d_cifar",
    ],
)
def test_a_network_that_is_not_listed_is_told_by_its_shapes(name: str) -> None:
    assert name not in rexdet.list_models()
    assert identify(skeleton(name).state_dict()) == (name, {})


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet18", "res5"),
        ("resnet50", "res5"),
        ("resnet101", "res4"),
        ("resnet152", "res3"),
        ("resnext50_32x4d", "res2"),
        ("resnext101_64x4d", "res5"),
    ],
)
def test_a_backbone_is_told_as_far_as_it_goes(name: str, last: str) -> None:
    assert identify(Backbone(skeleton(name), [last]).state_dict()) == (name, {})


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet50", {"stem": 51, "stages.1.2.unit1": 77, "stages.3.0.unit2": 500}),
        ("resnet50", {f"stages.3.{block}.unit3": 1900 for block in range(3)} | {"stages.3.0.projection": 1900}),
        ("resnet18", {f"stages.1.{block}.unit1": 100 + block for block in range(2)}),
        ("resnext50_32x4d", {"stages.0.0.unit1": 96, "stages.0.0.unit2": 160, "stages.2.3.unit2": 32}),
        ("resnet20_cifar", {"stages.1.1.unit1": 3}),
        ("resnet20b_cifar", {"stages.0.0.unit1": 20}),
        ("resnext29_8x64d_cifar", {"stages.2.2.unit1": 8}),
    ],
)
def test_widths_of_its_own_come_back_beside_the_name(name: str, channels: dict[str, int]) -> None:
    state = skeleton(name, channels=channels).state_dict()
    assert identify(state) == (name, {"channels": channels})
    without_head = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
    assert identify(without_head) == (name, {"channels": channels})


def test_every_width_may_be_of_its_own() -> None:
    plain = skeleton("resnet50").channels
    channels = {path: width - 1 for path, width in plain.items()}
    assert identify(skeleton("resnet50", channels=channels).state_dict()) == ("resnet50", {"channels": channels})


@pytest.mark.parametrize("overrides", [{"norm": "GN"}, {"stride_in": "1x1"}, {"output_stride": 8}])
def test_what_changes_no_shape_changes_no_name(overrides: dict[str, Any]) -> None:
    assert identify(skeleton("resnext50_32x4d", **overrides).state_dict()) == ("resnext50_32x4d", {})


def test_a_norm_behind_the_stem_is_an_override() -> None:
    state = skeleton("resnext29_8x64d_cifar", stem_norm=True).state_dict()
    assert identify(state) == ("resnext29_8x64d_cifar", {"stem_norm": True})


def test_tensors_that_do_not_fit_together_have_no_name() -> None:
    state = dict(skeleton("resnet18").state_dict())
    state["stages.1.0.unit2.conv.weight"] = state["stages.1.0.unit2.conv.weight"][:100]
    assert identify(state) is None
