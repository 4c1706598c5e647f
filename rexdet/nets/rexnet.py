"""ReXNet and ReXNet-lite (Han et al., "Rethinking Channel Dimensions for Efficient Model Design", arXiv 2007.00992).

Sixteen inverted bottlenecks whose output widths grow linearly with the block index, so that no layer squeezes what
the layer before it has found. Widths, strides and the order of operations are those of the authors' released code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
from rexdet.nets.widths import take_widths

# Blocks and stride of each of the six stages; the stem comes before them with stride 2 of its own.
STAGE_BLOCKS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
EXPANSION = 6
PENULTIMATE_CHANNELS = 1280
SQUEEZE_RATIO = 12
STAGES_WITHOUT_SQUEEZE_EXCITATION = 2
LITE_HIDDEN_CHANNELS = 1024
# MobileNetV2's output widths, stage by stage (Sandler et al., arXiv 1801.04381, Table 2). Its stages of 160 and 320
# channels both have ReXNet's last stride, so they share the sixth stage: the last block writes 320 channels.
STEPWISE_CHANNELS = (16, 24, 32, 64, 96, 160)
STEPWISE_LAST_CHANNELS = 320
CHANNEL_RULES = ("linear", "stepwise")


@dataclass(frozen=True)
class BlockPlan:
    """One inverted bottleneck.

    in_channels, hidden_channels, out_channels: of its input, its depthwise convolution and its output.
    expands: a 1x1 convolution leads from the input to the hidden channels. squeeze_channels: inside squeeze-excitation,
    0 for none. stride, and output_stride: of the output in input pixels (before dilation).
    has_shortcut: the input is added to the first channels of the output.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    expands: bool
    stride: int
    output_stride: int
    squeeze_channels: int
    has_shortcut: bool


def round_to_multiple(channels: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, at least one, and never more than 10% below `channels` (MobileNet's rule)."""
    if divisor == 1:
        return int(channels)
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def linear_channels(
    width: float, blocks: int, *, first: int, growth: float, growth_steps: int, divisor: int
) -> list[int]:
    """Output widths of `blocks` blocks by the paper's rule: round(width * (first + i * growth / growth_steps)).

    For width < 1 the first width is kept and only the growth shrinks, as in the authors' code, which also
    adds the step up instead of multiplying it: the sum is repeated here so that rounding falls the same way
    (Python's half to even). Source: arXiv 2007.00992, Sec. 4.2, and rexnetv1.py.
    """
    base = first / width if width < 1.0 else float(first)
    widths = []
    for _ in range(blocks):
        widths.append(round_to_multiple(round(base * width), divisor))
        base += growth / growth_steps
    return widths


def stepwise_channels(width: float, stage_blocks: tuple[int, ...], *, divisor: int) -> list[int]:
    """Output widths by MobileNetV2's convention: constant inside a stage, a jump between stages."""
    widths = [channels for channels, blocks in zip(STEPWISE_CHANNELS, stage_blocks, strict=True) for _ in range(blocks)]
    widths[-1] = STEPWISE_LAST_CHANNELS
    return [round_to_multiple(round(channels * width), divisor) for channels in widths]


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
        _check_arguments(width, depth, channel_rule, output_stride, num_classes)
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
        plans = _plan_blocks(self.channels, rule, _stage_blocks(depth))
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


def _check_arguments(width: float, depth: float, channel_rule: str, output_stride: int, num_classes: int) -> None:
    if not (0.0 < width < math.inf and 0.0 < depth < math.inf):
        raise ValueError(f"width {width} and depth {depth} must be positive numbers")
    if channel_rule not in CHANNEL_RULES:
        raise ValueError(f"channel rule {channel_rule!r} is not one of {', '.join(CHANNEL_RULES)}")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output stride {output_stride} is not one of 8, 16, 32")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; a classifier has at least one class")


def rule_channels(
    width: float = 1.0,
    *,
    depth: float = 1.0,
    lite: bool = False,
    squeeze_excitation: bool | None = None,
    channel_rule: str = "linear",
    channel_divisor: int | None = None,
    stem_channels: int = 32,
    first_channels: int = 16,
    channel_growth: float | None = None,
) -> dict[str, int]:
    """The `channels` of a ReXNet of these arguments, without building it."""
    divisor = channel_divisor or (8 if lite else 1)
    growth = channel_growth if channel_growth is not None else (164.0 if lite else 180.0)
    stage_blocks = _stage_blocks(depth)
    blocks = sum(stage_blocks)
    if channel_rule == "linear":
        # The lite rule reaches the full growth at the last block, the other one a step behind it.
        steps = blocks - 1 if lite else blocks
        widths = linear_channels(
            width, blocks, first=first_channels, growth=growth, growth_steps=steps, divisor=divisor
        )
    else:
        widths = stepwise_channels(width, stage_blocks, divisor=divisor)
    stem = round_to_multiple(round((stem_channels / width if width < 1.0 else stem_channels) * width), divisor)
    return _rule_widths(
        stem,
        widths,
        stage_blocks,
        squeeze=not lite if squeeze_excitation is None else squeeze_excitation,
        squeeze_divisor=1 if lite else divisor,
        penultimate=_penultimate_channels(width, lite=lite, divisor=divisor),
    )


def _stage_blocks(depth: float) -> tuple[int, ...]:
    return tuple(math.ceil(blocks * depth) for blocks in STAGE_BLOCKS)


def _rule_widths(
    stem: int,
    outputs: list[int],
    stage_blocks: tuple[int, ...],
    *,
    squeeze: bool,
    squeeze_divisor: int,
    penultimate: int,
) -> dict[str, int]:
    """Every free width by the rule, under the path of the layer that writes it."""
    widths = {"stem": stem}
    before = stem
    stages = [stage for stage, blocks in enumerate(stage_blocks) for _ in range(blocks)]
    for index, (stage, output) in enumerate(zip(stages, outputs, strict=True)):
        hidden = before * EXPANSION if stage else before
        if stage:
            widths[f"blocks.{index}.expand"] = hidden
        if squeeze and stage >= STAGES_WITHOUT_SQUEEZE_EXCITATION:
            reduced = round_to_multiple(hidden // SQUEEZE_RATIO, squeeze_divisor)
            widths[f"blocks.{index}.squeeze_excitation.reduce"] = reduced
        widths[f"blocks.{index}.project"] = output
        before = output
    widths["penultimate"] = penultimate
    return widths


def _plan_blocks(
    channels: Mapping[str, int], rule: Mapping[str, int], stage_blocks: tuple[int, ...]
) -> list[BlockPlan]:
    """The blocks with the widths of `channels`; the rule's widths decide which blocks have a shortcut."""
    plans: list[BlockPlan] = []
    output_stride = 2
    before = "stem"
    for blocks, stage_stride in zip(stage_blocks, STAGE_STRIDES, strict=True):
        for position in range(blocks):
            stride = stage_stride if position == 0 else 1
            output_stride *= stride
            path = f"blocks.{len(plans)}"
            after = f"{path}.project"
            plan = BlockPlan(
                in_channels=channels[before],
                hidden_channels=channels.get(f"{path}.expand", channels[before]),
                out_channels=channels[after],
                expands=f"{path}.expand" in channels,
                stride=stride,
                output_stride=output_stride,
                squeeze_channels=channels.get(f"{path}.squeeze_excitation.reduce", 0),
                has_shortcut=stride == 1 and rule[before] <= rule[after],
            )
            if plan.has_shortcut and plan.in_channels > plan.out_channels:
                raise ValueError(
                    f"{after} has {plan.out_channels} channels, fewer than the {plan.in_channels} of its block's "
                    "input, which is added to them"
                )
            plans.append(plan)
            before = after
    return plans


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


def _penultimate_channels(width: float, *, lite: bool, divisor: int) -> int:
    if lite:
        return int(PENULTIMATE_CHANNELS * width) if width > 1.0 else PENULTIMATE_CHANNELS
    return round_to_multiple(PENULTIMATE_CHANNELS * width, divisor)


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
