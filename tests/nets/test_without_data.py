"""Norms without data write what torch's own do: shape, strides, type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rexdet.nets.without_data import QuickNorms


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(6).eval(),
        nn.BatchNorm2d(6, affine=False).eval(),
        # Without running statistics, and in training, it is torch's own that runs.
        nn.BatchNorm2d(6, track_running_stats=False).eval(),
        nn.BatchNorm2d(6).train(),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_written_has_the_same_form(norm: nn.Module, layout: torch.memory_format) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(inplace=True)).to("meta")
    image = torch.empty(2, 3, 9, 7, device="meta").to(memory_format=layout)
    expected = network(image)
    with QuickNorms():
        found = network(image)
    assert (found.shape, found.stride(), found.dtype, found.device) == (
        expected.shape,
        expected.stride(),
        expected.dtype,
        expected.device,
    )


def test_where_there_is_data_it_is_computed() -> None:
    norm = nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        norm.running_mean.fill_(2.0)
    image = torch.randn(2, 3, 4, 4)
    with QuickNorms():
        found = norm(image)
    torch.testing.assert_close(found, norm(image), rtol=0, atol=0)
    assert not torch.equal(found, image)
