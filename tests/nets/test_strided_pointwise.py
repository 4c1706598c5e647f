"""Narrow strided 1 x 1 convolutions: the same numbers without the stride, and a training that ends."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from rexdet.nets.strided_pointwise import subsample_before_pointwise

# In a process of its own: what it guards against ends the process, or damages its memory.
TRAINING = """
import torch
from rexdet.nets.strided_pointwise import subsample_before_pointwise
torch.set_num_threads(1)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Conv2d(5, 32, 1, 2, bias=False))
assert subsample_before_pointwise(network) == 1
network.to(memory_format=torch.channels_last)
for _ in range(8):
    x = torch.randn(8, 3, 12, 12).contiguous(memory_format=torch.channels_last)
    network(x).square().mean().backward()
print("ended")
"""


@pytest.mark.parametrize("stride", [2, (1, 2), 3])
def test_outputs_and_gradients_are_the_same(stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 1, stride, groups=2)).double()
    guarded = copy.deepcopy(network)
    assert subsample_before_pointwise(guarded) == 1
    # Once is enough, and a copy has it, too.
    assert subsample_before_pointwise(guarded) == 0
    guarded = copy.deepcopy(guarded)
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64)
    ours, theirs = guarded(x), network(x)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for (name, one), (other_name, other) in zip(guarded.named_parameters(), network.named_parameters(), strict=True):
        assert name == other_name
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    "module", [nn.Conv2d(16, 8, 1, 2), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(4, 8, 1, 2, padding=1)]
)
def test_others_are_left_alone(module: nn.Conv2d) -> None:
    before = module.stride
    assert subsample_before_pointwise(nn.Sequential(module)) == 0
    assert module.stride == before


def test_a_narrow_network_trains_in_channels_last() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "ended\n", done.stderr[-1000:]
