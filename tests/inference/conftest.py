"""Networks with the statistics of trained ones: no norm is an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rexdet.nets import Backbone, ReXNet
from rexdet.nets.layers import FrozenBatchNorm2d

MakeNetwork = Callable[..., ReXNet]
TAPS = ("res5", "res2", "expand5")


def with_varied_norms(network: Any) -> Any:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d | FrozenBatchNorm2d):
            with torch.no_grad():
                part.running_mean.normal_(0.0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0.0, 0.1)
    return network.eval()


@pytest.fixture
def make_network() -> MakeNetwork:
    """make_network(**arguments): a ReXNet of width 0.6 and six blocks, or as told; varied norms, evaluation mode."""

    def make(**arguments: Any) -> ReXNet:
        torch.manual_seed(0)
        return with_varied_norms(ReXNet(**{"width": 0.6, "depth": 0.2, "num_classes": 10, **arguments}))

    return make


@pytest.fixture
def vary() -> Callable[[nn.Module], nn.Module]:
    """vary(network): its norms with statistics unlike those of a fresh one, evaluation mode."""
    torch.manual_seed(0)
    return with_varied_norms


@pytest.fixture
def models(make_network: MakeNetwork) -> dict[str, nn.Module]:
    """A classifier and a backbone of the same weights."""
    return {"classifier": make_network(), "backbone": Backbone(make_network(), TAPS).eval()}
