"""The folded form is the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rexdet.inference import fold
from rexdet.inference.fold import FoldedClassifier
from rexdet.inference.fold_units import CHANNEL_MULTIPLE, filled_up
from rexdet.inference.runners import relative_difference
from rexdet.nets import Backbone, ResNet, ReXNet
from rexdet.nets.layers import ConvolutionUnit, FrozenBatchNorm2d, fold_norm

MakeNetwork = Callable[..., ReXNet]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"width": 1.3},
        {"lite": True},
        {"activation": "softplus"},  # softplus(0) is not 0: filled-up channels must not leak.
        {"squeeze_excitation": False},
        {"output_stride": 8},
        {"norm": "FrozenBN"},
        {"channel_rule": "stepwise"},
        {"drop_path": 0.3},
    ],
)
def test_same_logits_and_features(make_network: MakeNetwork, arguments: dict[str, Any]) -> None:
    network = make_network(**arguments)
    backbone = Backbone(copy.deepcopy(network), ("penultimate", "res2", "res5", "expand5", "res3")).eval()
    x = torch.randn(2, 3, 65, 47)
    with torch.no_grad():
        assert relative_difference(fold(network)(x), network(x)) < 2e-5
        expected, ours = backbone(x), fold(backbone)(x)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert ours[name].shape == value.shape
        assert relative_difference(ours[name], value) < 1e-4, name


def test_the_model_itself_is_left_alone(make_network: MakeNetwork) -> None:
    network = make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold(network)(torch.randn(1, 3, 64, 64))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())


def test_the_input_is_not_written_to(models: dict[str, nn.Module]) -> None:
    for model in models.values():
        x = torch.randn(1, 3, 64, 64)
        kept = x.clone()
        fold(model)(x)
        assert torch.equal(x, kept)


def test_inner_widths_are_aligned(make_network: MakeNetwork) -> None:
    folded = fold(make_network())
    assert isinstance(folded, FoldedClassifier)
    widths = [part.out_channels for part in folded.trunk.modules() if isinstance(part, nn.Conv2d)]
    assert all(width % CHANNEL_MULTIPLE == 0 for width in widths[:-1])
    assert [filled_up(width) for width in (1, 16, 17)] == [16, 16, 32]


def test_group_norm_and_foreign_networks_are_kept_as_they_are(make_network: MakeNetwork) -> None:
    network = make_network(norm="GN")
    foreign = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fold(network)(x), network(x))
        assert torch.equal(fold(foreign)(x), foreign.eval()(x))


@pytest.mark.parametrize("variance", [1.0, 1e-3, 1e-9, 0.0])
def test_a_frozen_unit_is_its_two_steps(variance: float) -> None:
    torch.manual_seed(0)
    unit = ConvolutionUnit(8, 12, 3, norm="FrozenBN").double()
    norm = unit.norm
    assert isinstance(norm, FrozenBatchNorm2d)
    norm.running_mean.normal_()
    norm.running_var.fill_(variance)
    norm.weight.normal_()
    norm.bias.normal_()
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    exact = norm(unit.conv(x))
    single = copy.deepcopy(unit).float()
    bound = 1e-6 * (1.0 + norm.running_mean.abs() / torch.sqrt(norm.running_var + norm.eps)).max()
    assert torch.allclose(unit(x), exact, rtol=1e-9, atol=1e-9)
    error = (single(x.float()).double() - exact).abs().max()
    assert error < 10 * bound * max(1.0, float(norm.weight.abs().max()))


def test_gradients_through_a_frozen_norm_are_exact() -> None:
    torch.manual_seed(0)
    unit = ConvolutionUnit(5, 7, 3, norm="FrozenBN", activation="silu").double()
    unit.norm.running_mean.normal_()
    unit.norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(unit(x).square().sum(), (x, unit.conv.weight))
    two_steps = unit.activation(unit.norm(unit.conv(x)))
    reference = torch.autograd.grad(two_steps.square().sum(), (x, unit.conv.weight))
    for gradient, expected in zip(ours, reference, strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_hooks_on_the_parts_of_a_frozen_unit_still_run() -> None:
    unit = ConvolutionUnit(3, 4, norm="FrozenBN")
    seen: list[str] = []
    unit.norm.register_forward_hook(lambda module, args, output: seen.append("norm"))
    unit(torch.randn(1, 3, 4, 4))
    assert seen == ["norm"]


def test_half_precision_folds_in_float32() -> None:
    unit = ConvolutionUnit(3, 4, norm="FrozenBN")
    unit.norm.running_var.fill_(1e-9)
    weight, bias = fold_norm(unit.half().conv, unit.norm)
    assert weight.dtype == bias.dtype == torch.float16
    assert torch.isfinite(weight).all()
    assert weight.abs().max() > 50  # 1 / sqrt(1e-5) is 316


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"cardinality": 8, "base_width": 4},
        {"block": "basic", "base_width": 16},
        {"stride_in": "1x1", "output_stride": 8},
        {"norm": "FrozenBN"},
        {"activation": "softplus"},
        {"drop_path": 0.3, "dropout": 0.5},
        {"channels": {"stem": 37, "stages.1.0.unit1": 19, "stages.2.0.unit2": 53}},
    ],
)
def test_resnets_fold_to_the_same_logits_and_features(
    vary: Callable[[nn.Module], Any], arguments: dict[str, Any]
) -> None:
    network = vary(ResNet((1, 2, 1, 1), num_classes=10, **arguments))
    backbone = Backbone(copy.deepcopy(network), ("res5", "res2", "res4")).eval()
    x = torch.randn(2, 3, 65, 47)
    with torch.no_grad():
        folded = fold(network)
        assert relative_difference(folded(x), network(x)) < 2e-5
        expected, ours = backbone(x), fold(backbone)(x)
    assert not any(isinstance(part, nn.BatchNorm2d | FrozenBatchNorm2d) for part in folded.modules())
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert relative_difference(ours[name], value) < 1e-4, name


@pytest.mark.parametrize(
    "arguments",
    [
        {"block": "basic", "base_width": 16, "shortcut": "padding"},
        {"block": "basic", "base_width": 16},
        {"cardinality": 4, "base_width": 16},  # Its stem has no norm.
    ],
)
def test_small_resnets_fold_too(vary: Callable[[nn.Module], Any], arguments: dict[str, Any]) -> None:
    network = vary(ResNet((1, 2, 1), stem="cifar", num_classes=10, **arguments))
    x = torch.randn(2, 3, 33, 32)
    kept = x.clone()
    with torch.no_grad():
        assert relative_difference(fold(network)(x), network(x)) < 2e-5
    assert torch.equal(x, kept)
