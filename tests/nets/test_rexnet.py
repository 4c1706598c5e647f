"""ReXNet and ReXNet-lite against the authors' outputs, timm's networks and the published counts."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rexdet.nets import ReXNet, count
from rexdet.nets.rexnet import InvertedBottleneck, linear_channels

WIDTHS = (0.6, 0.9, 1.0, 1.3, 1.5, 2.0, 2.2, 3.0)
LITE_WIDTHS = (1.0, 1.3, 1.5, 2.0)
# arXiv 2007.00992: the authors' code, counted to the digit.
PARAMETERS = {
    0.9: 4_091_257,
    1.0: 4_796_873,
    1.3: 7_557_091,
    1.5: 9_728_593,
    2.0: 16_366_620,
    2.2: 19_485_308,
    3.0: 34_708_792,
}
LITE_PARAMETERS = {1.0: 4_740_056, 1.3: 6_747_960, 1.5: 8_332_296, 2.0: 12_966_200}
BLOCKS_1_0 = [16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185]
TAPS = {
    0.9: (36, 56, 117, 168),
    1.0: (38, 61, 128, 185),
    1.3: (50, 79, 167, 240),
    1.5: (58, 92, 193, 277),
    2.0: (77, 122, 257, 370),
    2.2: (85, 134, 283, 406),
    3.0: (116, 183, 386, 554),
}
SSDLITE_TAPS = {0.9: (702, 1152), 1.0: (768, 1280), 1.3: (1002, 1664)}
GOLDEN = {
    "clovaai_rexnetv1_0.9x": {"width": 0.9},
    "clovaai_rexnetv1_1.0x": {},
    "clovaai_rexnetv1_lite_1.0x": {"lite": True},
    "timm_rexnet_100": {},
}


def relative_error(ours: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def with_varied_norms(network: nn.Module, seed: int = 0) -> nn.Module:
    """Running statistics and affine parameters as a trained network has them: none is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                part.running_mean.copy_(torch.randn(part.num_features, generator=generator) * 0.1)
                part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
                part.weight.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
                part.bias.copy_(torch.randn(part.num_features, generator=generator) * 0.1)
    return network


def load_by_order(network: nn.Module, tensors: dict[str, Any]) -> nn.Module:
    """Fill `network` from another layout with the same tensors in the same order."""
    own = network.state_dict()
    assert len(own) == len(tensors)
    filled = {
        name: torch.as_tensor(np.asarray(value)).reshape(own[name].shape)
        for name, value in zip(own, tensors.values(), strict=True)
    }
    network.load_state_dict(filled)
    return network


@pytest.fixture(scope="module")
def fill(shared_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", shared_dir / "golden" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_outputs(name: str, fill: ModuleType, shared_dir: Path) -> None:
    shapes = json.loads((shared_dir / "golden" / f"{name}.json").read_text())
    reference = np.load(shared_dir / "golden" / f"{name}.npz")
    network = load_by_order(ReXNet(**GOLDEN[name]), fill.fill_state_dict(shapes)).eval()
    x = torch.from_numpy(fill.golden_input())
    with torch.no_grad():
        logits, features = network(x), network.forward_features(x)
    assert relative_error(logits, reference["logits"]) < 1e-4
    for ours, theirs in (("res2", "s4"), ("res3", "s8"), ("res4", "s16"), ("res5", "s32")):
        if (
            name == "timm_rexnet_100"
        ):  # Its file holds logits alone; its features equal the authors' by test_equals_timm.
            continue
        assert relative_error(features[ours], reference[theirs]) < 1e-4


@pytest.mark.parametrize(
    ("theirs", "arguments", "ours"),
    [
        *(("rexnet_100", {"width_mult": width}, {"width": width}) for width in WIDTHS),
        ("rexnetr_100", {}, {"width": 1.0, "channel_divisor": 8}),
        ("rexnetr_130", {}, {"width": 1.3, "channel_divisor": 8}),
        ("rexnetr_200", {}, {"width": 2.0, "channel_divisor": 8}),
        ("rexnetr_300", {}, {"width": 3.0, "channel_divisor": 16}),
        ("rexnet_100", {"depth_mult": 1.2}, {"depth": 1.2}),
        ("rexnet_100", {"depth_mult": 2.0, "width_mult": 0.6}, {"depth": 2.0, "width": 0.6}),
        ("rexnet_100", {"se_ratio": 0}, {"squeeze_excitation": False}),
        ("rexnet_100", {"act_layer": "elu"}, {"activation": "elu"}),
    ],
)
def test_equals_timm(theirs: str, arguments: dict[str, Any], ours: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm", reason="timm is the independent reference here")
    torch.manual_seed(0)
    reference = with_varied_norms(timm.create_model(theirs, **arguments)).eval()
    network = load_by_order(ReXNet(**ours), reference.state_dict()).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(network(x), reference(x)) < 1e-5


@pytest.mark.parametrize("width", PARAMETERS)
def test_parameter_counts(width: float) -> None:
    with torch.device("meta"):
        network = ReXNet(width)
    assert count(network, (1, 3, 32, 32)).parameters == PARAMETERS[width]


@pytest.mark.parametrize("width", LITE_PARAMETERS)
def test_lite_parameter_counts(width: float) -> None:
    with torch.device("meta"):
        network = ReXNet(width, lite=True)
    assert count(network, (1, 3, 32, 32)).parameters == LITE_PARAMETERS[width]


@pytest.mark.parametrize(
    ("width", "stem"), [(0.6, 32), (0.9, 32), (1.0, 32), (1.3, 42), (1.5, 48), (2.0, 64), (3.0, 96)]
)
def test_stem_width_follows_the_authors_rule(width: float, stem: int) -> None:
    assert ReXNet(width).stem.conv.out_channels == stem


def test_lite_stem_is_a_multiple_of_eight() -> None:
    assert ReXNet(1.3, lite=True).stem.conv.out_channels == 40


def test_channels_of_the_linear_rule() -> None:
    assert [block.out_channels for block in ReXNet().blocks] == BLOCKS_1_0


def test_a_narrow_network_keeps_its_first_channels() -> None:
    narrow = linear_channels(0.6, 16, first=16, growth=180.0, growth_steps=16, divisor=1)
    assert narrow[0] == 16
    # Within one of the closed form: the authors' running sum decides how halves round (see test_equals_timm).
    assert all(abs(channels - (16 + index * 0.6 * 180 / 16)) <= 0.5 + 1e-9 for index, channels in enumerate(narrow))


def test_stepwise_rule_is_constant_inside_a_stage() -> None:
    widths = [block.out_channels for block in ReXNet(channel_rule="stepwise").blocks]
    assert widths == [16, 24, 24, 32, 32, 64, 64, 64, 96, 96, 96, 160, 160, 160, 160, 320]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("lite", [False, True])
def test_reported_features_are_the_measured_ones(width: float, lite: bool) -> None:
    network = ReXNet(width, lite=lite, num_classes=2).eval()
    with torch.no_grad():
        features = network.forward_features(torch.randn(1, 3, 64, 64))
    assert list(features) == list(network.features)
    assert set(features) == {"res2", "res3", "res4", "res5", "expand5", "penultimate"}
    for name, feature in network.features.items():
        side = 64 // feature.stride
        assert features[name].shape == (1, feature.channels, side, side), name
    strides = [network.features[name].stride for name in ("res2", "res3", "res4", "res5", "expand5", "penultimate")]
    assert strides == [4, 8, 16, 32, 16, 32]


@pytest.mark.parametrize("width", TAPS)
def test_tap_channels_are_the_published_ones(width: float) -> None:
    features = ReXNet(width).features
    assert tuple(features[name].channels for name in ("res2", "res3", "res4", "res5")) == TAPS[width]


@pytest.mark.parametrize("width", SSDLITE_TAPS)
def test_ssdlite_tap_channels(width: float) -> None:
    features = ReXNet(width).features
    assert (features["expand5"].channels, features["penultimate"].channels) == SSDLITE_TAPS[width]


def test_expand5_is_the_expansion_of_the_first_stride_32_block() -> None:
    network = with_varied_norms(ReXNet(num_classes=2)).eval()
    seen: list[torch.Tensor] = []
    network.blocks[11].expand.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        features = network.forward_features(torch.randn(1, 3, 64, 64))
    assert torch.equal(features["expand5"], seen[0])


@pytest.mark.parametrize("size", [(33, 47), (31, 64), (1, 1), (65, 97)])
def test_odd_sizes_round_up(size: tuple[int, int]) -> None:
    network = ReXNet(0.6, num_classes=3).eval()
    with torch.no_grad():
        features = network.forward_features(torch.randn(1, 3, *size))
    for name, feature in network.features.items():
        expected = tuple(math.ceil(side / feature.stride) for side in size)
        assert features[name].shape[2:] == expected, name


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
@pytest.mark.parametrize("size", [64, 75])
def test_dilated_network_computes_the_strided_features(output_stride: int, step: int, size: int) -> None:
    # Without squeeze-excitation (a mean over another grid) dilation is exact: the strided map is a sample of it.
    torch.manual_seed(0)
    strided = with_varied_norms(ReXNet(0.6, squeeze_excitation=False, num_classes=2)).eval()
    dilated = ReXNet(0.6, squeeze_excitation=False, num_classes=2, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        expected, ours = strided.forward_features(x), dilated.forward_features(x)
    assert relative_error(ours["res5"][:, :, ::step, ::step], expected["res5"]) < 1e-5
    assert dilated.features["res5"].stride == output_stride
    assert ours["res5"].shape[2] == math.ceil(size / output_stride)
    assert relative_error(ours["res2"], expected["res2"]) < 1e-6


@pytest.mark.parametrize("lite", [False, True])
def test_shortcuts_add_to_the_first_channels_only(lite: bool) -> None:
    network = with_varied_norms(ReXNet(0.6, lite=lite)).eval()
    for block in network.blocks:
        x = torch.randn(2, block.in_channels, 6, 6)
        with torch.no_grad():
            out = block(x)
            shortcut, block.has_shortcut = block.has_shortcut, False
            plain = block(x)
            block.has_shortcut = shortcut
        added = out - plain
        if not shortcut:
            assert torch.equal(out, plain)
        else:
            assert torch.allclose(added[:, : block.in_channels], x, atol=1e-4)
            assert not added[:, block.in_channels :].any()


def test_drop_path_lives_in_shortcut_blocks_only_and_grows() -> None:
    network = ReXNet(drop_path=0.3)
    rates = []
    for index, block in enumerate(network.blocks):
        assert isinstance(block, InvertedBottleneck)
        if not block.has_shortcut:
            assert block.drop_path is None, index
        elif index:
            assert block.drop_path is not None
            assert block.drop_path.rate == pytest.approx(0.3 * index / 15)
            rates.append(block.drop_path.rate)
    assert rates == sorted(rates)
    assert len(rates) == 11


def test_batch_of_one_trains() -> None:
    network = ReXNet(0.6, num_classes=3).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(1, 3, 64, 64)).sum().backward()
    gate = network.blocks[5].squeeze_excitation
    assert torch.isfinite(gate.reduce.weight.grad).all()
    # One value a channel has no variance: squeeze-excitation's norm used its running statistics and left them.
    name = "blocks.5.squeeze_excitation.norm.running_mean"
    assert torch.equal(network.state_dict()[name], before[name])
    assert not torch.equal(
        network.state_dict()["blocks.5.expand.norm.running_mean"], before["blocks.5.expand.norm.running_mean"]
    )


def test_lite_batch_of_one_trains() -> None:
    network = ReXNet(0.6, lite=True, num_classes=3).train()
    network(torch.randn(1, 3, 64, 64)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "leaky_relu", "elu", "softplus", "hardswish"])
def test_activation_choice_trains(activation: str) -> None:
    network = ReXNet(0.6, activation=activation, num_classes=2).train()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 0.0},
        {"width": float("nan")},
        {"depth": -1.0},
        {"output_stride": 4},
        {"channel_rule": "cubic"},
        {"num_classes": 0},
        {"activation": "swishy"},
        {"norm": "LN"},
        {"drop_path": 1.0},
        {"drop_path": -0.1},
        {"drop_path": float("nan")},
        {"in_channels": 0},
        {"channels": [("stem", 32)]},
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ReXNet(**arguments)


def test_group_norm_trains_and_has_no_running_statistics() -> None:
    network = ReXNet(0.6, norm="GN", num_classes=2).train()
    network(torch.randn(1, 3, 64, 64)).sum().backward()
    assert not [name for name in network.state_dict() if "running" in name]
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_with_tiny_variances(dtype: torch.dtype) -> None:
    network = ReXNet(0.6, norm="FrozenBN", num_classes=2).eval()
    network.blocks[3].depthwise.norm.running_var.fill_(1e-9)
    network.stem.norm.running_var.fill_(1e-9)
    with torch.no_grad():
        # Real weights keep activations near 1; a scale of 1/sqrt(eps) alone would leave half precision's range.
        network.stem.norm.weight.fill_(1e-2)
        network.blocks[3].depthwise.norm.weight.fill_(1e-2)
        logits = network.to(dtype)(torch.randn(1, 3, 64, 64, dtype=dtype))
    assert torch.isfinite(logits).all()


def test_channels_last_and_bfloat16_autocast_agree() -> None:
    network = with_varied_norms(ReXNet(0.6, num_classes=7)).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = network(x)
        layout = network.to(memory_format=torch.channels_last)
        last = layout(x.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = layout(x)
    assert relative_error(last, plain) < 1e-4
    assert half.dtype == torch.bfloat16
    assert relative_error(half.float(), plain) < 0.1
    with torch.autocast("cpu", torch.bfloat16):
        loss = network.train()(x.to(memory_format=torch.channels_last)).float().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
