"""Costs against torch's own counter and the published counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rexdet.nets import Backbone, ReXNet, count

# arXiv 2007.00992, counted from the authors' code at 224 x 224, in billions.
MACS = {0.9: 0.348, 1.0: 0.398, 1.3: 0.662, 1.5: 0.876, 2.0: 1.529, 2.2: 1.843, 3.0: 3.396}


@pytest.mark.parametrize("width", MACS)
def test_macs_are_the_published_ones(width: float) -> None:
    with torch.device("meta"):
        network = ReXNet(width)
    assert round(count(network).macs / 1e9, 3) == MACS[width]


@pytest.mark.parametrize("arguments", [{}, {"width": 1.3}, {"lite": True}, {"output_stride": 16}, {"norm": "GN"}])
def test_macs_equal_torchs_counter(arguments: dict[str, object]) -> None:
    network = ReXNet(**arguments).eval()  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(2, 3, 64, 96))
    assert count(network, (2, 3, 64, 96)).macs * 2 == counter.get_total_flops()


def test_every_network_costs_something_else() -> None:
    networks = [(width, lite) for width, lite in itertools.product((0.9, 1.0, 1.3, 1.5, 2.0, 2.2, 3.0), (False, True))]
    with torch.device("meta"):
        costs = [count(ReXNet(width, lite=lite), (1, 3, 32, 32)) for width, lite in networks]
    assert len({cost.parameters for cost in costs}) == len(networks)
    assert len({cost.macs for cost in costs}) == len(networks)


def test_counts_of_layers_done_by_hand() -> None:
    convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    cost = count(convolution, (2, 4, 8, 8))
    assert (cost.macs, cost.parameters, cost.activations) == (2 * 6 * 4 * 4 * 2 * 9, 6 * 2 * 9, 2 * 6 * 4 * 4)
    transposed = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert count(transposed, (1, 4, 5, 5)).macs == 4 * 5 * 5 * 6 * 4
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    assert count(linear, (3, 3, 2, 2)).macs == 3 * 12 * 5


def test_a_shared_module_costs_as_often_as_it_runs() -> None:
    once = nn.Conv2d(3, 3, 3, padding=1)
    twice = nn.Sequential(once, once)
    assert count(twice, (1, 3, 8, 8)).macs == 2 * count(once, (1, 3, 8, 8)).macs
    assert count(twice, (1, 3, 8, 8)).parameters == count(once, (1, 3, 8, 8)).parameters


def test_counting_leaves_the_module_as_it_was() -> None:
    backbone = Backbone(ReXNet(0.6), ("res4",)).train()
    cost = count(backbone, (1, 3, 64, 64))
    assert backbone.training
    assert next(backbone.parameters()).device.type == "cpu"
    assert 0 < cost.macs < count(ReXNet(0.6), (1, 3, 64, 64)).macs
