"""The hypernetwork against the formula written down again, and against an ordinary training step."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from rexdet.nets.resnet import ResNet
from rexdet.shrink.coupling import Coupling, trace
from rexdet.shrink.hypernet import Hypernetwork, KernelGenerator
from rexdet.shrink.search import Settings, _accumulate

LEARNING_RATE, WEIGHT_DECAY = 0.05, 0.01


def small(cardinality: int = 1) -> nn.Module:
    """Three blocks of two convolutions, or of three with 2 groups whose inside is 4, 8 and 16 wide."""
    form = {"block": "basic", "base_width": 4} if cardinality == 1 else {"width": 0.1, "base_width": 40}
    return ResNet((1, 1, 1), cardinality=cardinality, stem="cifar", num_classes=5, **form).double()


def make(cardinality: int = 1) -> tuple[nn.Module, Coupling, Hypernetwork]:
    torch.manual_seed(0)
    network = small(cardinality).train()
    coupling = trace(network, (3, 8, 8))
    return network, coupling, Hypernetwork(network, coupling, embedding_dim=3)


def by_the_formula(generator: KernelGenerator, latent: Tensor) -> Tensor:
    """Z = z_in z_out^T + B0; E = Z W1 + B1; w = W2 E + B2, an entry at a time."""
    outputs, inputs, *size = generator.shape
    z_in = generator.own if generator.in_classes is None else latent[generator.in_classes]
    z_out = latent[generator.out_classes]
    assert z_in is not None
    rows = []
    for j in range(outputs):
        for i in range(inputs):
            z = z_in[i] * z_out[j] + generator.offset[i, j]
            embedded = z * generator.embed_scale[i, j] + generator.embed_offset[i, j]
            rows.append(generator.explain_scale[i, j] @ embedded + generator.explain_offset[i, j])
    return torch.stack(rows).view(outputs, inputs, *size)


@pytest.mark.parametrize("cardinality", [1, 2])
def test_kernels_are_those_of_the_formula(cardinality: int) -> None:
    network, _, hypernetwork = make(cardinality)
    hypernetwork.fill()
    for path, generator in hypernetwork.generators.items():
        for parameter in generator.parameters():
            parameter.normal_()  # Also the offsets, which begin at 0.
        expected = by_the_formula(generator, hypernetwork.latent)
        torch.testing.assert_close(generator.kernel(hypernetwork.latent), expected)
        assert network.get_submodule(path).weight.shape == expected.shape


def test_initial_values_are_the_papers() -> None:
    _, coupling, hypernetwork = make()
    assert hypernetwork.latent.shape == (coupling.size,)
    assert 0.8 < float(hypernetwork.latent.std()) < 1.2
    for generator in hypernetwork.generators.values():
        _, inputs, *size = generator.shape
        bound = math.sqrt(3 / (3 * inputs * math.prod(size)))
        assert float(generator.embed_scale.abs().max()) <= math.sqrt(3)
        assert 0.8 * bound < float(generator.explain_scale.abs().max()) <= bound
        for offset in (generator.offset, generator.embed_offset, generator.explain_offset):
            assert not offset.any()


def test_a_grouped_convolution_takes_its_input_from_a_vector_of_its_own() -> None:
    _, _, hypernetwork = make(cardinality=2)
    own = {path: generator.own for path, generator in hypernetwork.generators.items() if generator.own is not None}
    assert list(own) == [f"stages.{stage}.0.unit2.conv" for stage in range(3)]
    assert [vector.shape for vector in own.values()] == [(4,), (8,), (16,)]


@pytest.mark.parametrize("cardinality", [1, 2])
def test_a_step_is_that_of_one_graph_and_plain_sgd(cardinality: int) -> None:
    network, _, hypernetwork = make(cardinality)
    images, labels = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.randint(5, (6,))

    # The reference: everything in one graph, torch's own optimiser.
    latent = hypernetwork.latent.clone().requires_grad_()
    copies = {
        path: [parameter.clone().requires_grad_() for parameter in generator.parameters()]
        for path, generator in hypernetwork.generators.items()
    }
    rest = {
        key: value.detach().clone().requires_grad_()
        for key, value in network.named_parameters()
        if key.removesuffix(".weight") not in copies
    }

    def kernel(path: str) -> Tensor:
        generator = hypernetwork.generators[path]
        offset, scale, embed_offset, explain, explain_offset, *own = copies[path]
        z_in = own[0] if own else latent[generator.in_classes]
        z = torch.einsum("i,j->ij", z_in, latent[generator.out_classes]) + offset
        embedded = torch.einsum("ij,ijm->ijm", z, scale) + embed_offset
        flat = torch.einsum("ijkm,ijm->ijk", explain, embedded) + explain_offset
        return flat.permute(1, 0, 2).reshape(generator.shape)

    optimizer = torch.optim.SGD(
        [latent, *(one for group in copies.values() for one in group), *rest.values()],
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
    )
    kernels = {f"{path}.weight": kernel(path) for path in copies}
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    F.cross_entropy(functional_call(network, {**kernels, **rest, **buffers}, (images,)), labels).backward()
    expected = latent.grad.clone()
    optimizer.step()

    hypernetwork.fill()
    F.cross_entropy(network(images), labels).backward()
    gradient = hypernetwork.step(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(hypernetwork.latent, latent.detach())
    for path, generator in hypernetwork.generators.items():
        for ours, theirs in zip(generator.parameters(), copies[path], strict=True):
            torch.testing.assert_close(ours, theirs.detach())
    for key, value in rest.items():
        torch.testing.assert_close(network.get_parameter(key), value)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_micro_batches_add_up_to_the_mini_batch_where_no_norm_looks_across_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 5)).double()
    batch = torch.randn(10, 3, 8, 8, dtype=torch.float64), torch.randint(5, (10,))
    losses, gradients = [], []
    for size in (10, 4, 1):
        network.zero_grad()
        losses.append(_accumulate(network, batch, Settings(micro_batch=size), progress=False, number=1))
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    expected = float(F.cross_entropy(network(batch[0]), batch[1]).detach())
    assert losses == pytest.approx([expected] * 3)
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two)
