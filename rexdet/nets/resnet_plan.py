"""The widths and the blocks of a ResNet, before there is a network: by the papers' rules, or layer by layer.

Rules: He et al., arXiv 1512.03385, Table 1; Xie et al., arXiv 1611.05431, Table 1. `nets.resnet` builds what is planned
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BLOCKS = ("bottleneck", "basic")
STEMS = ("imagenet", "cifar")
SHORTCUTS = ("projection", "padding")
# The first one is the default.
STRIDE_PLACES = ("3x3", "1x1")
BOTTLENECK_STAGE_CHANNELS = 256
BOTTLENECK_STEM_CHANNELS = 64


@dataclass(frozen=True)
class BlockPlan:
    """One residual block: where it stands, its widths, and what its shortcut is.

    path: "stages.S.B". in_channels: of its input. widths: output channels of its convolutions, first to last.
    stride: of the block, before dilation. shortcut: "identity", "projection" (1x1 convolution and norm) or "padding"
    (every stride-th pixel, channels of zeros on both sides: He et al., Sec. 4.2, option A).
    """

    path: str
    in_channels: int
    widths: tuple[int, ...]
    stride: int
    shortcut: str

    @property
    def out_channels(self) -> int:
        return self.widths[-1]


def rule_channels(
    depths: Sequence[int],
    *,
    block: str = "bottleneck",
    cardinality: int = 1,
    base_width: int = 64,
    stem_channels: int | None = None,
    shortcut: str = "projection",
    stem: str = "imagenet",
) -> dict[str, int]:
    """The `channels` of a ResNet of these arguments, without building it. The stem's form changes no width."""
    if stem_channels is None:
        stem_channels = base_width if block == "basic" else BOTTLENECK_STEM_CHANNELS
    rule = rule_widths(depths, block, cardinality, base_width, stem_channels, 1.0)
    plan_shortcuts(depths, rule, block, shortcut)
    return rule


def check_choices(**choices: str) -> None:
    offered = {"block": BLOCKS, "stem": STEMS, "shortcut": SHORTCUTS, "stride_in": STRIDE_PLACES}
    for name, value in choices.items():
        if value not in offered[name]:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(offered[name])}")


def check_numbers(
    depths: Sequence[int],
    block: str,
    stem: str,
    cardinality: int,
    base_width: int,
    width: float,
    output_stride: int,
    num_classes: int,
) -> None:
    stages = 4 if stem == "imagenet" else 3
    if len(depths) != stages or min(depths) < 1:
        raise ValueError(f"depths {tuple(depths)} are not {stages} numbers of blocks, as the {stem} stem needs")
    if cardinality < 1 or base_width < 1:
        raise ValueError(f"cardinality {cardinality} and base width {base_width} must be positive")
    if block == "basic" and cardinality != 1:
        raise ValueError(f"a basic block has no groups, and the cardinality is {cardinality}")
    if not 0.0 < width < math.inf:
        raise ValueError(f"width {width} must be a positive number")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output stride {output_stride} is not one of 8, 16, 32")
    if stem == "cifar" and output_stride != 32:
        raise ValueError("the CIFAR form has stride 4 already; output_stride is for the ImageNet form")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; a classifier has at least one class")


def rule_widths(
    depths: Sequence[int], block: str, cardinality: int, base_width: int, stem_channels: int, width: float
) -> dict[str, int]:
    """The width of every convolution, projections included, by the rule of the papers times `width`."""
    widths = {"stem": max(int(stem_channels * width), 1)}
    for stage, blocks in enumerate(depths):
        inside = max(int(base_width * 2**stage * width), 1)
        if block == "basic":
            units = [inside, inside]
        else:
            units = [
                cardinality * inside,
                cardinality * inside,
                max(int(BOTTLENECK_STAGE_CHANNELS * 2**stage * width), 1),
            ]
        for index in range(blocks):
            path = f"stages.{stage}.{index}"
            widths.update({f"{path}.unit{number}": channels for number, channels in enumerate(units, start=1)})
            if index == 0:
                widths[f"{path}.projection"] = units[-1]
    return widths


def plan_shortcuts(depths: Sequence[int], rule: dict[str, int], block: str, shortcut: str) -> dict[str, str]:
    """What the first block of each stage has for a shortcut; takes the projections that there are not out of `rule`.

    The rule's widths decide, not layer-wise ones: a projection does not vanish where two widths happen to be equal.
    """
    last = 2 if block == "basic" else 3
    before = rule["stem"]
    found = {}
    for stage in range(len(depths)):
        path = f"stages.{stage}.0"
        out = rule[f"{path}.unit{last}"]
        found[path] = shortcut if stage > 0 or before != out else "identity"
        if found[path] != "projection":
            del rule[f"{path}.projection"]
        before = out
    return found


def plan_blocks(
    depths: Sequence[int], channels: Mapping[str, int], shortcuts: Mapping[str, str], block: str
) -> list[BlockPlan]:
    plans: list[BlockPlan] = []
    before = channels["stem"]
    for stage, blocks in enumerate(depths):
        for index in range(blocks):
            path = f"stages.{stage}.{index}"
            units = range(1, 3 if block == "basic" else 4)
            plan = BlockPlan(
                path=path,
                in_channels=before,
                widths=tuple(channels[f"{path}.unit{number}"] for number in units),
                stride=2 if stage > 0 and index == 0 else 1,
                shortcut=shortcuts.get(path, "identity"),
            )
            if plan.shortcut == "projection" and channels[f"{path}.projection"] != plan.out_channels:
                raise ValueError(
                    f"{path}.projection has {channels[f'{path}.projection']} channels and is added to "
                    f"{plan.out_channels} of {path}.unit{len(plan.widths)}"
                )
            plans.append(plan)
            before = plan.out_channels
    return plans


def check_widths(plans: Sequence[BlockPlan], cardinality: int) -> None:
    for plan in plans:
        if plan.shortcut == "identity" and plan.in_channels != plan.out_channels:
            raise ValueError(
                f"{plan.path} writes {plan.out_channels} channels and adds its input of {plan.in_channels}: "
                "all blocks of one stage write the same width"
            )
        if plan.shortcut == "padding" and plan.in_channels > plan.out_channels:
            raise ValueError(
                f"{plan.path} writes {plan.out_channels} channels, fewer than its input's {plan.in_channels}, "
                "which a shortcut without parameters cannot follow"
            )
        for number, width in enumerate(plan.widths[:2], start=1):
            if width % cardinality:
                raise ValueError(f"{plan.path}.unit{number} has {width} channels, no multiple of {cardinality} groups")


def by_stage(plans: Sequence[BlockPlan]) -> list[list[BlockPlan]]:
    stages: dict[str, list[BlockPlan]] = {}
    for plan in plans:
        stages.setdefault(plan.path.split(".")[1], []).append(plan)
    return list(stages.values())
