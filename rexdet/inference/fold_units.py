"""A convolution unit as one convolution: what the folded forms of all networks are made of."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from rexdet.nets.layers import ConvolutionUnit, FrozenBatchNorm2d, fold_norm

CHANNEL_MULTIPLE = 16
FOLDABLE = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
# Activations that may overwrite their input when nothing is to be differentiated.
_IN_PLACE = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Hardswish)


class FoldedConvolution(nn.Module):
    """A convolution with its norm inside and the activation behind it, in place.

    in_channels, out_channels: at least those of `conv`; what is more is filters of zeros. A depthwise convolution takes
    `out_channels` groups, one in other groups its own channels.
    """

    def __init__(
        self, conv: nn.Conv2d, norm: nn.Module | None, activation: nn.Module, *, in_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        weight, bias = fold_norm(conv, None if isinstance(norm, nn.Identity) else norm)
        is_depthwise = conv.groups == conv.out_channels > 1
        self.conv = nn.Conv2d(
            out_channels if is_depthwise else in_channels,
            out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=out_channels if is_depthwise else conv.groups,
            device=weight.device,
        )
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.conv.weight[: weight.shape[0], : weight.shape[1]] = weight
        self.conv.bias[: bias.shape[0]] = bias  # type: ignore[index]
        self.activation = in_place(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x))


def filled_up(channels: int) -> int:
    """The multiple of CHANNEL_MULTIPLE at or above `channels`."""
    return -(-channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE


def in_place(activation: nn.Module) -> nn.Module:
    """A copy of `activation` that overwrites its input where its kind can."""
    copied = copy.deepcopy(activation)
    if isinstance(copied, _IN_PLACE):
        copied.inplace = True
    return copied


def fold_unit(unit: ConvolutionUnit, *, in_channels: int, out_channels: int) -> FoldedConvolution:
    """A unit as one convolution, its widths filled up to those given."""
    return FoldedConvolution(unit.conv, unit.norm, unit.activation, in_channels=in_channels, out_channels=out_channels)
