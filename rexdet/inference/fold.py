"""The same network with less work: norms folded into convolutions, widths that processors like.

What changes, and why each change leaves the function as it is:
- A batch norm in evaluation is a scale and a shift a channel, so it is folded into the convolution before it.
- ReXNet's widths (38, 61, 185, ...) fit no vector register. Inner widths are filled up to a multiple of 16 with filters
  of zeros; whatever an activation makes of a zero channel, the layer behind reads it with weights of zero. ResNet's
  widths stay as they are.
- The partial shortcut is an addition in place to the first channels, not a concatenation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.inference.fold_resnet import FoldedResidualBlock
from rexdet.inference.fold_units import FOLDABLE, FoldedConvolution, filled_up, fold_unit, in_place
from rexdet.nets import Backbone, ResNet, ReXNet
from rexdet.nets.features import Step
from rexdet.nets.layers import ConvolutionUnit, SqueezeExcitation
from rexdet.nets.resnet import ResidualBlock
from rexdet.nets.rexnet import InvertedBottleneck

_STEPS = (ConvolutionUnit, InvertedBottleneck, ResidualBlock, nn.MaxPool2d)


def is_foldable(model: nn.Module) -> bool:
    """Whether `fold` knows `model`: a ReXNet, a ResNet or a Backbone of one, all of whose norms are batch norms."""
    if isinstance(model, Backbone):
        modules = [model.get_submodule(step.path) for step in model.steps]
        known = all(isinstance(module, _STEPS) for module in modules)
    else:
        known = isinstance(model, ReXNet | ResNet)
    norms = [part.norm for part in model.modules() if isinstance(part, ConvolutionUnit | SqueezeExcitation)]
    # A unit without a norm (a stem of a ResNeXt for small images) has an identity there.
    return known and all(isinstance(norm, (*FOLDABLE, nn.Identity)) for norm in norms)


def fold(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode as a faster module of the same function; `model` itself stays as it is.

    A ReXNet or ResNet gives (B, 3, H, W) -> (B, classes), a Backbone (B, 3, H, W) -> {name: feature map}. Any other
    module, and one with group norm, is copied in evaluation mode and else left alone. For inference only: it writes in
    place.
    """
    if not is_foldable(model):
        return copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        folded = (
            FoldedBackbone(model) if isinstance(model, Backbone) else FoldedClassifier(cast("ReXNet | ResNet", model))
        )
    return folded.eval().requires_grad_(False)


class FoldedClassifier(nn.Module):
    """A classifier network, folded: (B, C, H, W) -> (B, classes)."""

    def __init__(self, network: ReXNet | ResNet) -> None:
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
            None if block.expand is None else fold_unit(block.expand, in_channels=in_channels, out_channels=hidden)
        )
        self.depthwise = fold_unit(block.depthwise, in_channels=hidden, out_channels=hidden)
        self.squeeze_excitation = (
            None if block.squeeze_excitation is None else FoldedSqueezeExcitation(block.squeeze_excitation, hidden)
        )
        self.activation = in_place(block.activation)
        self.project = fold_unit(block.project, in_channels=hidden, out_channels=self.out_channels)

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


def _fold_steps(root: nn.Module, steps: Sequence[Step]) -> nn.ModuleList:
    modules = nn.ModuleList()
    channels: int | None = None
    fills_up = not any(isinstance(root.get_submodule(step.path), ResidualBlock) for step in steps)
    for step in steps:
        module = root.get_submodule(step.path)
        if isinstance(module, ResidualBlock):
            modules.append(FoldedResidualBlock(module))
        elif isinstance(module, nn.MaxPool2d):
            modules.append(copy.deepcopy(module))
        elif isinstance(module, InvertedBottleneck):
            block = FoldedBlock(module, channels if channels is not None else module.in_channels)
            channels = block.out_channels
            modules.append(block)
        elif isinstance(module, ConvolutionUnit):
            first, is_kept = channels is None, step is steps[-1] or not fills_up
            # The image keeps its channels, and so does the last map, which the classifier reads.
            inner = module.conv.in_channels if first else channels
            channels = module.conv.out_channels if is_kept else filled_up(module.conv.out_channels)
            modules.append(fold_unit(module, in_channels=inner or 0, out_channels=channels))
        else:
            raise TypeError(f"{step.path} is a {type(module).__name__}, which fold() does not know")
    return modules
