"""Same name, weights and tensor: the same feature maps in detectron2, in MMDetection and in bare PyTorch, to the bit.

In evaluation mode and in training mode with the same stages frozen; in training also the statistics that batch norms
keep and the gradients, so that a training step in one engine is the step of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import rexdet
from rexdet.weights import Checkpoint

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec

import rexdet.detectron2 as room

# One name of every family; the small ones, since what is tested is the way through the engines (ResNeXt and the full
# ReXNet are in test_backbone.py).
NAMES = (
    "rexnet_0.5",
    "resnet18",
    "nm2:1/resnet18",
    "torchvision:resnet18",
    "timm:resnet18",
)
Maps = tuple[Tensor, ...]


def genome_of(name: str) -> str:
    """The first LW-DNA genome that is shipped."""
    from rexdet.zoo.registry import listed_names

    return next(found for found in listed_names() if found.startswith(name))


def bare(name: str, path: Path, norm: str | None, freeze_at: int) -> nn.Module:
    return rexdet.create_backbone(name, norm=norm, weights=path, freeze_at=freeze_at)


def in_detectron2(name: str, path: Path, norm: str | None, freeze_at: int) -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.REXDET.NORM = norm or ""
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    room.use_backbone(cfg, name, weights=path)
    cfg.MODEL.BACKBONE.NAME = "build_rexdet_backbone"
    built: nn.Module = room.build_rexdet_backbone(cfg, ShapeSpec(channels=3))
    return built


def in_mmdetection(name: str, path: Path, norm: str | None, freeze_at: int) -> nn.Module:
    arguments: dict[str, Any] = {"init_cfg": {"type": "Pretrained", "checkpoint": str(path)}}
    if norm:
        arguments |= {"norm_cfg": {"type": norm}, "norm_eval": False}
    backbone: Any = MODELS.build({"type": "RexDetBackbone", "name": name, "frozen_stages": freeze_at - 1, **arguments})
    backbone.init_weights()
    return backbone  # type: ignore[no-any-return]


def maps(backbone: nn.Module, image: Tensor) -> Maps:
    found = backbone(image)
    return tuple(found) if isinstance(found, tuple) else tuple(found.values())


def builders() -> dict[str, Callable[..., nn.Module]]:
    return {"bare PyTorch": bare, "detectron2": in_detectron2, "MMDetection": in_mmdetection}


@pytest.fixture
def image() -> Tensor:
    """Two pictures whose sides no stride divides."""
    return torch.randn(2, 3, 67, 93, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("norm", [None, "BN"])
@pytest.mark.parametrize("name", [*NAMES, "lwdna:rexnet"])
def test_maps_in_evaluation_mode(weights_of: Callable[[str], Path], image: Tensor, name: str, norm: str | None) -> None:
    name = genome_of(name) if name == "lwdna:rexnet" else name
    path = weights_of(name)
    found = {}
    for engine, build in builders().items():
        with torch.no_grad():
            found[engine] = maps(build(name, path, norm, 0).eval(), image)
    expected = found.pop("bare PyTorch")
    assert len(expected) == 4
    for engine, given in found.items():
        assert len(given) == 4, engine
        for level, (one, other) in enumerate(zip(expected, given, strict=True)):
            assert torch.equal(one, other), f"{name} in {engine}, map {level}"


@pytest.mark.parametrize(("norm", "freeze_at"), [(None, 2), ("BN", 0), ("BN", 2)])
@pytest.mark.parametrize("name", ["rexnet_0.5", "nm2:1/resnet18", "torchvision:resnet18"])
def test_maps_statistics_and_gradients_in_training_mode(
    weights_of: Callable[[str], Path], image: Tensor, name: str, norm: str | None, freeze_at: int
) -> None:
    path = weights_of(name)
    found = {engine: step(build(name, path, norm, freeze_at), image) for engine, build in builders().items()}
    expected = found.pop("bare PyTorch")
    assert any(key.startswith("gradient ") for key in expected)
    assert freeze_at == 0 or expected["frozen"].item() > 0
    assert list(found["detectron2"]) == list(expected)
    assert not differing(expected, found["detectron2"])
    # Where stages are frozen, detectron2's batch norms become frozen norms and MMDetection's stay what they are:
    # tensors of the same names, buffers there and parameters here, and a counter here that stays at nothing.
    given = {
        key: value
        for key, value in found["MMDetection"].items()
        if key in expected or not (key.endswith("num_batches_tracked") and value == 0)
    }
    if norm == "BN" and freeze_at:
        assert set(given) <= set(expected)
        assert {key for key in expected if key not in given} <= {
            key for key in expected if key.endswith((".weight", ".bias")) and key.startswith("statistic ")
        }
    else:
        assert list(given) == list(expected)
    assert not differing({key: expected[key] for key in given if key != "frozen"}, given)
    assert norm == "BN" or torch.equal(given["frozen"], expected["frozen"])


def differing(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """The names of the tensors that are not the same to the bit."""
    return [key for key in expected if not torch.equal(expected[key], given[key])]


def step(backbone: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What a step in training mode leaves: maps, statistics, gradients, and how many parameters are frozen."""
    backbone.train()
    given = maps(backbone, image)
    torch.stack([one.square().mean() for one in given]).sum().backward()
    parameters = dict(backbone.named_parameters())
    return {
        **{f"map {level}": one.detach() for level, one in enumerate(given)},
        **{f"statistic {key}": value.clone() for key, value in backbone.named_buffers()},
        **{f"gradient {key}": value.grad for key, value in parameters.items() if value.grad is not None},
        "frozen": torch.tensor(sum(not value.requires_grad for value in parameters.values())),
    }


def test_the_checkpoint_that_filled_them_is_one_and_the_same(weights_of: Callable[[str], Path]) -> None:
    path = weights_of("rexnet_0.5")
    told = [getattr(build("rexnet_0.5", path, "BN", 0), "provenance", None) for build in builders().values()]
    kept = [provenance for provenance in told if isinstance(provenance, Checkpoint)]
    assert {provenance.sha256 for provenance in kept} == {rexdet.open_checkpoint(path).sha256}
    assert len(kept) >= 2
