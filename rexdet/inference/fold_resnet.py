"""The parts of ResNet and ResNeXt, folded: the residual block, and the pooling behind the stem."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.inference.fold_units import FoldedConvolution, fold_unit, in_place
from rexdet.nets.layers import ConvolutionUnit
from rexdet.nets.resnet import ResidualBlock

# Older torch does not tell compiling from exporting.
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class ExportablePool(nn.MaxPool2d):
    """Max-pooling that torch.export takes with free height and width: (B, C, H, W) -> (B, C, H', W').

    torch decides there from the example whether a stride divides a size, and then fixes the answer for every image. So
    while exporting, the pooling takes every pixel, and every stride-th is read.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__(pool.kernel_size, pool.stride, pool.padding)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_exporting():
            return super().forward(x)
        every = F.max_pool2d(x, self.kernel_size, 1, self.padding)
        return every[:, :, :: self.stride, :: self.stride]


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
