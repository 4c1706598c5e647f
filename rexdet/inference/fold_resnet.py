"""The part of ResNet and ResNeXt that is its own, folded: the residual block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.inference.fold_units import FoldedConvolution, fold_unit, in_place
from rexdet.nets.layers import ConvolutionUnit
from rexdet.nets.resnet import ResidualBlock


class FoldedResidualBlock(nn.Module):
    """A residual block, folded: (B, C_in, H, W) -> (B, C_out, H', W').

    Sum and activation overwrite the branch's map.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        units = [unit for unit in (block.unit1, block.unit2, block.unit3) if unit is not None]
        self.branch = nn.Sequential(*(_as_wide_as_it_is(unit) for unit in units))
        self.projection = None if block.projection is None else _as_wide_as_it_is(block.projection)
        self.shortcut = block.shortcut
        self.stride = block.stride
        self.out_channels = block.out_channels
        self.activation = in_place(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out, skip = self.branch(x), self._skip(x)
        # Compilers and exporters fuse an addition into the convolution before it.
        return self.activation(out + skip if torch.compiler.is_compiling() else out.add_(skip))

    def _skip(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            return self.projection(x)
        if self.shortcut == "padding":
            missing = self.out_channels - x.shape[1]
            return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, missing // 2, missing - missing // 2))
        return x


def _as_wide_as_it_is(unit: ConvolutionUnit) -> FoldedConvolution:
    return fold_unit(unit, in_channels=unit.conv.in_channels, out_channels=unit.conv.out_channels)
