"""Other widths for a network of another package, whose constructor takes none: its layers are made anew in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rexdet.errors import UserError
from rexdet.nets.layers import initialise
from rexdet.zoo.names import near
from rexdet.zoo.optional import PROBE_SIDE

Sizes = dict[str, tuple[int, int]]


def resize(network: nn.Module, channels: Mapping[str, int], *, where: str = "") -> nn.Module:
    """Give the convolutions of `network` the output channels of `channels`, in place; returns it with random weights.

    channels: path of a convolution -> output channels; one that is left out keeps its own. What a layer reads follows
    from what it is given when the network runs, and so does the width of norms and depthwise convolutions; a
    convolution in groups keeps their number. All weights are initialised as in `nets.layers.initialise`.

    Raises UserError (with `where`, the network's name) for a path that is no such convolution, and for widths that do
    not fit together.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    _check_paths(shadow, channels, where)
    sizes: Sizes = {}
    handles = [
        module.register_forward_pre_hook(_fitter(path, channels, sizes))
        for path, module in shadow.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | _BatchNorm)
    ]
    try:
        with torch.no_grad():
            shadow(torch.empty((1, 3, PROBE_SIDE, PROBE_SIDE), device="meta"))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"these widths do not fit together: {str(error).splitlines()[0]}", where=where) from error
    finally:
        for handle in handles:
            handle.remove()
    for path, (inputs, outputs) in sizes.items():
        _fit(network.get_submodule(path), inputs, outputs)
    initialise(network)
    return network


def _check_paths(network: nn.Module, channels: Mapping[str, int], where: str) -> None:
    free = [
        path for path, module in network.named_modules() if isinstance(module, nn.Conv2d) and not is_depthwise(module)
    ]
    for path, width in channels.items():
        if path not in free:
            close = near(path, free, count=1) or free[:3]
            raise UserError(
                f"channels: the network has no free convolution {path!r}",
                where=where,
                fix=f"did you mean {', '.join(close)}?",
            )
        if width < 1:
            raise UserError(f"channels: {path} is {width}; a width is a positive whole number", where=where)


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """One filter a channel: such a convolution writes as many channels as it reads."""
    return convolution.groups > 1 and convolution.groups == convolution.in_channels == convolution.out_channels


def _fitter(path: str, channels: Mapping[str, int], sizes: Sizes) -> Any:
    def fit(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        width = inputs[0].shape[1]
        if isinstance(module, nn.Conv2d):
            outputs = width if is_depthwise(module) else channels.get(path, module.out_channels)
        elif isinstance(module, nn.Linear):
            outputs = module.out_features
        else:
            outputs = width
        if path in sizes and sizes[path] != (width, outputs):
            raise ValueError(f"{path} is used for {sizes[path][0]} and for {width} channels")
        sizes[path] = (width, outputs)
        _fit(module, width, outputs)

    return fit


def _fit(module: nn.Module, inputs: int, outputs: int) -> None:
    """Give one layer other numbers of channels; nothing happens where it has them already."""
    if isinstance(module, nn.Conv2d):
        if (module.in_channels, module.out_channels) == (inputs, outputs):
            return
        if is_depthwise(module):
            module.groups = outputs
        if inputs % module.groups or outputs % module.groups:
            raise ValueError(f"{inputs} and {outputs} channels cannot be divided into {module.groups} groups")
        module.in_channels, module.out_channels = inputs, outputs
        module.weight = _empty(module.weight, (outputs, inputs // module.groups, *module.weight.shape[2:]))
        if module.bias is not None:
            module.bias = _empty(module.bias, (outputs,))
    elif isinstance(module, nn.Linear):
        if module.in_features != inputs:
            module.in_features = inputs
            module.weight = _empty(module.weight, (outputs, inputs))
    elif isinstance(module, _BatchNorm) and module.num_features != inputs:
        module.num_features = inputs
        for name in ("weight", "bias"):
            if getattr(module, name) is not None:
                setattr(module, name, _empty(getattr(module, name), (inputs,)))
        if module.running_mean is not None and module.running_var is not None:
            module.running_mean = module.running_mean.new_zeros(inputs)
            module.running_var = module.running_var.new_ones(inputs)
        module.reset_parameters()


def _empty(like: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    # Zeros, not memory as it was: a layer that `initialise` does not know must not start from garbage.
    return nn.Parameter(torch.zeros(shape, dtype=like.dtype, device=like.device), requires_grad=like.requires_grad)
