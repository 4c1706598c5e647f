"""The papers' own opponents, by name: maps at strides 4 to 32 for odd sizes, channels as announced, one step."""

from __future__ import annotations

import pytest
import torch

import rexdet

# Channels of the last block at each stride, as each paper's table of its network has them (RegNet: pycls's configs).
OPPONENTS = {
    "timm:efficientnet_b0": (24, 40, 112, 320),
    "timm:tf_efficientnet_b0": (24, 40, 112, 320),
    "torchvision:efficientnet_b0": (24, 40, 112, 320),
    "timm:tf_efficientnet_lite0": (24, 40, 112, 320),
    "timm:mobilenetv1_100": (128, 256, 512, 1024),
    "timm:mobilenetv2_100": (24, 32, 96, 320),
    "torchvision:mobilenet_v2": (24, 32, 96, 320),
    "timm:mobilenetv3_large_100": (24, 40, 112, 160),
    "torchvision:mobilenet_v3_large": (24, 40, 112, 160),
    "timm:mnasnet_100": (24, 40, 96, 320),
    "torchvision:mnasnet1_0": (24, 40, 96, 320),
    "timm:regnetx_004": (32, 64, 160, 384),
    "torchvision:regnet_x_400mf": (32, 64, 160, 400),
    "timm:fbnetc_100": (24, 32, 112, 352),
}
FEATURES = ("res2", "res3", "res4", "res5")


@pytest.mark.parametrize("name", list(OPPONENTS))
def test_an_opponent_builds_gives_its_maps_and_trains(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    torch.manual_seed(0)
    backbone = rexdet.create_backbone(name, freeze_at=1)
    assert tuple(backbone.features[feature].channels for feature in FEATURES) == OPPONENTS[name]
    height, width = 75, 101
    maps = backbone(torch.randn(2, 3, height, width))
    for level, feature in enumerate(FEATURES):
        stride = 4 << level
        assert backbone.features[feature].stride == stride
        shape = (2, OPPONENTS[name][level], -(-height // stride), -(-width // stride))
        assert maps[feature].shape == shape
    learning = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in learning]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    sum((value * torch.randn_like(value)).mean() for value in maps.values()).backward()
    optimizer.step()
    assert all(parameter.grad is not None and torch.isfinite(parameter).all() for parameter in learning)
    # Not all change: a residual branch whose last norm starts at 0 hands no gradient on in the first step.
    assert sum(not torch.equal(one, other) for one, other in zip(before, learning, strict=True)) > len(learning) / 4
    assert len(learning) < len(list(backbone.parameters()))


def test_lite0_is_tensorflows_network() -> None:
    """SAME padding and eps 1e-3: an even picture is padded on the right and below alone."""
    pytest.importorskip("timm")
    model = rexdet.create_model("timm:tf_efficientnet_lite0")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    with torch.no_grad():
        model.conv_stem.weight.fill_(1.0)
        counted = model.conv_stem(torch.ones(1, 3, 8, 8))[0, 0]
    assert counted[0, 0] == 27
    assert counted[-1, -1] == 12


@pytest.mark.parametrize(
    ("name", "channels"),
    [("timm:mobilenetv4_conv_small", 128), ("torchvision:shufflenet_v2_x1_0", 464), ("torchvision:densenet121", 1024)],
)
def test_the_last_map_is_never_a_convolution_for_the_classifier(name: str, channels: int) -> None:
    """C05, for networks that end in another way."""
    pytest.importorskip(name.partition(":")[0])
    backbone = rexdet.create_backbone(name, ("res5",)).eval()
    assert backbone.features["res5"].channels == channels
    assert backbone(torch.zeros(1, 3, 64, 64))["res5"].shape == (1, channels, 2, 2)


@pytest.mark.parametrize("norm", ["FrozenBN", "SyncBN"])
def test_norms_with_an_activation_inside_keep_it(norm: str) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    name = "timm:mobilenetv2_100"
    weights = rexdet.create_model(name).state_dict()
    images = torch.randn(1, 3, 64, 64)
    plain = rexdet.create_backbone(name, weights=weights, norm="BN").eval()(images)
    changed = rexdet.create_backbone(name, weights=weights, norm=norm).eval()(images)
    for feature in FEATURES:
        torch.testing.assert_close(changed[feature], plain[feature], rtol=1e-5, atol=1e-6)
