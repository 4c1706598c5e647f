"""Name -> how the network is built. A family of networks is one entry of `FAMILIES`."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from rexdet.errors import UserError
from rexdet.weights.shapes import CLASSIFIER_KEYS, NetworkShape, Shaped, read_shape
from rexdet.zoo import resnet_names, rexnet_names
from rexdet.zoo.family import Family
from rexdet.zoo.genome import Genome, find_genome, shipped_genomes
from rexdet.zoo.names import GENOME_PREFIX, near, parse, take_rule
from rexdet.zoo.rule import with_rule


@dataclass(frozen=True)
class NetworkSpec:
    """How a named network is built.

    name: the zoo name. family: of networks. constructor: gives the network, arguments: what the name fixes.
    num_classes: the network's own count. detection: whether it can be a detector's backbone: maps at strides 4 to 32.
    rule: "2:1" of the N:M rule that the name applies to it, "" for none.
    """

    name: str
    family: str
    constructor: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    num_classes: int = 1000
    detection: bool = True
    rule: str = ""

    def build(self, num_classes: int | None = None, **overrides: Any) -> nn.Module:
        """The network with random weights. Raises UserError for an override that it does not have or cannot take."""
        for key, value in overrides.items():
            self._check_override(key, value)
        classes = self.num_classes if num_classes is None else num_classes
        if not isinstance(classes, int) or isinstance(classes, bool):
            raise UserError(f"num_classes is {num_classes!r}", where=self.name, fix="give a whole number")
        try:
            network = self.constructor(**{**self.arguments, "num_classes": classes, **overrides})
        except ValueError as error:
            raise UserError(str(error), where=self.name) from error
        except RuntimeError as error:
            if not is_too_large(error):
                raise
            raise UserError("is too large for this machine's memory", where=self.name, fix="make it smaller") from error
        return with_rule(network, self.rule, self.name)

    def takes(self, argument: str) -> bool:
        """The network has this argument, and its name leaves it free."""
        return argument in inspect.signature(self.constructor).parameters and argument not in self.arguments

    def _check_override(self, key: str, value: Any) -> None:
        parameters = inspect.signature(self.constructor).parameters
        if key in self.arguments:
            raise UserError(
                f"{key} is what the name says ({self.arguments[key]})",
                where=self.name,
                fix="choose another name instead",
            )
        if list(parameters) == ["num_classes"]:
            raise UserError(
                f"takes no {key}: a genome of another package's network builds its classifier, and no backbone",
                where=self.name,
            )
        if key not in parameters or key == "num_classes":
            close = near(key, parameters)
            fix = f"did you mean {close[0]}?" if close else f"there are {', '.join(parameters)}"
            raise UserError(f"there is no option {key!r}", where=self.name, fix=fix)
        wanted = _plain_types(str(parameters[key].annotation))
        if not (isinstance(value, wanted) and isinstance(value, bool) <= (bool in wanted)):
            kinds = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in wanted)
            raise UserError(f"{key} is {value!r}", where=self.name, fix=f"it takes {kinds}")


def is_too_large(error: RuntimeError) -> bool:
    """Whether torch says that tensors do not fit into memory, or into a number of bytes that it can count."""
    text = str(error)
    return "allocate memory" in text or "Storage size calculation overflowed" in text or "out of memory" in text


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


FAMILIES: tuple[Family, ...] = (*rexnet_names.FAMILIES, *resnet_names.FAMILIES)

# Its widths are told by its authors' file alone: rexdet.zoo.lwdna_file.
LWDNA_RESNET50 = "resnet50_lwdna"
GENOME_FAMILY = "LW-DNA"

# The N:M rule goes before any name; these stand for the others. Their tensors are those of the name behind the rule.
LISTED_WITH_RULE = (
    "nm2:1/resnet50",
    "nm3:1/resnet50",
    "nm3:2/resnext50_32x4d",
    "nm2:1/rexnet_1.0",
    "nm2:1/resnet20b_cifar",
)


def listed_names() -> list[str]:
    """The names that people use, sorted; more widths than these can be built."""
    genomes = (f"{GENOME_PREFIX}{name}" for name in shipped_genomes())
    return sorted((*genomes, *LISTED_WITH_RULE, *(name for family in FAMILIES for name in family.listed)))


def list_models(pattern: str = "*") -> list[str]:
    """Names of networks that can be built offline, sorted; `pattern` as in file names ("rexnet_lite*").

    ReXNet takes any width from 0.3 to 5, ResNeXt any cardinality and width; listed are those that papers and model
    zoos publish, and the genomes that come with rexdet (lwdna:NAME). The N:M rule (nm2:1/NAME) goes before any name; a
    few with it are listed.
    """
    return [name for name in listed_names() if fnmatch.fnmatchcase(name, pattern)]


def resolve(name: str) -> NetworkSpec:
    """The network of a name without tag and package. Raises UserError with near names where there is none.

    lwdna:NAME and lwdna:FILE are a genome's base network at its widths; a base of another package is a classifier.
    """
    rule, base = take_rule(name)
    if rule:
        return replace(resolve(base), name=name, rule=rule)
    if name == LWDNA_RESNET50:
        from rexdet.zoo.lwdna_file import spec_from_cache

        return spec_from_cache()
    if name.startswith(GENOME_PREFIX):
        return _spec_of(find_genome(name), name)
    for family in FAMILIES:
        match = family.pattern.fullmatch(name)
        if match is not None:
            return NetworkSpec(
                name, family.title, family.constructor, family.arguments(match), family.num_classes, family.detection
            )
    close = near(name, listed_names())
    forms = ", ".join(family.form for family in FAMILIES)
    raise UserError(
        f"there is no network {name!r}",
        fix=f"did you mean {', '.join(close)}?"
        if close
        else f"names are written {forms}, lwdna:NAME, timm:NAME or torchvision:NAME",
    )


def _spec_of(genome: Genome, name: str) -> NetworkSpec:
    """The network of a genome, under the name that it was asked for by."""
    if parse(genome.network).package:

        def build(num_classes: int = 1000) -> nn.Module:
            return genome.build(num_classes)

        return NetworkSpec(name, GENOME_FAMILY, build, {}, detection=False)
    base = resolve(genome.network)
    return replace(
        base, name=name, family=GENOME_FAMILY, arguments={**base.arguments, "channels": dict(genome.channels)}
    )


def identify(state: Mapping[str, Shaped]) -> tuple[str, dict[str, Any]] | None:
    """The name, and the overrides beside it, of the network whose tensors a state in our layout has; None for none.

    A name fits when every tensor of the state has the shape that it has in the network of that name. An N:M rule leaves
    no trace in tensors: the name is that of the network as it was defined.
    """
    shape = read_shape(state)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for name, overrides in _candidates(shape):
        if _fits(shapes, _shapes_of(name, _hashable(overrides))):
            return name, overrides
    return None


def _candidates(shape: NetworkShape) -> Iterator[tuple[str, dict[str, Any]]]:
    """Candidates of every family; those that need the fewest widths of their own and other overrides first."""
    for search in ("candidates", "nearest"):
        every = [candidate for family in FAMILIES for candidate in getattr(family, search)(shape)]
        yield from sorted(every, key=lambda found: (len(found[1].get("channels", ())), len(found[1])))


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
    return skeleton_of(resolve(name), **overrides)


def skeleton_of(spec: NetworkSpec, **overrides: Any) -> nn.Module:
    """The network of a spec without numbers in it (on the meta device)."""
    with torch.device("meta"), _WithoutInitialisation():
        return spec.build(**overrides)


def _hashable(overrides: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (key, tuple(value.items()) if isinstance(value, Mapping) else value) for key, value in sorted(overrides.items())
    )


@lru_cache(maxsize=64)
def _shapes_of(name: str, overrides: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]] | None:
    """The tensors of a network; None where these overrides make none (widths that do not fit together)."""
    arguments = {key: dict(value) if isinstance(value, tuple) else value for key, value in overrides}
    try:
        network = skeleton(name, **arguments)
    except UserError:
        return None
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _fits(shapes: Mapping[str, tuple[int, ...]], network: Mapping[str, tuple[int, ...]] | None) -> bool:
    if network is None:
        return False
    for key, shape in shapes.items():
        if key not in network:
            return False
        start = 1 if key in CLASSIFIER_KEYS else 0
        if shape[start:] != network[key][start:]:
            return False
    return True
