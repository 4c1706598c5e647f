"""ReXNet and ReXNet-lite (Han et al., "Rethinking Channel Dimensions for Efficient Model Design", arXiv 2007.00992).

Sixteen inverted bottlenecks whose output widths grow linearly with the block index, so that no layer squeezes what
the layer before it has found. Widths, strides and the order of operations are those of the authors' released code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rexdet.nets.features import PYRAMID, Feature, Step, run_steps
from rexdet.nets.layers import (
    ConvolutionUnit,
    DropPath,
    SqueezeExcitation,
    check_rate,
    initialise,
    make_activation,
)
from rexdet.nets.rexnet_plan import (
    STAGE_BLOCKS,
    BlockPlan,
    check_arguments,
    linear_channels,
    plan_blocks,
    rule_channels,
    stage_blocks_of,
)
from rexdet.nets.widths import take_widths

__all__ = ["STAGE_BLOCKS", "BlockPlan", "InvertedBottleneck", "LiteHead", "ReXNet", "linear_channels", "rule_channels"]

LITE_HIDDEN_CHANNELS = 1024


class InvertedBottleneck(nn.Module):
    """Expand (1x1), filter (3x3 depthwise), squeeze-excitation, project (1x1).

    (B, C_in, H, W) -> (B, C_out, ceil(H/stride), ceil(W/stride)). With stride 1 and C_in <= C_out the input is added
    to the first C_in channels of the output, the rest passes as it is (arXiv 2007.00992; rexnetv1.py).
    """

    def __init__(
        self,
        plan: BlockPlan,
        *,
        stride: int,
        dilation: int,
        activation: str,
        norm: str,
        drop_path: float,
    ) -> None:
        super().__init__()
        hidden = plan.hidden_channels
        self.in_channels = plan.in_channels
        self.out_channels = plan.out_channels
        self.has_shortcut = plan.has_shortcut
        self.expand = (
            ConvolutionUnit(plan.in_channels, hidden, norm=norm, activation=activation) if plan.expands else None
        )
        self.depthwise = ConvolutionUnit(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden, norm=norm)
        self.squeeze_excitation = (
            SqueezeExcitation(hidden, plan.squeeze_channels, norm) if plan.squeeze_channels else None
        )
        self.activation = make_activation("relu6")
        self.project = ConvolutionUnit(hidden, plan.out_channels, norm=norm)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 and self.has_shortcut else None

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
            if self.drop_path is not None:
                out = self.drop_path(out)
            out = self._add_shortcut(out, x)
        return out, expanded

    def _add_shortcut(self, out: Tensor, x: Tensor) -> Tensor:
        if self.in_channels == self.out_channels:
            return out + x
        if torch.compiler.is_compiling():
            # Compilers and exporters want no writes into a slice.
            return torch.cat([out[:, : self.in_channels] + x, out[:, self.in_channels :]], dim=1)
        out[:, : self.in_channels] += x
        return out


class LiteHead(nn.Module):
    """ReXNet-lite's classifier: (B, C) -> 1024 hidden features with norm and ReLU6 -> (B, classes) logits."""

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features, LITE_HIDDEN_CHANNELS)
        self.norm = nn.BatchNorm1d(LITE_HIDDEN_CHANNELS)
        self.activation = nn.ReLU6()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(LITE_HIDDEN_CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        if self.training and hidden.shape[0] == 1:
            # One value a channel has no variance: the running statistics stand in, as in nets.layers.BatchNorm2d.
            norm = self.norm
            hidden = nn.functional.batch_norm(
                hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        else:
            hidden = self.norm(hidden)
        return self.classifier(self.dropout(self.activation(hidden)))


class ReXNet(nn.Module):
    """ReXNet: (B, 3, H, W) float -> (B, num_classes) logits. Inputs are normalised as the checkpoint demands.

    width: width multiplier w; the stem has round(32 * max(w, 1)) channels, so it does not shrink below 32, and block i
        writes round(w * (16 + i * 180 / 16)).
    depth: depth multiplier; every stage has ceil(depth * blocks) blocks.
    lite: ReXNet-lite: ReLU6 everywhere, no squeeze-excitation, widths in multiples of 8, a hidden layer in the head.
    squeeze_excitation: on or off in stages 3 to 6; None: on, off for lite.
    activation: after the stem, the expansions and the last convolution (nets.layers.ACTIVATIONS); None: "silu", for
        lite "relu6". The activation after the depthwise convolution is ReLU6 always.
    channel_rule: "linear" (the paper's) or "stepwise" (MobileNetV2's, the paper's ablation).
    channel_divisor: widths are rounded to multiples of it; None: 1, for lite 8. 8 gives timm's `rexnetr_*` networks.
    stem_channels, first_channels, channel_growth: the rule's constants; None for the growth: 180, for lite 164.
    channels: layer by layer widths, keyed as in `.channels`; what it leaves out follows the rule.
    drop_path: rate of the last block; it grows linearly from 0 at the first. Only blocks with a shortcut drop.
    dropout: before the classifier, in training.
    output_stride: 32, 16 or 8: the last strides become dilations and the weights stay the same.
    norm: "BN", "FrozenBN", "SyncBN" or "GN".

    `channels` gives the widths that are free, by the path of the layer that writes them: the stem, each block's
    expansion, the reducing layer of its squeeze-excitation and its projection, and the last convolution. A depthwise
    convolution has the width of what it reads.

    `features` names the feature maps: res2 ... res5 (last block before each change of stride), `expand5` (the expansion
    inside the first block of res5, at res4's resolution) and `penultimate` (the last convolution): arXiv 2007.00992
    detects with the first four; its SSDLite detectors use the last two.

    Raises ValueError for a value out of range, and for widths that do not fit together.
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        depth: float = 1.0,
        lite: bool = False,
        squeeze_excitation: bool | None = None,
        activation: str | None = None,
        channel_rule: str = "linear",
        channel_divisor: int | None = None,
        stem_channels: int = 32,
        first_channels: int = 16,
        channel_growth: float | None = None,
        channels: Mapping[str, int] | None = None,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.2,
        output_stride: int = 32,
        norm: str = "BN",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_arguments(width, depth, channel_rule, output_stride, num_classes)
        check_rate(drop_path)
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; give a positive whole number")
        activation = activation or ("relu6" if lite else "silu")
        rule = rule_channels(
            width,
            depth=depth,
            lite=lite,
            squeeze_excitation=squeeze_excitation,
            channel_rule=channel_rule,
            channel_divisor=channel_divisor,
            stem_channels=stem_channels,
            first_channels=first_channels,
            channel_growth=channel_growth,
        )
        self.channels = take_widths(rule, channels)
        self.num_classes = num_classes
        self.stem = ConvolutionUnit(in_channels, self.channels["stem"], 3, stride=2, norm=norm, activation=activation)
        plans = plan_blocks(self.channels, rule, stage_blocks_of(depth))
        self.blocks = nn.ModuleList(
            _build_blocks(plans, activation=activation, norm=norm, drop_path=drop_path, output_stride=output_stride)
        )
        penultimate = self.channels["penultimate"]
        self.penultimate = ConvolutionUnit(plans[-1].out_channels, penultimate, norm=norm, activation=activation)
        self.head_dropout = nn.Dropout(0.0 if lite else dropout)
        self.head: nn.Module = (
            LiteHead(penultimate, num_classes, dropout) if lite else nn.Linear(penultimate, num_classes)
        )
        self.steps = _steps(plans)
        self.features = _features(plans, self.steps, penultimate, output_stride)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = run_steps(self, self.steps, x, ())[0]
        return self.head(self.head_dropout(x.mean((2, 3))))

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> every feature map that `features` names."""
        return run_steps(self, self.steps, x, self.features)[1]


def _build_blocks(
    plans: list[BlockPlan], *, activation: str, norm: str, drop_path: float, output_stride: int
) -> list[InvertedBottleneck]:
    blocks = []
    dilation = 1
    for index, plan in enumerate(plans):
        dilated = plan.stride > 1 and plan.output_stride > output_stride
        # The block that loses its stride still reads its neighbours at the old distance; those behind it read wider.
        blocks.append(
            InvertedBottleneck(
                plan,
                stride=1 if dilated else plan.stride,
                dilation=dilation,
                activation=activation,
                norm=norm,
                drop_path=drop_path * index / max(len(plans) - 1, 1),
            )
        )
        if dilated:
            dilation *= plan.stride
    return blocks


def _steps(plans: list[BlockPlan]) -> tuple[Step, ...]:
    names = {4 << level: name for level, name in enumerate(PYRAMID)}
    last_at = {plan.output_stride: index for index, plan in enumerate(plans)}
    steps = [Step("stem", stage=1)]
    for index, plan in enumerate(plans):
        # Block 0 works at stride 2: it leads to res2 and belongs to its stage.
        name = names.get(plan.output_stride, PYRAMID[0])
        is_last = last_at[plan.output_stride] == index and plan.output_stride in names
        starts_last_stage = plan.output_stride == 32 and plan.stride > 1
        steps.append(
            Step(
                f"blocks.{index}",
                stage=PYRAMID.index(name) + 2,
                output=name if is_last else "",
                expansion="expand5" if starts_last_stage else "",
            )
        )
    steps.append(Step("penultimate", stage=6, output="penultimate"))
    return tuple(steps)


def _features(
    plans: list[BlockPlan], steps: tuple[Step, ...], penultimate: int, output_stride: int
) -> dict[str, Feature]:
    features: dict[str, Feature] = {}
    expansion: dict[str, Feature] = {}
    for plan, step in zip(plans, steps[1:-1], strict=True):
        if step.output:
            features[step.output] = Feature(plan.out_channels, min(plan.output_stride, output_stride))
        if step.expansion:
            before = plan.output_stride // plan.stride
            expansion[step.expansion] = Feature(plan.hidden_channels, min(before, output_stride))
    return {**features, **expansion, "penultimate": Feature(penultimate, min(32, output_stride))}
