"""Which channels hang together: against what the papers say, a pruning library, and the exact count of costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets import count
from rexdet.nets.resnet import ResNet
from rexdet.shrink.coupling import Coupling, Layer, trace
from rexdet.zoo import create_model

NAMES = {
    "resnet50": 224,
    "resnext50_8x14d": 224,
    "resnet20_cifar": 32,
    "resnet20b_cifar": 32,
    "resnext29_8x64d_cifar": 32,
    "rexnet_1.0": 224,
    "rexnet_lite_1.0": 160,
    "torchvision:mobilenet_v2": 224,
    "torchvision:efficientnet_b0": 224,
    "torchvision:regnet_x_400mf": 224,
    "torchvision:densenet121": 64,
    "torchvision:vgg11_bn": 224,
}


@pytest.fixture(scope="module")
def couple():
    """(name) -> (its network, its coupling), each traced once."""
    known: dict[str, tuple[nn.Module, Coupling]] = {}

    def make(name: str) -> tuple[nn.Module, Coupling]:
        if name not in known:
            network = create_model(name)
            known[name] = network, trace(network, (3, NAMES[name], NAMES[name]))
        return known[name]

    return make


def layers_of(coupling: Coupling) -> dict[str, Layer]:
    return {layer.path.removesuffix(".conv"): layer for layer in coupling.layers}


@pytest.mark.parametrize("name", NAMES)
def test_costs_from_the_layers_equal_the_exact_count(name: str, couple) -> None:
    network, coupling = couple(name)
    everything = np.ones(coupling.size, dtype=bool)
    assert coupling.macs(everything) == count(network, (1, 3, NAMES[name], NAMES[name])).macs


def test_one_vector_a_residual_stream_and_one_for_each_inner_layer(couple) -> None:
    layers = layers_of(couple("resnet50")[1])
    for stage, blocks in enumerate((3, 4, 6, 3)):
        stream = layers[f"stages.{stage}.0.projection"].out_classes
        for block in range(blocks):
            assert np.array_equal(layers[f"stages.{stage}.{block}.unit3"].out_classes, stream)
            for unit in ("unit1", "unit2"):
                own = layers[f"stages.{stage}.{block}.{unit}"].out_classes
                sharing = [path for path, layer in layers.items() if np.isin(own, layer.out_classes).any()]
                assert sharing == [f"stages.{stage}.{block}.{unit}"]
    # A bottleneck network's stem has its own; the classifier's classes and the image's channels stay.
    assert not np.isin(layers["stem"].out_classes, layers["stages.0.0.unit3"].out_classes).any()
    coupling = couple("resnet50")[1]
    assert coupling.fixed.sum() == 3 + 1000
    assert set(np.flatnonzero(coupling.classifier_inputs())) == set(layers["stages.3.2.unit3"].out_classes)


def test_the_stem_of_basic_blocks_shares_the_first_streams_vector(couple) -> None:
    layers = layers_of(couple("resnet20b_cifar")[1])
    assert np.array_equal(layers["stem"].out_classes, layers["stages.0.2.unit2"].out_classes)


def test_a_grouped_convolution_repeats_one_vector_over_its_groups(couple) -> None:
    layers = layers_of(couple("resnext50_8x14d")[1])
    first, grouped = (layers[f"stages.1.2.unit{number}"] for number in (1, 2))
    assert grouped.groups == 8
    rows = grouped.in_classes.reshape(8, 28)
    assert (rows == rows[0]).all()
    assert len(np.unique(rows)) == 28
    assert np.array_equal(first.out_classes, grouped.in_classes)
    assert np.array_equal(grouped.out_classes, grouped.in_classes)


def test_a_rexnet_block_begins_with_its_inputs_vector_where_it_adds_its_input(couple) -> None:
    network, coupling = couple("rexnet_1.0")
    layers = layers_of(coupling)
    before = layers["blocks.0.project"].out_classes
    shortcuts = 0
    for index in range(1, 16):
        own = layers[f"blocks.{index}.project"].out_classes
        begins_alike = np.array_equal(own[: len(before)], before)
        assert begins_alike == network.blocks[index].has_shortcut
        assert not begins_alike or not np.isin(own[len(before) :], before).any()
        shortcuts += begins_alike
        before = own
    assert shortcuts == 11
    hidden = layers["blocks.5.expand"].out_classes
    for path in ("blocks.5.depthwise", "blocks.5.squeeze_excitation.expand"):
        assert np.array_equal(layers[path].out_classes, hidden)
    assert not np.isin(layers["blocks.5.squeeze_excitation.reduce"].out_classes, hidden).any()


def test_a_padded_shortcut_keeps_its_zeros_even_on_both_sides(couple) -> None:
    layers = layers_of(couple("resnet20_cifar")[1])
    narrow, wide = layers["stages.0.2.unit2"].out_classes, layers["stages.1.0.unit2"].out_classes
    assert np.array_equal(wide[8:24], narrow)
    assert np.array_equal(wide[:8], wide[24:])


@pytest.mark.parametrize(
    "name", ["resnet50", "resnet20b_cifar", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0"]
)
def test_groups_are_those_of_a_pruning_library(name: str, couple) -> None:
    pruning = pytest.importorskip("torch_pruning", reason="torch-pruning is the independent reference here")
    network, coupling = couple(name)
    paths = {module: path for path, module in network.named_modules()}
    graph = pruning.DependencyGraph().build_dependency(network, torch.randn(1, 3, NAMES[name], NAMES[name]))
    for layer in coupling.layers:
        if not layer.is_convolution or layer.is_depthwise:
            continue
        channel = len(layer.out_classes) // 2
        group = graph.get_pruning_group(
            network.get_submodule(layer.path), pruning.prune_conv_out_channels, idxs=[channel]
        )
        theirs = set()
        for dependency, indices in group:
            module = dependency.target.module
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            writes = "out_channels" in dependency.handler.__name__
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
            for side in ("out", "in") if depthwise else ("out",) if writes else ("in",):
                theirs |= {(paths[module], side, int(index)) for index in indices}
        one = layer.out_classes[channel]
        ours = set()
        for other in coupling.layers:
            ours |= {(other.path, "out", int(index)) for index in np.flatnonzero(other.out_classes == one)}
            ours |= {(other.path, "in", int(index)) for index in np.flatnonzero(other.in_classes == one)}
        assert ours == theirs, layer.path


def test_a_layer_that_runs_twice_costs_twice_and_couples_what_it_reads() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.again = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.again(self.first(x)))

    coupling = trace(Twice(), (3, 8, 8))
    first, again = coupling.layers
    assert np.array_equal(first.out_classes, again.out_classes)
    assert coupling.macs(np.ones(coupling.size, dtype=bool)) == count(Twice(), (1, 3, 8, 8)).macs


class _Odd(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.what == "softmax":
            return x.softmax(1)
        if self.what == "shuffle":
            return x.view(x.shape[0], 2, 4, *x.shape[2:])
        if self.what == "group norm":
            return self.norm(x)
        if self.what == "scale":
            return x * self.scale
        if self.what == "constant":
            return torch.zeros(1, 8)
        return x.mean(1, keepdim=True)


@pytest.mark.parametrize("what", ["softmax", "shuffle", "group norm", "scale", "constant", "mean"])
def test_what_is_not_known_is_refused_in_one_line(what: str) -> None:
    with pytest.raises(UserError, match=r"the search (does not know|cannot follow)") as caught:
        trace(_Odd(what), (3, 16, 16))
    assert "\n" not in str(caught.value)


def test_tracing_leaves_the_network_as_it_is() -> None:
    network = ResNet((1, 1, 1), block="basic", base_width=4, stem="cifar", num_classes=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trace(network, (3, 8, 8))
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
