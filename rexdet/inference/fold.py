"""The same network with less work: norms folded into convolutions, widths that processors like.

What changes, and why each change leaves the function as it is:
- A batch norm in evaluation is a scale and a shift a channel, so it is folded into the convolution before it.
- ReXNet's widths (38, 61, 185, ...) fit no vector register. Inner widths are filled up to a multiple of 16 with filters
  of zeros; whatever an activation makes of a zero channel, the layer behind reads it with weights of zero.
- The partial shortcut is an addition in place to the first channels, not a concatenation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.nets import Backbone, ReXNet
from rexdet.nets.features import Step
from rexdet.nets.layers import ConvolutionUnit, FrozenBatchNorm2d, SqueezeExcitation, fold_norm
from rexdet.nets.rexnet import InvertedBottleneck

CHANNEL_MULTIPLE = 16
_FOLDABLE = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
# Activations that may overwrite their input when nothing is to be differentiated.
_IN_PLACE = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Hardswish)


def is_foldable(model: nn.Module) -> bool:
    """Whether `fold` knows `model`: a ReXNet or a Backbone of one, whose norms are all batch norms (not group norm)."""
    if isinstance(model, Backbone):
        modules = [model.get_submodule(step.path) for step in model.steps]
        known = all(isinstance(module, ConvolutionUnit | InvertedBottleneck) for module in modules)
    else:
        known = isinstance(model, ReXNet)
    norms = [part.norm for part in model.modules() if isinstance(part, ConvolutionUnit | SqueezeExcitation)]
    return known and all(isinstance(norm, _FOLDABLE) for norm in norms)


def fold(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode as a faster module of the same function; `model` itself stays as it is.

    A ReXNet gives (B, 3, H, W) -> (B, classes), a Backbone (B, 3, H, W) -> {name: feature map}. Any other module, and
    one with group norm, is copied in evaluation mode and else left alone. For inference only: it writes in place.
    """
    if not is_foldable(model):
        return copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        folded = FoldedBackbone(model) if isinstance(model, Backbone) else FoldedClassifier(cast("ReXNet", model))
    return folded.eval().requires_grad_(False)


class FoldedClassifier(nn.Module):
    """A classifier network, folded: (B, C, H, W) -> (B, classes)."""

    def __init__(self, network: ReXNet) -> None:
        super().__init__()
        self.trunk = _fold_steps(network, network.steps)
        self.head = copy.deepcopy(network.head)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.trunk:
            x = module(x)
        return self.head(x.mean((2, 3)))


class FoldedBackbone(nn.Module):
    """A backbone, folded: (B, C, H, W) -> its feature maps by name, in its order."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.out_features = backbone.out_features
        self.channels = {name: feature.channels for name, feature in backbone.features.items()}
        self.outputs = tuple((step.output, step.expansion) for step in backbone.steps)
        self.trunk = _fold_steps(backbone, backbone.steps)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for module, (output, expansion) in zip(self.trunk, self.outputs, strict=True):
            if expansion in self.out_features and isinstance(module, FoldedBlock):
                x, found[expansion] = module.forward_with_expansion(x)
            else:
                x = module(x)
            if output in self.out_features:
                found[output] = x
        # Filled-up channels are cut off again.
        return {name: found[name][:, : self.channels[name]] for name in self.out_features}


class FoldedConvolution(nn.Module):
    """A convolution with its norm inside and the activation behind it, in place."""

    def __init__(
        self, conv: nn.Conv2d, norm: nn.Module | None, activation: nn.Module, *, in_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        weight, bias = fold_norm(conv, norm)
        self.conv = nn.Conv2d(
            out_channels if conv.groups > 1 else in_channels,
            out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=out_channels if conv.groups > 1 else 1,
            device=weight.device,
        )
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.conv.weight[: weight.shape[0], : weight.shape[1]] = weight
        self.conv.bias[: bias.shape[0]] = bias  # type: ignore[index]
        self.activation = in_place(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x))


class FoldedSqueezeExcitation(nn.Module):
    """Squeeze-excitation with its norm inside the reducing layer; scales its input in place."""

    def __init__(self, layer: SqueezeExcitation, channels: int) -> None:
        super().__init__()
        reduced = filled_up(layer.reduce.out_channels)
        self.reduce = FoldedConvolution(
            layer.reduce, layer.norm, layer.activation, in_channels=channels, out_channels=reduced
        )
        self.expand = FoldedConvolution(layer.expand, None, nn.Sigmoid(), in_channels=reduced, out_channels=channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * gate if torch.compiler.is_compiling() else x.mul_(gate)


class FoldedBlock(nn.Module):
    """An inverted bottleneck, folded: (B, filled-up C_in, H, W) -> (B, filled-up C_out, H', W')."""

    def __init__(self, block: InvertedBottleneck, in_channels: int) -> None:
        super().__init__()
        hidden = filled_up(block.depthwise.conv.out_channels)
        self.in_channels = in_channels
        self.out_channels = filled_up(block.out_channels)
        self.has_shortcut = block.has_shortcut
        self.expand = (
            None if block.expand is None else _fold_unit(block.expand, in_channels=in_channels, out_channels=hidden)
        )
        self.depthwise = _fold_unit(block.depthwise, in_channels=hidden, out_channels=hidden)
        self.squeeze_excitation = (
            None if block.squeeze_excitation is None else FoldedSqueezeExcitation(block.squeeze_excitation, hidden)
        )
        self.activation = in_place(block.activation)
        self.project = _fold_unit(block.project, in_channels=hidden, out_channels=self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_expansion(x)[0]

    def forward_with_expansion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and the output of its expansion layer (the input where it has none)."""
        expanded = x if self.expand is None else self.expand(x)
        out = self.depthwise(expanded)
        if self.squeeze_excitation is not None:
            out = self.squeeze_excitation(out)
        out = self.project(self.activation(out))
        if self.has_shortcut:
            out = self._add_shortcut(out, x)
        return out, expanded

    def _add_shortcut(self, out: Tensor, x: Tensor) -> Tensor:
        wider = self.out_channels - self.in_channels
        if torch.compiler.is_compiling():
            # Compilers and exporters fuse an addition of equal shapes into the convolution before it.
            return out + (F.pad(x, (0, 0, 0, 0, 0, wider)) if wider else x)
        (out[:, : self.in_channels] if wider else out).add_(x)
        return out


def filled_up(channels: int) -> int:
    """The multiple of CHANNEL_MULTIPLE at or above `channels`."""
    return -(-channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE


def in_place(activation: nn.Module) -> nn.Module:
    """A copy of `activation` that overwrites its input where its kind can."""
    copied = copy.deepcopy(activation)
    if isinstance(copied, _IN_PLACE):
        copied.inplace = True
    return copied


def _fold_unit(unit: ConvolutionUnit, *, in_channels: int, out_channels: int) -> FoldedConvolution:
    return FoldedConvolution(unit.conv, unit.norm, unit.activation, in_channels=in_channels, out_channels=out_channels)


def _fold_steps(root: nn.Module, steps: Sequence[Step]) -> nn.ModuleList:
    modules = nn.ModuleList()
    channels: int | None = None
    for step in steps:
        module = root.get_submodule(step.path)
        if isinstance(module, InvertedBottleneck):
            block = FoldedBlock(module, channels if channels is not None else module.in_channels)
            channels = block.out_channels
            modules.append(block)
        elif isinstance(module, ConvolutionUnit):
            first, last = channels is None, step is steps[-1]
            # The image keeps its channels, and so does the last map, which the classifier reads.
            inner = module.conv.in_channels if first else channels
            channels = module.conv.out_channels if last else filled_up(module.conv.out_channels)
            modules.append(_fold_unit(module, in_channels=inner or 0, out_channels=channels))
        else:
            raise TypeError(f"{step.path} is a {type(module).__name__}, which fold() does not know")
    return modules
