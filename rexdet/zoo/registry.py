"""Name -> how the network is built. A family of networks is one entry of `FAMILIES`."""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from rexdet.errors import UserError
from rexdet.nets.rexnet import STAGE_BLOCKS, ReXNet, linear_channels
from rexdet.weights.shapes import NetworkShape, Shaped, read_shape
from rexdet.zoo.names import near

MIN_WIDTH, MAX_WIDTH = 0.3, 5.0


@dataclass(frozen=True)
class NetworkSpec:
    """How a named network is built.

    name: the zoo name. family: of networks. constructor: gives the network, arguments: what the name fixes.
    num_classes: the network's own count.
    """

    name: str
    family: str
    constructor: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    num_classes: int = 1000

    def build(self, num_classes: int | None = None, **overrides: Any) -> nn.Module:
        """The network with random weights. Raises UserError for an override that it does not have or cannot take."""
        for key, value in overrides.items():
            self._check_override(key, value)
        classes = self.num_classes if num_classes is None else num_classes
        if not isinstance(classes, int) or isinstance(classes, bool):
            raise UserError(f"num_classes is {num_classes!r}", where=self.name, fix="give a whole number")
        try:
            return self.constructor(**{**self.arguments, "num_classes": classes, **overrides})
        except ValueError as error:
            raise UserError(str(error), where=self.name) from error

    def _check_override(self, key: str, value: Any) -> None:
        parameters = inspect.signature(self.constructor).parameters
        if key in self.arguments:
            raise UserError(
                f"{key} is what the name says ({self.arguments[key]})",
                where=self.name,
                fix="choose another name instead",
            )
        if key not in parameters or key == "num_classes":
            close = near(key, parameters)
            fix = f"did you mean {close[0]}?" if close else f"there are {', '.join(parameters)}"
            raise UserError(f"there is no option {key!r}", where=self.name, fix=fix)
        wanted = _plain_types(str(parameters[key].annotation))
        if not (isinstance(value, wanted) and isinstance(value, bool) <= (bool in wanted)):
            kinds = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in wanted)
            raise UserError(f"{key} is {value!r}", where=self.name, fix=f"it takes {kinds}")


def _plain_types(annotation: str) -> tuple[type, ...]:
    """The Python types that an annotation of plain values ("float | None") allows; an int is a float, too."""
    by_name: dict[str, tuple[type, ...]] = {
        "float": (float, int),
        "int": (int,),
        "bool": (bool,),
        "str": (str,),
        "None": (type(None),),
    }
    return tuple(kind for part in annotation.split("|") for kind in by_name.get(part.strip(), (object,)))


@dataclass(frozen=True)
class Family:
    """Networks that are named alike.

    title: what people call them. form: how a name is written. pattern: of a whole name; a group `width` is its width.
    constructor: gives a network. arguments: a matched name -> the arguments that it fixes.
    listed: names that people use, first to last. candidates: a network's shape -> names and overrides that may fit it.
    """

    title: str
    form: str
    pattern: re.Pattern[str]
    constructor: Callable[..., nn.Module]
    arguments: Callable[[re.Match[str]], dict[str, Any]]
    listed: tuple[str, ...]
    candidates: Callable[[NetworkShape], Iterator[tuple[str, dict[str, Any]]]]


def _width(match: re.Match[str]) -> float:
    return float(match["width"])


def _rexnetr_divisor(width: float) -> int:
    # timm rounds the widest of its rounded networks to 16.
    return 16 if width >= 3.0 else 8


def _search(
    name: str, *, lite: bool, divisor: Callable[[float], int]
) -> Callable[..., Iterator[tuple[str, dict[str, Any]]]]:
    """Names of one ReXNet family whose block widths are those of a shape, the roundest width first."""

    def candidates(shape: NetworkShape) -> Iterator[tuple[str, dict[str, Any]]]:
        seen = [channels for channels in shape.blocks if channels is not None]
        if len(seen) != len(shape.blocks) or not seen:
            return
        squeezes = any(channels != 0 for channels in shape.squeezed)
        overrides: dict[str, Any] = {} if squeezes != lite else {"squeeze_excitation": squeezes}
        for depth, blocks in _depths(shape):
            for width in _widths():
                widths = linear_channels(
                    width,
                    blocks,
                    first=16,
                    growth=164.0 if lite else 180.0,
                    growth_steps=blocks - 1 if lite else blocks,
                    divisor=divisor(width),
                )
                if widths[: len(seen)] == seen:
                    yield f"{name}_{width}", {**overrides, **({} if depth == 1.0 else {"depth": depth})}

    return candidates


def _depths(shape: NetworkShape) -> Iterator[tuple[float, int]]:
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

FAMILIES: tuple[Family, ...] = (
    Family(
        title="ReXNet",
        form="rexnet_W",
        pattern=re.compile(rf"rexnet_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match)},
        listed=tuple(f"rexnet_{width}" for width in (0.6, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0, 2.2, 3.0)),
        candidates=_search("rexnet", lite=False, divisor=lambda width: 1),
    ),
    Family(
        title="ReXNet-lite",
        form="rexnet_lite_W",
        pattern=re.compile(rf"rexnet_lite_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match), "lite": True},
        listed=tuple(f"rexnet_lite_{width}" for width in (1.0, 1.3, 1.5, 2.0)),
        candidates=_search("rexnet_lite", lite=True, divisor=lambda width: 8),
    ),
    Family(
        title="ReXNet with timm's rounded channels",
        form="rexnetr_W",
        pattern=re.compile(rf"rexnetr_{_NUMBER}"),
        constructor=ReXNet,
        arguments=lambda match: {"width": _width(match), "channel_divisor": _rexnetr_divisor(_width(match))},
        listed=tuple(f"rexnetr_{width}" for width in (1.0, 1.3, 1.5, 2.0, 3.0)),
        candidates=_search("rexnetr", lite=False, divisor=_rexnetr_divisor),
    ),
)


def listed_names() -> list[str]:
    """The names that people use, sorted; more widths than these can be built."""
    return sorted(name for family in FAMILIES for name in family.listed)


def list_models(pattern: str = "*") -> list[str]:
    """Names of networks that can be built offline, sorted; `pattern` as in file names ("rexnet_lite*").

    ReXNet takes any width from 0.3 to 5; listed are those that papers and model zoos publish.
    """
    return [name for name in listed_names() if fnmatch.fnmatchcase(name, pattern)]


def resolve(name: str) -> NetworkSpec:
    """The network of a name without tag and package. Raises UserError with near names where there is none."""
    for family in FAMILIES:
        match = family.pattern.fullmatch(name)
        if match is None:
            continue
        _check_width(name, match)
        return NetworkSpec(name, family.title, family.constructor, family.arguments(match))
    close = near(name, listed_names())
    forms = ", ".join(family.form for family in FAMILIES)
    raise UserError(
        f"there is no network {name!r}",
        fix=f"did you mean {', '.join(close)}?"
        if close
        else f"names are written {forms}, timm:NAME or torchvision:NAME",
    )


def _check_width(name: str, match: re.Match[str]) -> None:
    written = match["width"]
    width = float(written)
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise UserError(f"width {written} of {name!r} is out of range", fix=f"give one from {MIN_WIDTH} to {MAX_WIDTH}")
    if written != str(width):
        right = f"{name[: match.start('width')]}{width}"
        raise UserError(f"there is no network {name!r}", fix=f"write {right}: a width always has its decimal")


def identify(state: Mapping[str, Shaped]) -> tuple[str, dict[str, Any]] | None:
    """The name, and the overrides beside it, of the network whose tensors a state in our layout has; None for none.

    A name fits when every tensor of the state has the shape that it has in the network of that name.
    """
    shape = read_shape(state)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for name, overrides in _candidates(shape):
        if _fits(shapes, _shapes_of(name, tuple(sorted(overrides.items())))):
            return name, overrides
    return None


def _candidates(shape: NetworkShape) -> Iterable[tuple[str, dict[str, Any]]]:
    """Candidates of every family; those that need no override first."""
    every = [candidate for family in FAMILIES for candidate in family.candidates(shape)]
    return sorted(every, key=lambda candidate: len(candidate[1]))


class _WithoutInitialisation(TorchFunctionMode):
    """Networks are built without filling their tensors: shapes need no numbers, and no seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


_FILLING = frozenset(
    ("normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "fill_", "zero_", "ones_", "zeros_", "constant_")
)


def skeleton(name: str, **overrides: Any) -> nn.Module:
    """The network of a name without numbers in it (on the meta device): for its shapes and its costs."""
    with torch.device("meta"), _WithoutInitialisation():
        return resolve(name).build(**overrides)


@lru_cache(maxsize=64)
def _shapes_of(name: str, overrides: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]]:
    network = skeleton(name, **dict(overrides))
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _fits(shapes: Mapping[str, tuple[int, ...]], network: Mapping[str, tuple[int, ...]]) -> bool:
    for key, shape in shapes.items():
        if key not in network:
            return False
        follows_classes = key in ("head.weight", "head.bias", "head.classifier.weight", "head.classifier.bias")
        if shape[1 if follows_classes else 0 :] != network[key][1 if follows_classes else 0 :]:
            return False
    return True
