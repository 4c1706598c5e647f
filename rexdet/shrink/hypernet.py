"""The hypernetwork: it computes every convolution kernel of a network from latent vectors, one number a channel.

Li et al., "DHP", arXiv 2003.13683, Sec. 3, and "The Heterogeneity Hypothesis", arXiv 2006.16242, as released. For a
kernel with input channels i and output channels j:

    Z = z_in z_out^T + B0        E_ij = Z_ij W1_ij + B1_ij  (m numbers)        kernel_ji = W2_ij E_ij + B2_ij  (k x k)

The B begin at 0, W1 ~ U(-sqrt 3, sqrt 3), W2 ~ U(-b, b) with b = sqrt(3 / (m C_in k k)), z ~ N(0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rexdet.shrink.coupling import Coupling, Layer


class KernelGenerator:
    """The hypernetwork of one convolution, and its own latent vector where the convolution has groups.

    In groups the output's vector is the previous layer's, and a vector of the layer's own, as long as the inputs of one
    group, stands for the input.
    """

    def __init__(self, layer: Layer, shape: torch.Size, embedding_dim: int, dtype: torch.dtype) -> None:
        outputs, inputs = shape[:2]
        area = math.prod(shape[2:])
        bound = math.sqrt(3.0 / (embedding_dim * inputs * area))
        self.shape = shape
        self.out_classes = torch.from_numpy(layer.out_classes)
        self.in_classes = None if layer.groups > 1 else torch.from_numpy(layer.in_classes)
        pair = (inputs, outputs)
        self.own = torch.randn(inputs, dtype=dtype) if layer.groups > 1 else None
        self.offset = torch.zeros(pair, dtype=dtype)
        self.embed_scale = torch.empty((*pair, embedding_dim), dtype=dtype).uniform_(-math.sqrt(3.0), math.sqrt(3.0))
        self.embed_offset = torch.zeros((*pair, embedding_dim), dtype=dtype)
        self.explain_scale = torch.empty((*pair, area, embedding_dim), dtype=dtype).uniform_(-bound, bound)
        self.explain_offset = torch.zeros((*pair, area), dtype=dtype)

    def parameters(self) -> list[Tensor]:
        own = [] if self.own is None else [self.own]
        return [
            self.offset,
            self.embed_scale,
            self.embed_offset,
            self.explain_scale,
            self.explain_offset,
            *own,
        ]

    def kernel(self, latent: Tensor) -> Tensor:
        """latent: (classes,), a number a class -> kernel (C_out, C_in / groups, k, k)."""
        inputs = self.own if self.in_classes is None else latent[self.in_classes]
        assert inputs is not None
        z = torch.outer(inputs, latent[self.out_classes]) + self.offset
        embedded = z.unsqueeze(-1) * self.embed_scale + self.embed_offset
        explained = (self.explain_scale @ embedded.unsqueeze(-1)).squeeze(-1) + self.explain_offset
        return explained.permute(1, 0, 2).reshape(self.shape)


class Hypernetwork:
    """Latent numbers of all classes and a generator a convolution, for a network whose kernels it fills and trains.

    Memory: the x2 ResNet-50 has 0.55 thousand million hypernetwork parameters at embedding_dim 2. Kernels are computed
    once a mini-batch, without a graph; the backward pass goes through one generator at a time, which takes its step at
    once and gives its memory back. The result is that of an ordinary backward pass and SGD step without momentum.
    """

    def __init__(self, network: nn.Module, coupling: Coupling, *, embedding_dim: int = 2) -> None:
        self.network = network
        weights = {
            layer.path: _weight(network.get_submodule(layer.path)) for layer in coupling.layers if layer.is_convolution
        }
        dtype = next(iter(weights.values())).dtype
        self.latent = torch.randn(coupling.size, dtype=dtype)
        self.generators = {
            layer.path: KernelGenerator(layer, weights[layer.path].shape, embedding_dim, dtype)
            for layer in coupling.layers
            if layer.is_convolution
        }
        self._weights = weights

    def fill(self) -> None:
        """Write the kernels that the hypernetwork computes now into the network."""
        with torch.no_grad():
            for path, generator in self.generators.items():
                self._weights[path].copy_(generator.kernel(self.latent))

    def step(self, *, learning_rate: float, weight_decay: float) -> Tensor:
        """Take one SGD step from the gradients that a backward pass has left on the network's parameters.

        The network's other parameters (norms, biases, classifier) take theirs as well. Gradients are used up.
        Returns the loss's gradient with respect to the latent numbers, (classes,), without weight decay.
        """
        gradient = torch.zeros_like(self.latent)
        for path, generator in self.generators.items():
            weight = self._weights[path]
            if weight.grad is None:
                continue
            parameters = generator.parameters()
            latent = self.latent.detach().requires_grad_()
            for parameter in parameters:
                parameter.requires_grad_()
            found = torch.autograd.grad(generator.kernel(latent), [latent, *parameters], weight.grad, allow_unused=True)
            weight.grad = None
            gradient += found[0]
            for parameter, its in zip(parameters, found[1:], strict=True):
                parameter.requires_grad_(False)
                _descend(parameter, its, learning_rate, weight_decay)
        kernels = {id(weight) for weight in self._weights.values()}
        for parameter in self.network.parameters():
            if id(parameter) not in kernels and parameter.grad is not None:
                _descend(parameter, parameter.grad, learning_rate, weight_decay)
                parameter.grad = None
        _descend(self.latent, gradient, learning_rate, weight_decay)
        return gradient


def _weight(module: nn.Module) -> nn.Parameter:
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _descend(parameter: Tensor, gradient: Tensor, learning_rate: float, weight_decay: float) -> None:
    with torch.no_grad():
        parameter.add_(gradient + weight_decay * parameter, alpha=-learning_rate)
