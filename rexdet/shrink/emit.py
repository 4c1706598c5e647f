"""From a widened network and the classes that stay to a small network with plain weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from rexdet.shrink.coupling import Coupling, Layer
from rexdet.shrink.threshold import Keep
from rexdet.zoo.resize import is_depthwise


def genome_keys(network: nn.Module, coupling: Coupling) -> dict[str, str]:
    """Path of a layer -> its key in a genome, for the layers whose width a genome gives.

    Our networks say which these are (`.channels`); of others it is every convolution but the depthwise ones and a
    classifier.
    """
    own: Mapping[str, int] | None = getattr(network, "channels", None)
    keys = {}
    for layer in coupling.layers:
        if not layer.is_convolution or coupling.fixed[layer.out_classes].any():
            continue
        if own is None:
            module = network.get_submodule(layer.path)
            if isinstance(module, nn.Conv2d) and not is_depthwise(module):
                keys[layer.path] = layer.path
        else:
            key = layer.path.removesuffix(".conv")
            if key in own:
                keys[layer.path] = key
    missing = set(own or ()) - set(keys.values())
    if missing:
        raise AssertionError(f"no layer runs under {sorted(missing)[0]}, which the network names as free")
    return keys


def shrunk_state(network: nn.Module, coupling: Coupling, keep: Keep) -> dict[str, Tensor]:
    """The state of `network` with the kept channels alone: kernels by both masks, norms by theirs, the classifier's
    columns by the last stream's. Tensors are copies."""
    layers = {layer.path: layer for layer in coupling.layers}
    state = {}
    for key, tensor in network.state_dict().items():
        path, _, name = key.rpartition(".")
        if path in layers:
            tensor = _shrunk_layer(tensor, name, layers[path], keep)
        elif path in coupling.norms and tensor.dim() == 1:
            tensor = tensor[_indices(keep[coupling.norms[path]])]
        state[key] = tensor.detach().clone()
    return state


def mask(network: nn.Module, coupling: Coupling, keep: Keep) -> None:
    """Silence the channels that do not stay, in place and at full width: the same function as the shrunk network.

    Their filters, biases and norms become 0, and so does what later layers read from them.
    """
    with torch.no_grad():
        for layer in coupling.layers:
            module = network.get_submodule(layer.path)
            weight, bias = module.weight, module.bias
            assert isinstance(weight, Tensor)
            weight[_indices(~keep[layer.out_classes])] = 0
            if isinstance(bias, Tensor):
                bias[_indices(~keep[layer.out_classes])] = 0
            if not layer.is_depthwise:
                weight[:, _indices(~_inputs(layer, keep))] = 0
        for path, classes in coupling.norms.items():
            norm = network.get_submodule(path)
            for value in (norm.weight, norm.bias):
                assert isinstance(value, Tensor)
                value[_indices(~keep[classes])] = 0


def largest_difference(one: nn.Module, other: nn.Module, images: Tensor) -> tuple[float, float]:
    """The largest difference of two networks' outputs in evaluation mode, for images (B, 3, H, W), B at least 2.

    Returned relative to the largest output, and relative to how far apart the outputs of different images are: a
    classifier's bias cannot hide anything in the second, which in turn is all rounding where a network tells nothing
    apart.
    """
    with torch.no_grad():
        first, second = one.eval()(images), other.eval()(images)
    largest = (first - second).abs().max()
    if largest == 0:
        return 0.0, 0.0
    return float(largest / first.abs().max()), float(largest / (first - first.mean(0)).abs().max())


def _shrunk_layer(tensor: Tensor, name: str, layer: Layer, keep: Keep) -> Tensor:
    tensor = tensor[_indices(keep[layer.out_classes])]
    if name == "weight" and not layer.is_depthwise:
        tensor = tensor[:, _indices(_inputs(layer, keep))]
    return tensor


def _inputs(layer: Layer, keep: Keep) -> Keep:
    """Which of the inputs of one group stay; they are the same ones in every group."""
    return keep[layer.in_classes[: len(layer.in_classes) // layer.groups]]


def _indices(keep: Keep) -> Tensor:
    return torch.from_numpy(np.flatnonzero(keep))
