"""The names of ReXNet's networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from rexdet.errors import UserError
from rexdet.nets.rexnet import STAGE_BLOCKS, ReXNet, linear_channels, rule_channels
from rexdet.weights.rexnet_shapes import RexnetShape
from rexdet.weights.shape_base import NetworkShape
from rexdet.zoo.family import Family

MIN_WIDTH, MAX_WIDTH = 0.3, 5.0


def _width(match: re.Match[str]) -> float:
    """The width that a name says. Raises UserError for one out of range, and one not written as numbers are here."""
    written, name = match["width"], match.string
    width = float(written)
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise UserError(f"width {written} of {name!r} is out of range", fix=f"give one from {MIN_WIDTH} to {MAX_WIDTH}")
    if written != str(width):
        right = f"{name[: match.start('width')]}{width}"
        raise UserError(f"there is no network {name!r}", fix=f"write {right}: a width always has its decimal")
    return width


def _rexnetr_divisor(width: float) -> int:
    # timm rounds the widest of its rounded networks to 16.
    return 16 if width >= 3.0 else 8


def _search(
    name: str, *, lite: bool, divisor: Callable[[float], int]
) -> Callable[..., Iterator[tuple[str, dict[str, Any]]]]:
    """Names of one ReXNet family whose block widths are those of a shape, the roundest width first."""

    def candidates(shape: NetworkShape) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(shape, RexnetShape):
            return
        seen = [channels for channels in shape.blocks if channels is not None]
        if len(seen) != len(shape.blocks) or not seen:
            return
        squeezes = any(channels != 0 for channels in shape.squeezed)
        overrides: dict[str, Any] = {} if squeezes != lite else {"squeeze_excitation": squeezes}
        for depth, blocks in _depths(shape):
            for width in _widths():
                if _rule(width, blocks, lite=lite, divisor=divisor)[: len(seen)] == seen:
                    yield f"{name}_{width}", {**overrides, **({} if depth == 1.0 else {"depth": depth})}

    return candidates


def _nearest(
    name: str, *, lite: bool, divisor: Callable[[float], int]
) -> Callable[..., Iterator[tuple[str, dict[str, Any]]]]:
    """The width of one ReXNet family from which the fewest block widths of a shape differ, by the least."""

    def nearest(shape: NetworkShape) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(shape, RexnetShape) or None in shape.blocks or not shape.blocks:
            return
        squeezes = any(channels != 0 for channels in shape.squeezed)
        fixed: dict[str, Any] = {} if squeezes != lite else {"squeeze_excitation": squeezes}
        for depth, blocks in _depths(shape):
            overrides = {**fixed, **({} if depth == 1.0 else {"depth": depth})}

            def distance(width: float, blocks: int = blocks) -> tuple[int, int]:
                rule = _rule(width, blocks, lite=lite, divisor=divisor)
                away = [abs(one - other) for one, other in zip(shape.blocks, rule, strict=False) if one is not None]
                return sum(step > 0 for step in away), sum(away)

            width = min(_widths(), key=distance)
            rule = rule_channels(width, lite=lite, channel_divisor=None if lite else divisor(width), **overrides)
            own = {path: wide for path, wide in shape.channels.items() if path in rule and wide != rule[path]}
            yield f"{name}_{width}", {**overrides, "channels": own}

    return nearest


def _rule(width: float, blocks: int, *, lite: bool, divisor: Callable[[float], int]) -> list[int]:
    """What the blocks of a named network write."""
    return linear_channels(
        width,
        blocks,
        first=16,
        growth=164.0 if lite else 180.0,
        growth_steps=blocks - 1 if lite else blocks,
        divisor=divisor(width),
    )


def _depths(shape: RexnetShape) -> Iterator[tuple[float, int]]:
    """Depth multipliers that give the shape's number of blocks, 1.0 first; a backbone may end before its last block."""
    yielded = set()
    for depth in (1.0, *(step / 10 for step in range(2, 41))):
        blocks = sum(-(-count * round(depth * 10) // 10) for count in STAGE_BLOCKS)
        whole = blocks == len(shape.blocks)
        cut_short = shape.penultimate is None and depth == 1.0 and len(shape.blocks) <= blocks
        if (whole or cut_short) and blocks not in yielded:
            yielded.add(blocks)
            yield depth, blocks


@lru_cache(maxsize=1)
def _widths() -> tuple[float, ...]:
    """Widths in the order in which people choose them: whole and half, tenths, twentieths, hundredths."""
    every = [step / 100 for step in range(round(MIN_WIDTH * 100), round(MAX_WIDTH * 100) + 1)]
    return tuple(sorted(every, key=lambda width: (_roughness(round(width * 100)), width)))


def _roughness(hundredths: int) -> int:
    return next(rank for rank, step in enumerate((50, 10, 5, 1)) if hundredths % step == 0)


_NUMBER = r"(?P<width>\d+(?:\.\d+)?)"

FAMILIES = (
    Family(
        title="ReXNet",
        form="rexnet_W",
        pattern=re.compile(rf"rexnet_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match)},
        listed=tuple(f"rexnet_{width}" for width in (0.6, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0, 2.2, 3.0)),
        candidates=_search("rexnet", lite=False, divisor=lambda width: 1),
        nearest=_nearest("rexnet", lite=False, divisor=lambda width: 1),
    ),
    Family(
        title="ReXNet-lite",
        form="rexnet_lite_W",
        pattern=re.compile(rf"rexnet_lite_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match), "lite": True},
        listed=tuple(f"rexnet_lite_{width}" for width in (1.0, 1.3, 1.5, 2.0)),
        candidates=_search("rexnet_lite", lite=True, divisor=lambda width: 8),
        nearest=_nearest("rexnet_lite", lite=True, divisor=lambda width: 8),
    ),
    Family(
        title="ReXNet with timm's rounded channels",
        form="rexnetr_W",
        pattern=re.compile(rf"rexnetr_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match), "channel_divisor": _rexnetr_divisor(_width(match))},
        listed=tuple(f"rexnetr_{width}" for width in (1.0, 1.3, 1.5, 2.0, 3.0)),
        candidates=_search("rexnetr", lite=False, divisor=_rexnetr_divisor),
        nearest=_nearest("rexnetr", lite=False, divisor=_rexnetr_divisor),
    ),
)
