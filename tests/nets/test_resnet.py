"""ResNet, ResNeXt and their layer-wise forms, against torchvision, published counts and the paper's own equations."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from rexdet.nets import Backbone, ResNet, ReXNet, count
from rexdet.nets.aggregated import EarlyConcatenation, SplitTransformSum
from rexdet.nets.complexity import count_parameters
from rexdet.nets.resnet import ResidualBlock

SMALL = {"depths": (1, 1, 1, 1), "base_width": 8, "stem_channels": 8, "num_classes": 5}
TORCHVISION = {
    "resnet18": {"depths": (2, 2, 2, 2), "block": "basic"},
    "resnet50": {},
    "resnext50_32x4d": {"cardinality": 32, "base_width": 4},
}


def randomise_norms(network: nn.Module) -> nn.Module:
    """Statistics and affine parameters that differ from channel to channel, so that no mistake cancels out."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data.normal_(0.0, 0.1, generator=generator)
    return network


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Torchvision's tensors into ours by position: it has the projection behind the convolutions, as we do."""
    theirs = list(source.state_dict().values())
    ours = target.state_dict()
    assert [tuple(value.shape) for value in theirs] == [tuple(value.shape) for value in ours.values()]
    target.load_state_dict(dict(zip(ours, theirs, strict=True)))


@pytest.mark.parametrize("name", TORCHVISION)
def test_equals_torchvision(name: str) -> None:
    torch.manual_seed(0)
    theirs = randomise_norms(torchvision.models.get_model(name)).eval()
    ours = ResNet(**TORCHVISION[name]).eval()
    copy_in_order(theirs, ours)
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


def test_dilation_equals_torchvision() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    ours = ResNet(output_stride=8).eval()
    copy_in_order(theirs, ours)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)
    assert [feature.stride for feature in ours.features.values()] == [4, 8, 8, 8]


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"depths": (3, 4, 6, 3), "cardinality": 32, "base_width": 4}, 25_028_904),
        ({"depths": (3, 4, 23, 3), "cardinality": 32, "base_width": 8}, 88_791_336),
        ({"depths": (3, 4, 23, 3), "cardinality": 64, "base_width": 4}, 83_455_272),
        ({"depths": (3, 3, 3), "cardinality": 8, "stem": "cifar", "num_classes": 10}, 34_426_634),
        ({"depths": (3, 3, 3), "cardinality": 16, "stem": "cifar", "num_classes": 10}, 68_155_146),
        ({"depths": (3, 3, 3), "cardinality": 8, "stem": "cifar", "num_classes": 10, "stem_norm": True}, 34_426_698),
    ],
)
def test_published_counts(arguments, parameters: int) -> None:
    """C80. Xie et al., arXiv 1611.05431, Tables 1 and 7."""
    with torch.device("meta"):
        assert count_parameters(ResNet(**arguments)) == parameters


def test_cost_of_the_widened_network() -> None:
    """At twice the width: 16.1166 G multiply-accumulates of convolutions and classifier, 98.00 M parameters."""
    with torch.device("meta"):
        cost = count(ResNet(width=2.0))
    assert (round(cost.macs / 1e9, 4), round(cost.parameters / 1e6, 2)) == (16.1166, 98.0)


@pytest.fixture(params=[1, 2], ids=["stride 1", "stride 2"])
def block(request: pytest.FixtureRequest) -> ResidualBlock:
    torch.manual_seed(0)
    network = ResNet(cardinality=8, base_width=4, depths=(2, 1, 1, 1), num_classes=2)
    found = network.stages[0][1] if request.param == 1 else network.stages[1][0]
    return randomise_norms(found).double()  # type: ignore[return-value]


@pytest.mark.parametrize("form", [SplitTransformSum, EarlyConcatenation])
@pytest.mark.parametrize("training", [False, True])
def test_the_three_forms_of_the_block_compute_the_same(form, training: bool, block: ResidualBlock) -> None:
    """Xie et al., Fig. 3: split-transform-sum, early concatenation, grouped convolution; forward and backward."""
    block.train(training)
    other = form(block)
    first = torch.randn(2, 256, 9, 7, dtype=torch.float64, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    expected, found = block(first), other(second)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-9, atol=1e-9)
    if training:
        statistics = torch.cat([middle[1].running_mean for middle in other.middle])
        torch.testing.assert_close(statistics, block.unit2.norm.running_mean)


def test_the_forms_are_refused_for_other_blocks() -> None:
    basic = ResNet((1, 1, 1, 1), block="basic").stages[0][0]
    with pytest.raises(ValueError, match="basic block"):
        SplitTransformSum(basic)
    with pytest.raises(ValueError, match="batch norm"):
        EarlyConcatenation(ResNet((1, 1, 1, 1), norm="GN").stages[0][0])


def test_padding_shortcut_is_option_a() -> None:
    """He et al., arXiv 1512.03385, Sec. 4.2: every second pixel, zeros for the channels that are new."""
    network = ResNet((1, 1, 1), block="basic", base_width=16, stem="cifar", shortcut="padding", num_classes=10)
    block = network.stages[1][0]
    x = torch.randn(1, 16, 8, 8)
    skip = block._skip(x)
    assert skip.shape == (1, 32, 4, 4)
    torch.testing.assert_close(skip[:, 8:24], x[:, :, ::2, ::2])
    assert not skip[:, :8].any()
    assert not skip[:, 24:].any()
    assert not any("projection" in key for key in network.state_dict())


def test_the_stride_stands_where_it_is_asked_for() -> None:
    image = torch.randn(1, 3, 64, 64)
    shapes = {}
    for place in ("3x3", "1x1"):
        network = ResNet(stride_in=place, **SMALL).eval()
        block = network.stages[1][0]
        shapes[place] = (block.unit1.conv.stride, block.unit2.conv.stride)
        assert network(image).shape == (1, 5)
    assert shapes == {"3x3": ((1, 1), (2, 2)), "1x1": ((2, 2), (1, 1))}


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_maps_and_reported_features_agree(stem: str) -> None:
    arguments = SMALL if stem == "imagenet" else {**SMALL, "depths": (1, 2, 1)}
    network = ResNet(stem=stem, **arguments).eval()
    names = tuple(network.features)
    backbone = Backbone(network, names)
    height, width = 45, 70
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, height, width))
    for name, feature in network.features.items():
        expected = (2, feature.channels, -(-height // feature.stride), -(-width // feature.stride))
        assert maps[name].shape == expected
    assert names == (("res2", "res3", "res4", "res5") if stem == "imagenet" else ("res2", "res3", "res4"))


def random_widths(network: nn.Module, generator: torch.Generator, multiple: int = 1) -> dict[str, int]:
    """Legal widths: one draw a residual stream, one for every other layer."""
    widths: dict[str, int] = {}
    for path, channels in network.channels.items():  # type: ignore[union-attr]
        draw = int(torch.randint(1, channels // multiple + 1, (1,), generator=generator)) * multiple
        stage, _, unit = path.rpartition(".")
        last = "unit3" if f"{stage}.unit3" in network.channels else "unit2"  # type: ignore[operator]
        if unit in (last, "projection"):
            draw = widths.get(f"{stage.rpartition('.')[0]}.0.{last}", draw)
        widths[path] = draw
    return widths


@pytest.mark.parametrize("cardinality", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_widths_layer_by_layer(cardinality: int, seed: int) -> None:
    base = ResNet((2, 1, 2, 1), cardinality=cardinality, base_width=16, num_classes=5)
    widths = random_widths(base, torch.Generator().manual_seed(seed), multiple=cardinality)
    network = ResNet((2, 1, 2, 1), cardinality=cardinality, base_width=16, num_classes=5, channels=widths)
    assert network.channels == widths
    measured = {
        path: network.get_submodule(path).conv.out_channels  # type: ignore[union-attr]
        for path in widths
    }
    assert measured == widths
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert [feature.channels for feature in network.features.values()] == [
        widths[f"stages.{stage}.0.unit3"] for stage in range(4)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": {"stages.0.0.unti1": 3}}, "did you mean stages.0.0.unit1"),
        ({"channels": {"stem": 0}}, "whole number from 1"),
        ({"channels": {"stem": 4.0}}, "whole number from 1"),
        ({"channels": {"stem": 10**9}}, "whole number from 1 to 65536"),
        ({"channels": {"stages.1.1.unit3": 100}}, "all blocks of one stage write the same width"),
        ({"channels": {"stages.1.0.projection": 100}}, "is added to 512"),
        ({"cardinality": 4, "channels": {"stages.0.0.unit2": 30}}, "no multiple of 4 groups"),
        ({"depths": (3, 4, 6)}, "not 4 numbers of blocks"),
        ({"block": "basic", "cardinality": 2}, "a basic block has no groups"),
        ({"block": "wide"}, "is not one of bottleneck, basic"),
        ({"stride_in": "5x5"}, "is not one of 3x3, 1x1"),
        ({"output_stride": 4}, "is not one of 8, 16, 32"),
        ({"width": 0.0}, "must be a positive number"),
        ({"drop_path": -0.1}, "drop path rate -0.1"),
        ({"drop_path": float("nan")}, "drop path rate nan"),
        ({"drop_path": 2.0}, "drop path rate 2.0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"stem_channels": 0}, "stem_channels is 0"),
        ({"channels": [("stem", 64)]}, "give a mapping"),
        ({"stem": "cifar", "depths": (1, 1, 1), "output_stride": 8}, "the CIFAR form has stride 4 already"),
        (
            {
                "stem": "cifar",
                "depths": (1, 1, 1),
                "block": "basic",
                "shortcut": "padding",
                "channels": {"stages.1.0.unit2": 8},
            },
            "which a shortcut without parameters cannot follow",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(arguments, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        ResNet(**arguments)


def test_a_projection_stays_where_two_widths_happen_to_be_equal() -> None:
    widths = {"stem": 64, **{f"stages.0.{index}.unit3": 64 for index in range(3)}, "stages.0.0.projection": 64}
    with torch.device("meta"):
        network = ResNet(channels=widths)
    assert network.stages[0][0].projection is not None


def test_one_image_trains() -> None:
    network = ResNet(**SMALL)
    loss = network(torch.randn(1, 3, 33, 33)).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_drop_path_drops_whole_branches_only_in_training() -> None:
    network = ResNet(drop_path=0.5, **SMALL)
    image = torch.randn(4, 3, 32, 32)
    network.train()
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_export_and_eager_agree() -> None:
    network = ResNet(cardinality=4, **{**SMALL, "base_width": 4}).eval()
    image = torch.randn(2, 3, 64, 64)
    program = torch.export.export(network, (image,))
    torch.testing.assert_close(program.module()(image), network(image))


# --- ReXNet's layer-wise form


@pytest.mark.parametrize("lite", [False, True])
def test_rexnet_takes_its_own_widths_back(lite: bool) -> None:
    network = ReXNet(0.5, lite=lite, num_classes=3)
    again = ReXNet(0.5, lite=lite, num_classes=3, channels=network.channels)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


def test_rexnet_widths_layer_by_layer() -> None:
    base = ReXNet(0.5, num_classes=3)
    generator = torch.Generator().manual_seed(0)
    widths: dict[str, int] = {}
    previous = 0
    for path, channels in base.channels.items():
        widths[path] = int(torch.randint(1, channels + 1, (1,), generator=generator))
        if path == "stem" or path.endswith(".project"):
            previous = widths[path] = max(previous, widths[path])
    network = ReXNet(0.5, num_classes=3, channels=widths)
    assert network.channels == widths
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    for path, channels in widths.items():
        module = network.get_submodule(path)
        conv = module if isinstance(module, nn.Conv2d) else module.conv
        assert conv.out_channels == channels
    assert [block.has_shortcut for block in network.blocks] == [block.has_shortcut for block in base.blocks]


def test_rexnet_refuses_a_shortcut_wider_than_its_block() -> None:
    with pytest.raises(ValueError, match="which is added to them"):
        ReXNet(1.0, channels={"blocks.6.project": 10})
