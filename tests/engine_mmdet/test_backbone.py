"""RexDetBackbone: MMDetection's arguments with MMDetection's meanings, the same network as everywhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import rexdet
from rexdet.errors import UserError
from rexdet.zoo.registry import listed_names, resolve

Build = Callable[..., Any]


@pytest.fixture
def build() -> Build:
    """(name, arguments) -> a backbone, built as MMDetection builds it."""

    def make(name: str = "rexnet_0.5", **arguments: Any) -> Any:
        torch.manual_seed(0)
        return MODELS.build({"type": "RexDetBackbone", "name": name, **arguments})

    return make


def pretrained(path: Path | str) -> dict[str, str]:
    return {"type": "Pretrained", "checkpoint": str(path)}


def step(backbone: Any, optimizer: torch.optim.Optimizer) -> None:
    maps = backbone(torch.randn(2, 3, 64, 64))
    sum(float_map.square().mean() for float_map in maps).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", [name for name in listed_names() if resolve(name).detection])
def test_channels_told_are_channels_given_for_every_name(name: str) -> None:
    with torch.device("meta"):
        backbone = MODELS.build({"type": "RexDetBackbone", "name": name})
        maps = backbone.eval()(torch.zeros(1, 3, 65, 97))
    assert [tuple(found.shape[1:]) for found in maps] == [
        (channels, -(-65 // stride), -(-97 // stride))
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_the_last_map_is_the_last_block(build: Build) -> None:
    assert build("rexnet_1.0").channels == (38, 61, 128, 185)
    assert build("rexnet_1.0", out_indices=(2, 3)).channels == (128, 185)
    assert build("rexnet_1.0", out_features=("expand5", "penultimate")).channels == (768, 1280)


@pytest.mark.parametrize(
    ("name", "norm"), [("rexnet_1.0", "BN"), ("resnext50_32x4d", None), ("nm2:1/rexnet_0.9", None)]
)
def test_maps_are_bit_identical_in_mmdetection_detectron2_and_bare_pytorch(
    build: Build, weights_of: Callable[[str], Path], name: str, norm: str | None
) -> None:
    pytest.importorskip("detectron2", reason="detectron2 is not installed")
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec

    import rexdet.detectron2 as room

    path = weights_of(name)
    image = torch.randn(2, 3, 75, 101, generator=torch.Generator().manual_seed(3))
    bare = rexdet.create_backbone(name, norm=norm, weights=path).eval()
    here = build(name, init_cfg=pretrained(path), norm_cfg={"type": norm} if norm else None)
    here.init_weights()
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.REXDET.NORM = norm or ""
    room.use_backbone(cfg, name, weights=path)
    cfg.MODEL.BACKBONE.NAME = "build_rexdet_backbone"
    there = room.build_rexdet_backbone(cfg, ShapeSpec(channels=3)).eval()
    with torch.no_grad():
        expected = bare(image)
        found, other = here.eval()(image), there(image)
    assert list(other) == list(expected) == ["res2", "res3", "res4", "res5"]
    for feature, own in zip(expected, found, strict=True):
        assert torch.equal(expected[feature], own), feature
        assert torch.equal(expected[feature], other[feature]), feature


def test_maps_of_another_packages_network_are_those_of_bare_pytorch(
    build: Build, weights_of: Callable[[str], Path]
) -> None:
    path = weights_of("torchvision:resnet18")
    here = build("torchvision:resnet18", init_cfg=pretrained(path))
    here.init_weights()
    bare = rexdet.create_backbone("torchvision:resnet18", norm=None, weights=path).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert all(map(torch.equal, here.eval()(image), bare(image).values()))


def test_state_keys_are_the_networks_own(build: Build) -> None:
    assert list(build("rexnet_1.0").state_dict()) == list(rexdet.create_backbone("rexnet_1.0").state_dict())


# -- freezing -------------------------------------------------------------------------------------------------------


def moving(backbone: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in backbone.state_dict().items()}


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 2, 3, 4])
def test_frozen_stages_are_detectron2s_freeze_at_less_one(build: Build, frozen_stages: int) -> None:
    here = build(frozen_stages=frozen_stages)
    there = rexdet.create_backbone("rexnet_0.5", freeze_at=frozen_stages + 1)
    learning = {name for name, parameter in here.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, parameter in there.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("when", ["built", "before the first step", "between steps"])
@pytest.mark.parametrize("frozen_stages", [2, 4])
def test_frozen_stages_are_bit_identical_after_steps_with_decay(build: Build, frozen_stages: int, when: str) -> None:
    backbone = build(frozen_stages=frozen_stages if when == "built" else -1, norm_eval=False).train()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    if when == "between steps":
        step(backbone, optimizer)
    if when != "built":
        backbone.frozen_stages = frozen_stages
    backbone.train()
    before = moving(backbone)
    for _ in range(3):
        if frozen_stages == 4:
            # Nothing has a gradient: the optimiser alone must not move anything.
            backbone(torch.randn(2, 3, 64, 64))
            optimizer.step()
        else:
            step(backbone, optimizer)
    after = moving(backbone)
    frozen = {key for key in before if not _learns(backbone, key, frozen_stages)}
    assert frozen
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert not moved & frozen
    assert bool(moved) == (frozen_stages < 4)


def _learns(backbone: Any, key: str, frozen_stages: int) -> bool:
    steps = backbone.__dict__["network"].steps
    return next(s.stage for s in steps if key.startswith(f"{s.path}.")) > frozen_stages + 1


def test_frozen_stages_can_be_let_go_again(build: Build) -> None:
    backbone = build(frozen_stages=4, norm_cfg={"type": "BN", "requires_grad": False})
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    backbone.frozen_stages = -1
    learning = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any(".norm." in name for name in learning)


def test_frozen_stages_and_norms_in_evaluation_mode(build: Build) -> None:
    backbone = build(frozen_stages=2, norm_eval=True).train()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    step(backbone, optimizer)
    assert not backbone.stem.training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in backbone.named_buffers())
    later = backbone.get_submodule(backbone.__dict__["network"].steps[-1].path)
    assert later.training
    assert all(parameter.requires_grad for parameter in later.parameters())


def test_stages_of_a_network_of_another_package_freeze_too(build: Build) -> None:
    backbone = build("torchvision:resnet18")
    backbone.frozen_stages = 1
    assert not any(parameter.requires_grad for parameter in backbone.body.layer1.parameters())
    assert all(parameter.requires_grad for parameter in backbone.body.layer2.parameters())


@pytest.mark.parametrize("value", [-2, 5, 1.5, None, True])
def test_other_frozen_stages_are_refused(build: Build, value: Any) -> None:
    with pytest.raises(UserError, match="frozen_stages"):
        build(frozen_stages=value)


# -- weights --------------------------------------------------------------------------------------------------------


def test_weights_come_in_any_published_layout(build: Build, weights_of: Callable[[str], Path], tmp_path: Path) -> None:
    path = weights_of("rexnet_1.0")
    expected = rexdet.open_checkpoint(path).state_dict()
    backbone = build("rexnet_1.0", init_cfg=pretrained(path))
    with torch.no_grad():
        backbone.stem.conv.weight.zero_()
    assert not torch.equal(backbone.state_dict()["stem.conv.weight"], expected["stem.conv.weight"])
    backbone.init_weights()
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())
    assert backbone.provenance.sha256 == rexdet.open_checkpoint(path).sha256

    wrapped = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.backbone.{key}": value for key, value in expected.items()}}, wrapped)
    other = build("rexnet_1.0", init_cfg=[pretrained(wrapped)])
    other.init_weights()
    assert torch.equal(other.state_dict()["stem.conv.weight"], expected["stem.conv.weight"])


def test_a_detector_of_mmdetection_fills_a_backbone_of_detectron2(build: Build, tmp_path: Path) -> None:
    weights = {f"backbone.{key}": value for key, value in build("rexnet_1.0").state_dict().items()}
    weights["bbox_head.retina_cls.weight"] = torch.zeros(4, 4, 3, 3)
    torch.save({"state_dict": weights, "meta": {"epoch": 1}}, tmp_path / "epoch_1.pth")
    backbone = rexdet.create_backbone("rexnet_1.0", weights=tmp_path / "epoch_1.pth")
    assert torch.equal(backbone.state_dict()["stem.conv.weight"], weights["backbone.stem.conv.weight"])


def test_a_short_load_is_an_error_that_names_what_is_missing(
    build: Build, weights_of: Callable[[str], Path], tmp_path: Path
) -> None:
    state = torch.load(weights_of("rexnet_1.0"), weights_only=True)
    del state["blocks.3.depthwise.conv.weight"]
    torch.save(state, tmp_path / "short.pth")
    backbone = build("rexnet_1.0", init_cfg=pretrained(tmp_path / "short.pth"))
    with pytest.raises(UserError, match=r"blocks\.3\.depthwise\.conv\.weight"):
        backbone.init_weights()
    with pytest.raises(UserError, match=r"rexnet_1\.0"):
        build("rexnet_1.3", init_cfg=pretrained(weights_of("rexnet_1.0"))).init_weights()


def test_random_weights_are_told_aloud(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    build().init_weights()
    assert "rexnet_0.5 starts from random weights" in caplog.text
    assert "fresh network" not in caplog.text
    build(norm_eval=True).init_weights()
    assert "statistics of a fresh network (norm_eval=True)" in caplog.text


def test_norms_are_held_with_weights_and_learn_without(build: Build, weights_of: Callable[[str], Path]) -> None:
    assert not build("rexnet_1.0").norm_eval
    trained = build("rexnet_1.0", init_cfg=pretrained(weights_of("rexnet_1.0")))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trained.modules())
    held = build("rexnet_1.0", init_cfg=pretrained(weights_of("rexnet_1.0")), norm_cfg={"type": "BN"}).train()
    assert held.norm_eval
    assert not held.stem.norm.training


# -- the other arguments --------------------------------------------------------------------------------------------


def test_norm_cfg(build: Build) -> None:
    norms = [m for m in build(norm_cfg={"type": "GN", "num_groups": 32}).modules() if isinstance(m, nn.GroupNorm)]
    assert norms
    backbone = build(norm_cfg={"type": "BN", "requires_grad": False, "eps": 1e-3, "momentum": 0.03})
    batch_norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum, norm.weight.requires_grad) for norm in batch_norms} == {(1e-3, 0.03, False)}
    assert any(isinstance(m, nn.SyncBatchNorm) for m in build(norm_cfg={"type": "SyncBN"}).modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "rexnet_1.0x"}, "rexnet_1.0"),
        ({"name": "resnet20_cifar"}, "res2|stride|feature"),
        ({"norm_cfg": {"type": "LN"}}, "LN"),
        ({"norm_cfg": {"type": "BN", "affine": True}}, "affine"),
        ({"norm_cfg": {"type": "FrozenBN"}}, "frozen norm without statistics"),
        ({"norm_cfg": {"type": "GN", "num_groups": 8}}, "num_groups"),
        ({"out_indices": (0, 1, 2, 4)}, "out_indices"),
        ({"out_indices": 3}, "out_indices"),
        ({"out_indices": (3, 2)}, "rising"),
        ({"out_indices": (0,), "out_features": ("res2",)}, "both"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"overrides": {"drop_path": 0.1}}, "drop_path_rate"),
        ({"overrides": {"dept": 1.0}}, "depth"),
        ({"init_cfg": {"type": "Pretrained"}}, "init_cfg"),
        ({"name": "rexnet_1.0@nav_in1k", "init_cfg": {"type": "Pretrained", "checkpoint": "a.pth"}}, "two sources"),
        ({"name": ""}, "name"),
    ],
)
def test_mistakes_are_one_line(build: Build, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(**arguments)
    assert "\n" not in str(caught.value)


def test_recomputed_activations_give_the_same_gradients_and_statistics(build: Build) -> None:
    plain, recomputing = build(), build(with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    for backbone in (plain, recomputing):
        backbone.train()
        backbone(image)[-1].square().mean().backward()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, recomputing.state_dict()[key]), key
    assert torch.equal(plain.stem.conv.weight.grad, recomputing.stem.conv.weight.grad)


def test_drop_path_reaches_the_blocks(build: Build) -> None:
    backbone = build(drop_path_rate=0.9).train()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert any(not torch.equal(backbone(image)[-1], backbone(image)[-1]) for _ in range(4))


def test_a_copy_shares_nothing(build: Build) -> None:
    backbone = build(frozen_stages=0)
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        other.stem.conv.weight.zero_()
    assert float(backbone.stem.conv.weight.detach().abs().sum()) > 0
    assert not torch.equal(other.eval()(torch.ones(1, 3, 32, 32))[0], backbone.eval()(torch.ones(1, 3, 32, 32))[0])
    other.frozen_stages = 4
    assert any(parameter.requires_grad for parameter in backbone.parameters())
