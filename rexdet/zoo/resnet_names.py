"""The names of ResNets and ResNeXts, and of their forms for 32 x 32 images."""

from __future__ import annotations

import re
from typing import Any

from rexdet.errors import UserError
from rexdet.nets.resnet import ResNet
from rexdet.weights.shapes import NetworkShape
from rexdet.zoo.family import Candidates, Family

# Blocks of each stage. Sources: He et al., arXiv 1512.03385, Table 1; Xie et al., arXiv 1611.05431, Table 1.
BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Convolutions of one block, times three stages.
CIFAR_BASIC_STEP, CIFAR_BOTTLENECK_STEP = 6, 9
CIFAR_CLASSES = 10
CIFAR_BASIC_WIDTH = 16


def _no_candidates(shape: NetworkShape) -> Candidates:
    return iter(())


def _cifar_blocks(match: re.Match[str], step: int) -> tuple[int, int, int]:
    depth = int(match["depth"])
    blocks, rest = divmod(depth - 2, step)
    if rest or blocks < 1:
        raise UserError(
            f"there is no network {match.string!r}: its depth is {step}n + 2",
            fix=f"e.g. {', '.join(str(step * n + 2) for n in (1, 2, 3, 5))}",
        )
    return blocks, blocks, blocks


def _groups(match: re.Match[str]) -> dict[str, int]:
    """C x d of a name. Raises UserError for a number that is 0 or written with zeros before it."""
    for part in ("cardinality", "base_width"):
        if match[part].startswith("0"):
            raise UserError(f"{match[part]} in {match.string!r} is no count", fix="write e.g. resnext50_32x4d")
    return {"cardinality": int(match["cardinality"]), "base_width": int(match["base_width"])}


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


_CARDINALITY = r"(?P<cardinality>\d+)x(?P<base_width>\d+)d"

FAMILIES = (
    Family(
        title="ResNet with basic blocks",
        form="resnet18",
        pattern=re.compile(r"resnet(?P<depth>18|34)"),
        constructor=ResNet,
        arguments=_basic,
        listed=("resnet18", "resnet34"),
        candidates=_no_candidates,
    ),
    Family(
        title="ResNet",
        form="resnet50",
        pattern=re.compile(r"resnet(?P<depth>50|101|152)"),
        constructor=ResNet,
        arguments=_bottleneck,
        listed=("resnet50", "resnet101", "resnet152"),
        candidates=_no_candidates,
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
        candidates=_no_candidates,
    ),
    Family(
        title="ResNet for 32 x 32 images",
        form="resnet20_cifar",
        pattern=re.compile(r"resnet(?P<depth>\d+)(?P<form>b?)_cifar"),
        constructor=ResNet,
        arguments=_cifar_resnet,
        listed=tuple(f"resnet{depth}{form}_cifar" for form in ("", "b") for depth in (20, 32, 44, 56, 110)),
        candidates=_no_candidates,
        num_classes=CIFAR_CLASSES,
        detection=False,
    ),
    Family(
        title="ResNeXt for 32 x 32 images",
        form="resnext29_CxDd_cifar",
        pattern=re.compile(rf"resnext(?P<depth>\d+)_{_CARDINALITY}_cifar"),
        constructor=ResNet,
        arguments=_cifar_resnext,
        listed=("resnext29_8x64d_cifar", "resnext29_16x64d_cifar"),
        candidates=_no_candidates,
        num_classes=CIFAR_CLASSES,
        detection=False,
    ),
)
