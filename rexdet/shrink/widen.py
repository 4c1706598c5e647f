"""The network that a search starts from: a named one, with more channels in every layer."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from rexdet.errors import UserError
from rexdet.nets.complexity import count
from rexdet.nets.widths import LARGEST_WIDTH
from rexdet.shrink.coupling import Coupling, trace
from rexdet.shrink.emit import genome_keys
from rexdet.zoo.genome import Genome
from rexdet.zoo.names import parse
from rexdet.zoo.open import create_model
from rexdet.zoo.registry import skeleton


def default_input_size(network: str) -> int:
    """The side of the images that a named network is made for."""
    return 32 if network.endswith("_cifar") else 224


def widen(network: str, width: float, num_classes: int | None = None, *, input_size: int | None = None) -> nn.Module:
    """A named network with int(width * channels) in every layer, and random weights.

    Of a convolution in groups, and of what it reads, the width inside a group grows; the number of groups stays.
    """
    if not 0.0 < width < math.inf:
        raise UserError(f"width is {width}", fix="give a positive number; the paper widens by 2")
    base = baseline(network, num_classes)
    coupling = trace_named(network, base, default_input_size(network) if input_size is None else input_size)
    keys = genome_keys(base, coupling)
    channels = {}
    for layer in coupling.layers:
        if layer.path in keys:
            _, counts = np.unique(layer.out_classes, return_counts=True)
            repeats = int(np.gcd.reduce(counts))
            channels[keys[layer.path]] = repeats * max(int(len(layer.out_classes) // repeats * width), 1)
    if (widest := max(channels.values())) > LARGEST_WIDTH:
        raise UserError(f"width {width} makes a layer of {widest:,} channels", network, f"stay below {LARGEST_WIDTH:,}")
    return Genome(network=network, channels=channels).build(num_classes)


def costs(network: str, width: float = 2.0, num_classes: int | None = None) -> tuple[int, int]:
    """Multiply-accumulates of one image: of the network as it is, and of the widened one."""
    size = default_input_size(network)
    shape = (1, 3, size, size)
    return count(baseline(network, num_classes), shape).macs, count(widen(network, width, num_classes), shape).macs


def baseline(network: str, num_classes: int | None) -> nn.Module:
    """The network as it is; only what it costs and how its channels hang together is asked of it."""
    parse(network)
    Genome(network=network, channels={"stem": 1})  # Refuses a tag, a rule and other packages.
    # Numbers are left out where that works: torchvision computes RegNet's widths with tensors.
    return create_model(network, num_classes) if parse(network).package else skeleton(network, num_classes=num_classes)


def trace_named(network: str, module: nn.Module, size: int) -> Coupling:
    """`coupling.trace` of a named network, for an image of (3, size, size); complaints carry its name.

    Raises UserError for a layer that the network does not execute: an auxiliary classifier, which training alone runs.
    """
    try:
        coupling = trace(module, (3, size, size))
    except UserError as error:
        raise UserError(error.what, where=network, fix=error.fix) from None
    executed = {layer.path for layer in coupling.layers}
    layers = [path for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if idle := [path for path in layers if path not in executed]:
        raise UserError(f"{idle[0]} is executed in training alone, if at all; the search cannot follow it", network)
    return coupling
