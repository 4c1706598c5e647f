"""The three equivalent forms of ResNeXt's block (Xie et al., arXiv 1611.05431, Fig. 3 a, b, c).

The networks use the last form, the grouped convolution, which runs fastest. The other two say what it means: C small
transformations of the same input whose results are added up. Each is made from a grouped block and computes the same
function with the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rexdet.nets.layers import BatchNorm2d, ConvolutionUnit
from rexdet.nets.resnet import ResidualBlock


class SplitTransformSum(nn.Module):
    """Form (a): C paths of 1x1, 3x3 and 1x1 convolution, added up; then the norm, the shortcut and the activation.

    (B, C_in, H, W) -> (B, C_out, ceil(H/stride), ceil(W/stride)), as the grouped block that it is made from.

    block: a bottleneck with batch norms. Its tensors are copied. Raises ValueError for a basic block or another norm.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        last = _last_unit(block)
        cardinality = block.unit2.conv.groups
        self.first = nn.ModuleList(_slice_unit(block.unit1, share) for share in _shares(block.unit1, cardinality))
        self.middle = nn.ModuleList(_slice_group(block.unit2, group) for group in range(cardinality))
        self.last = nn.ModuleList(_slice_input(last.conv, share) for share in _shares(block.unit2, cardinality))
        self.norm = _copy_norm(last.norm, slice(None))
        self.around = _Around(block)

    def forward(self, x: Tensor) -> Tensor:
        paths = zip(self.first, self.middle, self.last, strict=True)
        total = torch.stack([last(middle(first(x))) for first, middle, last in paths]).sum(0)
        return self.around(self.norm(total), x)


class EarlyConcatenation(nn.Module):
    """Form (b): C paths of 1x1 and 3x3 convolution, concatenated, then one 1x1 convolution over all of them.

    Shapes, arguments and errors as in SplitTransformSum.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        last = _last_unit(block)
        cardinality = block.unit2.conv.groups
        self.first = nn.ModuleList(_slice_unit(block.unit1, share) for share in _shares(block.unit1, cardinality))
        self.middle = nn.ModuleList(_slice_group(block.unit2, group) for group in range(cardinality))
        self.last = _copy_conv(last.conv, last.conv.weight)
        self.norm = _copy_norm(last.norm, slice(None))
        self.around = _Around(block)

    def forward(self, x: Tensor) -> Tensor:
        paths = [middle(first(x)) for first, middle in zip(self.first, self.middle, strict=True)]
        return self.around(self.norm(self.last(torch.cat(paths, dim=1))), x)


class _Around(nn.Module):
    """What the block does around its branch: the shortcut, the sum, the activation."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.projection: nn.Module = nn.Identity()
        if block.projection is not None:
            self.projection = _slice_unit(block.projection, slice(None))
        elif block.shortcut != "identity":
            raise ValueError("a shortcut of padding is for basic blocks")
        self.activation = block.activation

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        return self.activation(branch + self.projection(x))


def _last_unit(block: ResidualBlock) -> ConvolutionUnit:
    if block.unit3 is None:
        raise ValueError("the forms are those of a bottleneck, and this is a basic block")
    return block.unit3


def _shares(unit: ConvolutionUnit, cardinality: int) -> list[slice]:
    """The output channels of a unit that belong to each of the C paths."""
    size = unit.conv.out_channels // cardinality
    return [slice(path * size, (path + 1) * size) for path in range(cardinality)]


def _slice_unit(unit: ConvolutionUnit, outputs: slice) -> nn.Sequential:
    """An ungrouped unit with some of its output channels."""
    return nn.Sequential(
        _copy_conv(unit.conv, unit.conv.weight[outputs]), _copy_norm(unit.norm, outputs), unit.activation
    )


def _slice_group(unit: ConvolutionUnit, group: int) -> nn.Sequential:
    """One group of a grouped unit."""
    outputs = _shares(unit, unit.conv.groups)[group]
    return nn.Sequential(
        _copy_conv(unit.conv, unit.conv.weight[outputs]), _copy_norm(unit.norm, outputs), unit.activation
    )


def _slice_input(conv: nn.Conv2d, inputs: slice) -> nn.Conv2d:
    return _copy_conv(conv, conv.weight[:, inputs])


def _copy_conv(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """A convolution without groups that has `weight` (C_out, C_in, k, k), and stride and padding of `conv`."""
    copied = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        bias=False,
        dtype=weight.dtype,
    )
    with torch.no_grad():
        copied.weight.copy_(weight)
    return copied


def _copy_norm(norm: nn.Module, channels: slice) -> nn.BatchNorm2d:
    if not isinstance(norm, nn.BatchNorm2d):
        raise ValueError(f"the forms are for batch norm, and this is {type(norm).__name__}")
    kept = {key: value[channels] if value.dim() else value for key, value in norm.state_dict().items()}
    copied = BatchNorm2d(kept["weight"].shape[0], eps=norm.eps).to(kept["weight"].dtype)
    copied.load_state_dict(kept)
    return copied.train(norm.training)
