"""The widths and the blocks of a ReXNet, before there is a network: by the paper's rule, or layer by layer.

Rules: Han et al., arXiv 2007.00992, Sec. 4.2, and the authors' rexnetv1.py. `nets.rexnet` builds what is planned here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Blocks and stride of each of the six stages; the stem comes before them with stride 2 of its own.
STAGE_BLOCKS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
EXPANSION = 6
PENULTIMATE_CHANNELS = 1280
SQUEEZE_RATIO = 12
STAGES_WITHOUT_SQUEEZE_EXCITATION = 2
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


def check_arguments(width: float, depth: float, channel_rule: str, output_stride: int, num_classes: int) -> None:
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
    stage_blocks = stage_blocks_of(depth)
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


def stage_blocks_of(depth: float) -> tuple[int, ...]:
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


def plan_blocks(channels: Mapping[str, int], rule: Mapping[str, int], stage_blocks: tuple[int, ...]) -> list[BlockPlan]:
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


def _penultimate_channels(width: float, *, lite: bool, divisor: int) -> int:
    if lite:
        return int(PENULTIMATE_CHANNELS * width) if width > 1.0 else PENULTIMATE_CHANNELS
    return round_to_multiple(PENULTIMATE_CHANNELS * width, divisor)
