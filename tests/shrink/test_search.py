"""The search as a whole, on small networks: what it promises of its result, and what it depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets import count
from rexdet.shrink.coupling import Coupling, trace
from rexdet.shrink.criteria import scores
from rexdet.shrink.emit import genome_keys, mask, shrunk_state
from rexdet.shrink.search import SearchResult, search
from rexdet.shrink.threshold import Keep, floor_width, shrink
from rexdet.shrink.widen import costs, widen
from rexdet.zoo.genome import Genome

# Network, width, ratio: every family, each small enough for a test.
CASES = [
    ("resnet20b_cifar", 2.0, 0.3),
    ("resnet20_cifar", 2.0, 0.3),
    ("resnext29_4x4d_cifar", 2.0, 0.3),
    ("rexnet_0.3", 2.0, 0.3),
    ("rexnet_lite_0.3", 1.5, 0.4),
    ("torchvision:mobilenet_v2", 1.0, 0.4),
    ("torchvision:efficientnet_b0", 1.0, 0.4),
    ("torchvision:regnet_x_400mf", 1.5, 0.4),
    ("torchvision:squeezenet1_1", 1.0, 0.5),  # Its classifier is a convolution, and it joins channels side by side.
]
SIZE = 64


def batches(size: int = 32, classes: int = 10, seed: int = 0, images: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(images, 3, size, size, generator=generator),
            torch.randint(classes, (images,), generator=generator),
        )
        for _ in range(2)
    ]


def quick(**options: object) -> SearchResult:
    return search(**{"network": "resnet20b_cifar", "ratio": 0.25, "data": batches(), **options})  # type: ignore[arg-type]


def season(network: nn.Module, size: int) -> None:
    """Norms as a trained network has them, so that maps keep their size from the first layer to the last."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, size, size))
    network.eval()


def silenced(network: nn.Module, coupling: Coupling, keep: Keep) -> nn.Module:
    """The network with its outputs silenced layer by layer: another way to mask than the product's."""
    gone = {layer.path: ~keep[layer.out_classes] for layer in coupling.layers}
    gone.update({path: ~keep[classes] for path, classes in coupling.norms.items()})

    def silence(path: str):
        shape = (1, -1) if isinstance(network.get_submodule(path), nn.Linear | nn.BatchNorm1d) else (1, -1, 1, 1)
        factor = torch.from_numpy(~gone[path]).view(shape)
        return lambda module, inputs, output: output * factor

    for path in gone:
        network.get_submodule(path).register_forward_hook(silence(path))
    return network


@pytest.mark.parametrize(("name", "width", "ratio"), CASES)
def test_rebuilt_equals_masked_and_costs_what_the_masks_say(name: str, width: float, ratio: float) -> None:
    torch.manual_seed(0)
    size = 32 if "cifar" in name else SIZE
    wide = widen(name, width, input_size=size)
    season(wide, size)
    coupling = trace(wide, (3, size, size))
    values = np.random.default_rng(0).random(coupling.size)
    full = coupling.macs(np.ones(coupling.size, dtype=bool))
    found = shrink(coupling, values, int(ratio * full))
    keys, widths = genome_keys(wide, coupling), coupling.widths(found.keep)
    genome = Genome(network=name, channels={key: widths[path] for path, key in keys.items()})
    rebuilt = genome.build().eval()
    rebuilt.load_state_dict(shrunk_state(wide, coupling, found.keep))

    assert count(wide, (1, 3, size, size)).macs == full
    assert rebuilt(torch.zeros(1, 3, size, size)).shape == (1, 10 if "cifar" in name else 1000)
    assert count(rebuilt, (1, 3, size, size)).macs == found.macs <= ratio * full
    for layer in coupling.layers:
        if layer.is_convolution and layer.groups == 1:
            assert widths[layer.path] >= floor_width(len(layer.out_classes), 0.4) or "unit1" in layer.path
        if layer.groups > 1 and not layer.is_depthwise:
            assert widths[layer.path] % layer.groups == 0
            assert rebuilt.get_submodule(layer.path).groups == layer.groups

    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        narrow = rebuilt(images)
        masked = silenced(wide, coupling, found.keep)(images)
        apart = (narrow - narrow.mean(0)).abs().max()
        assert (narrow - masked).abs().max() <= 1e-4 * apart
        exact = rebuilt.double()(images.double())
        assert (exact - wide.double()(images.double())).abs().max() <= 1e-5 * apart
    mask(wide, coupling, found.keep)
    with torch.no_grad():
        assert (exact - wide(images.double())).abs().max() <= 1e-5 * apart


@pytest.mark.parametrize("name", ["resnet20b_cifar", "rexnet_0.3", "torchvision:mobilenet_v2"])
def test_a_search_from_end_to_end(name: str) -> None:
    size = 32 if "cifar" in name else SIZE
    result = search(name, ratio=0.3, width=2.0 if "cifar" in name else 1.0, data=batches(size), input_size=size)
    assert result.difference["float64"] < 1e-5
    assert result.difference["float32"] < 1e-4
    assert count(result.model, (1, 3, size, size)).macs == result.macs
    assert 0.29 < result.macs / result.widened_macs <= 0.3
    assert result.model.training
    assert len(result.losses) == 2
    assert set(result.keep_ratios) == set(result.genome.channels)
    assert len(set(result.keep_ratios.values())) > 3
    again = result.genome.build()
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in result.model.state_dict().items()
    }
    assert result.genome.provenance["macs"] == result.macs
    assert result.genome.provenance["criterion"] == "gradient"


def test_costs_are_those_of_the_network_and_of_its_widened_form() -> None:
    result = quick()
    assert costs("resnet20b_cifar") == (result.baseline_macs, result.widened_macs)
    assert result.baseline_macs == 40_813_184


def test_gradient_looks_at_the_labels() -> None:
    (first, labels), (second, others) = batches()
    changed = [(first, labels), (second, (others + 1) % 10)]
    assert quick().genome.channels != quick(data=changed).genome.channels


def test_random_ignores_the_data_and_magnitude_nearly_so() -> None:
    other = batches(seed=1)
    assert quick(criterion="random").genome.channels == quick(criterion="random", data=other).genome.channels
    assert quick(criterion="random").genome.channels != quick(criterion="random", seed=1).genome.channels
    one, two = quick(criterion="magnitude"), quick(criterion="magnitude", data=other)
    assert max(abs(one.keep_ratios[key] - two.keep_ratios[key]) for key in one.keep_ratios) < 0.05


def test_a_loss_sixteen_times_as_large_leaves_the_genome_as_it_was() -> None:
    plain = quick()
    scaled = quick(loss_scale=16.0, learning_rate=0.1 / 16, weight_decay=1e-4 * 16)
    assert scaled.genome.channels == plain.genome.channels
    assert scaled.threshold == 16 * plain.threshold
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, scaled.model.state_dict()[key])


def test_equal_seeds_give_equal_results_and_leave_the_callers_random_state_alone() -> None:
    torch.manual_seed(7)
    first = quick()
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    second = quick()
    assert first.genome == second.genome
    assert all(torch.equal(value, second.model.state_dict()[key]) for key, value in first.model.state_dict().items())
    assert quick(seed=1).genome.channels != first.genome.channels


def test_without_data_it_draws_64_random_images_a_mini_batch() -> None:
    result = search("resnet20b_cifar", ratio=0.25, data=None)
    assert result.genome.provenance["data"] == "random"
    assert 0.24 < result.macs / result.widened_macs <= 0.25


def test_criteria_score_as_they_say() -> None:
    latent, gradient = torch.tensor([0.5, -2.0, 1.0]), torch.tensor([-3.0, 0.1, 0.0])
    assert torch.equal(scores("gradient", latent, gradient, 0), gradient.abs())
    assert torch.equal(scores("magnitude", latent, gradient, 0), latent.abs())
    assert torch.equal(scores("random", latent, gradient, 3), scores("random", latent + 1, None, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "resnet50@tv_in1k"}, "without a tag"),
        ({"network": "timm:resnet18"}, "one of our networks or torchvision's"),
        ({"network": "nm2:1/resnet18"}, "without a tag, a rule or a genome"),
        ({"network": "lwdna:some"}, "genome"),
        ({"network": "resnet21_cifar"}, "resnet21_cifar"),
        ({"ratio": 0.0}, "ratio is 0.0"),
        ({"ratio": 1.5}, "ratio is 1.5"),
        ({"ratio": 0.05}, "resnet20b_cifar: the floors alone cost"),
        ({"width": 0.0}, "width is 0.0"),
        ({"criterion": "gradients"}, "give gradient, magnitude, random"),
        ({"remain": 1.1}, "remain is 1.1"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"data": batches()[:1]}, "data has 1 mini-batches"),
        ({"data": batches(classes=20)}, "10 classes"),
        ({"data": [(torch.randn(4, 1, 32, 32), torch.zeros(4, dtype=torch.long))] * 2}, r"images \(4, 1, 32, 32\)"),
        ({"learning_rate": 1e30}, "not finite"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"loss_scale": 0.0}, "loss_scale is 0.0"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        # One class: the loss is 0 whatever the network does.
        ({"num_classes": 1, "data": batches(classes=1)}, "the gradient is 0 in every channel"),
        # Its auxiliary classifier runs in training alone.
        ({"network": "torchvision:googlenet", "data": batches(64)}, r"googlenet: aux1\..* in training alone"),
    ],
)
def test_mistakes_are_told_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quick(**options)
    assert "\n" not in str(caught.value)
