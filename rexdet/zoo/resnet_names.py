"""The names of ResNets and ResNeXts, and of their forms for 32 x 32 images."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rexdet.errors import UserError
from rexdet.nets.resnet import ResNet, rule_channels
from rexdet.weights.resnet_shapes import ResNetShape
from rexdet.weights.shape_base import NetworkShape
from rexdet.zoo.family import Candidates, Family

# Blocks of each stage. Sources: He et al., arXiv 1512.03385, Table 1; Xie et al., arXiv 1611.05431, Table 1.
BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Convolutions of one block, times three stages.
CIFAR_BASIC_STEP, CIFAR_BOTTLENECK_STEP = 6, 9
CIFAR_CLASSES = 10
CIFAR_BASIC_WIDTH = 16
# No network of the papers comes near these; a slip of the finger would fill the memory. ResNet-1202: arXiv 1512.03385.
LARGEST_CIFAR_DEPTH = 1202
LARGEST_GROUPED_WIDTH = 16384


def _cifar_blocks(match: re.Match[str], step: int) -> tuple[int, int, int]:
    depth = int(match["depth"])
    blocks, rest = divmod(depth - 2, step)
    if rest or blocks < 1:
        raise UserError(
            f"there is no network {match.string!r}: its depth is {step}n + 2",
            fix=f"e.g. {', '.join(str(step * n + 2) for n in (1, 2, 3, 5))}",
        )
    if depth > LARGEST_CIFAR_DEPTH:
        raise UserError(f"depth {depth} of {match.string!r} is out of range", fix=f"give {LARGEST_CIFAR_DEPTH} or less")
    return blocks, blocks, blocks


def _groups(match: re.Match[str]) -> dict[str, int]:
    """C x d of a name. Raises UserError for a number that is 0 or written with zeros before it, and for wide ones."""
    for part in ("cardinality", "base_width"):
        if match[part].startswith("0"):
            raise UserError(f"{match[part]} in {match.string!r} is no count", fix="write e.g. resnext50_32x4d")
    cardinality, base_width = int(match["cardinality"]), int(match["base_width"])
    if cardinality * base_width > LARGEST_GROUPED_WIDTH:
        raise UserError(
            f"{match.string!r} has {cardinality * base_width} channels in its first groups",
            fix=f"give a C x d of {LARGEST_GROUPED_WIDTH} or less",
        )
    return {"cardinality": cardinality, "base_width": base_width}


def _basic(match: re.Match[str]) -> dict[str, Any]:
    return {"depths": BASIC_DEPTHS[int(match["depth"])], "block": "basic"}


def _bottleneck(match: re.Match[str]) -> dict[str, Any]:
    return {"depths": BOTTLENECK_DEPTHS[int(match["depth"])]}


def _resnext(match: re.Match[str]) -> dict[str, Any]:
    return {"depths": BOTTLENECK_DEPTHS[int(match["depth"])], **_groups(match)}


def _cifar_resnet(match: re.Match[str]) -> dict[str, Any]:
    return {
        "depths": _cifar_blocks(match, CIFAR_BASIC_STEP),
        "block": "basic",
        "base_width": CIFAR_BASIC_WIDTH,
        "stem": "cifar",
        "shortcut": "projection" if match["form"] else "padding",
    }


def _cifar_resnext(match: re.Match[str]) -> dict[str, Any]:
    return {"depths": _cifar_blocks(match, CIFAR_BOTTLENECK_STEP), "stem": "cifar", **_groups(match)}


# --- which of these names a checkpoint's shape may have


def _of_form(
    candidates: Callable[[ResNetShape], Candidates], *, block: str, stem_kernel: int
) -> Callable[..., Candidates]:
    """The candidates of one family, for shapes of its block and stem; a file without a stem may be of either form."""

    def of_family(shape: NetworkShape) -> Candidates:
        if isinstance(shape, ResNetShape) and shape.block == block and shape.stem_kernel in (stem_kernel, None):
            yield from candidates(shape)

    return of_family


def _basic_candidates(shape: ResNetShape) -> Candidates:
    for depth, depths in BASIC_DEPTHS.items():
        if _are_depths(shape, depths):
            yield f"resnet{depth}", _own_widths(shape, {"depths": depths, "block": "basic"})


def _bottleneck_candidates(shape: ResNetShape) -> Candidates:
    for depth, depths in BOTTLENECK_DEPTHS.items():
        if shape.cardinality == 1 and _are_depths(shape, depths):
            yield f"resnet{depth}", _own_widths(shape, {"depths": depths})


def _resnext_candidates(shape: ResNetShape) -> Candidates:
    for depth, depths in BOTTLENECK_DEPTHS.items():
        if _are_depths(shape, depths):
            groups = _nearest_groups(shape, depths)
            overrides = _own_widths(shape, {"depths": depths, **groups})
            # Without groups, widths of its own belong to a ResNet.
            if groups["cardinality"] > 1 or (groups["base_width"] != 64 and not overrides):
                yield f"resnext{depth}_{groups['cardinality']}x{groups['base_width']}d", overrides


def _cifar_resnet_candidates(shape: ResNetShape) -> Candidates:
    depths = _cifar_depths(shape)
    if depths:
        form, shortcut = ("b", "projection") if shape.projections else ("", "padding")
        fixed = {"depths": depths, "block": "basic", "base_width": CIFAR_BASIC_WIDTH, "shortcut": shortcut}
        yield f"resnet{CIFAR_BASIC_STEP * depths[0] + 2}{form}_cifar", _own_widths(shape, fixed)


def _cifar_resnext_candidates(shape: ResNetShape) -> Candidates:
    depths = _cifar_depths(shape)
    if depths:
        groups = _nearest_groups(shape, depths)
        depth = CIFAR_BOTTLENECK_STEP * depths[0] + 2
        name = f"resnext{depth}_{groups['cardinality']}x{groups['base_width']}d_cifar"
        overrides = _own_widths(shape, {"depths": depths, **groups})
        yield name, {**overrides, "stem_norm": True} if shape.stem_norm else overrides


def _are_depths(shape: ResNetShape, depths: tuple[int, ...]) -> bool:
    """The shape has these stages; a backbone may end before the last one."""
    return shape.depths == depths if shape.head else shape.depths == depths[: len(shape.depths)]


def _cifar_depths(shape: ResNetShape) -> tuple[int, int, int] | None:
    """The three equal stages that the shape has or, being a backbone's, begins with; None for other ones."""
    first = shape.depths[0]
    depths = (first, first, first)
    return depths if first and _are_depths(shape, depths) else None


def _nearest_groups(shape: ResNetShape, depths: tuple[int, ...]) -> dict[str, int]:
    """C x d: the cardinality, and of the widths that a group has somewhere the one from which fewest layers differ."""
    cardinality = shape.cardinality or 1
    widths = set()
    for path, channels in shape.channels.items():
        if path.endswith(".unit2"):
            share, rest = divmod(channels, cardinality * 2 ** int(path.split(".")[1]))
            widths |= {share} if share and not rest else set()
    every = [{"cardinality": cardinality, "base_width": width} for width in sorted(widths or {64})]
    return min(every, key=lambda groups: len(_different(shape, {"depths": depths, **groups})))


def _own_widths(shape: ResNetShape, arguments: dict[str, Any]) -> dict[str, Any]:
    """The overrides for a network of these arguments: `channels`, where the shape's widths are not the rule's."""
    own = _different(shape, arguments)
    return {"channels": own} if own else {}


def _different(shape: ResNetShape, arguments: dict[str, Any]) -> dict[str, int]:
    rule = rule_channels(**arguments)
    return {path: width for path, width in shape.channels.items() if path in rule and width != rule[path]}


_CARDINALITY = r"(?P<cardinality>[0-9]{1,9})x(?P<base_width>[0-9]{1,9})d"

FAMILIES = (
    Family(
        title="ResNet with basic blocks",
        form="resnet18",
        pattern=re.compile(r"resnet(?P<depth>18|34)"),
        constructor=ResNet,
        arguments=_basic,
        listed=("resnet18", "resnet34"),
        candidates=_of_form(_basic_candidates, block="basic", stem_kernel=7),
    ),
    Family(
        title="ResNet",
        form="resnet50",
        pattern=re.compile(r"resnet(?P<depth>50|101|152)"),
        constructor=ResNet,
        arguments=_bottleneck,
        listed=("resnet50", "resnet101", "resnet152"),
        candidates=_of_form(_bottleneck_candidates, block="bottleneck", stem_kernel=7),
    ),
    Family(
        title="ResNeXt",
        form="resnext50_CxDd",
        pattern=re.compile(rf"resnext(?P<depth>50|101|152)_{_CARDINALITY}"),
        constructor=ResNet,
        arguments=_resnext,
        listed=(
            *(f"resnext50_{form}" for form in ("2x40d", "4x24d", "8x14d", "32x4d")),
            *(f"resnext101_{form}" for form in ("2x40d", "4x24d", "8x14d", "32x4d", "32x8d", "2x64d", "64x4d")),
            "resnext152_32x4d",
        ),
        candidates=_of_form(_resnext_candidates, block="bottleneck", stem_kernel=7),
    ),
    Family(
        title="ResNet for 32 x 32 images",
        form="resnet20_cifar",
        pattern=re.compile(r"resnet(?P<depth>[1-9][0-9]{0,8})(?P<form>b?)_cifar"),
        constructor=ResNet,
        arguments=_cifar_resnet,
        listed=tuple(f"resnet{depth}{form}_cifar" for form in ("", "b") for depth in (20, 32, 44, 56, 110)),
        candidates=_of_form(_cifar_resnet_candidates, block="basic", stem_kernel=3),
        num_classes=CIFAR_CLASSES,
        detection=False,
    ),
    Family(
        title="ResNeXt for 32 x 32 images",
        form="resnext29_CxDd_cifar",
        pattern=re.compile(rf"resnext(?P<depth>[1-9][0-9]{{0,8}})_{_CARDINALITY}_cifar"),
        constructor=ResNet,
        arguments=_cifar_resnext,
        listed=("resnext29_8x64d_cifar", "resnext29_16x64d_cifar"),
        candidates=_of_form(_cifar_resnext_candidates, block="bottleneck", stem_kernel=3),
        num_classes=CIFAR_CLASSES,
        detection=False,
    ),
)
