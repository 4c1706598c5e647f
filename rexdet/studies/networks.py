"""The networks of the studies: named ones of the zoo, and a plain chain of convolutions that it has no name for."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets.layers import ConvolutionUnit, initialise
from rexdet.nets.nm_relu import apply_nm_rule
from rexdet.zoo.names import take_rule
from rexdet.zoo.open import create_model
from rexdet.zoo.rule import with_rule

_PLAIN = re.compile(r"plain(?P<depth>\d+)_cifar")
PLAIN_CHANNELS = (16, 32, 64)


class PlainNetwork(nn.Module):
    """Convolutions one after the other, no shortcuts: (B, 3, H, W) -> (B, num_classes) logits.

    Three stages of `depth / 3` units (3x3 convolution, batch norm, ReLU) with 16, 32 and 64 channels; the first unit of
    the second and of the third stage has stride 2; then the mean over the map, and a linear classifier. The widths and
    strides are those of the CIFAR ResNets without their shortcuts. In such a chain every N:M ratio is another network,
    while in a residual branch of two convolutions they all take the same activation.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        if depth < 3 or depth % 3:
            raise ValueError(f"depth {depth} is no multiple of three stages")
        units: list[nn.Module] = []
        before = 3
        for stage, channels in enumerate(PLAIN_CHANNELS):
            for index in range(depth // 3):
                stride = 2 if stage > 0 and index == 0 else 1
                units.append(ConvolutionUnit(before, channels, 3, stride=stride, norm="BN", activation="relu"))
                before = channels
        self.units = nn.Sequential(*units)
        self.head = nn.Linear(before, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(x).mean((2, 3)))


def make_network(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A network of a study by name, with random weights: the zoo's names and `plainD_cifar`, an N:M rule before either.

    options: of `create_model`; a plain chain has none and leaves them.
    Raises UserError for a name that is none of these.
    """
    rule, base = take_rule(name)
    plain = _PLAIN.fullmatch(base)
    if plain is None:
        return create_model(name, num_classes, **options)
    try:
        network = PlainNetwork(int(plain["depth"]), num_classes)
    except ValueError as error:
        raise UserError(str(error), name) from error
    return with_rule(network, rule, name)


def removed_activations(network: str, ratio: str, size: int) -> tuple[str, ...]:
    """The paths of the activations that an N:M ratio takes out of a network of `make_network`, in order.

    size: side of the image that the network is run on. Raises UserError for a ratio that is none.
    """
    try:
        report = apply_nm_rule(make_network(network, 10), ratio, example=torch.zeros(1, 3, size, size))
    except ValueError as error:
        raise UserError(str(error), network) from error
    return tuple(site.activation for site in report.removed)
