"""Networks with the statistics of trained ones: no norm is an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rexdet.nets import Backbone, ReXNet

MakeNetwork = Callable[..., ReXNet]
TAPS = ("res5", "res2", "expand5")


@pytest.fixture
def make_network() -> MakeNetwork:
    """make_network(**arguments): a ReXNet of width 0.6 and nine blocks, or as told; varied norms, evaluation mode."""

    def make(**arguments: Any) -> ReXNet:
        torch.manual_seed(0)
        network = ReXNet(**{"width": 0.6, "depth": 0.4, "num_classes": 10, **arguments})
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                with torch.no_grad():
                    part.running_mean.normal_(0.0, 0.1)
                    part.running_var.uniform_(0.5, 1.5)
                    part.weight.uniform_(0.5, 1.5)
                    part.bias.normal_(0.0, 0.1)
        return network.eval()

    return make


@pytest.fixture
def models(make_network: MakeNetwork) -> dict[str, nn.Module]:
    """A classifier and a backbone of the same weights."""
    return {"classifier": make_network(), "backbone": Backbone(make_network(), TAPS).eval()}
