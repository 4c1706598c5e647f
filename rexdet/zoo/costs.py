"""What a named network costs, what was published of it, and where its published weights are."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rexdet import published
from rexdet.errors import UserError
from rexdet.nets.complexity import count
from rexdet.nets.features import PYRAMID, Feature
from rexdet.published import Cell
from rexdet.zoo.external import create_external_backbone, create_external_model
from rexdet.zoo.external_network import on_meta
from rexdet.zoo.names import Name, parse
from rexdet.zoo.published import Entry, entries
from rexdet.zoo.registry import list_models, resolve, skeleton

IMAGENET_SIZE, CIFAR_SIZE = 224, 32
# Published networks whose widths nobody can know without their authors' file: listed, and not built.
NEEDS_A_FILE = {"resnet50_lwdna": "needs the authors' file"}


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint of a network. top1: of ImageNet-1k in per cent, None where nobody prints it."""

    tag: str
    licence: str | None
    top1: float | None


@dataclass(frozen=True)
class NetworkCost:
    """parameters: of the classifier of the network's own class count. macs, activations: of one image.
    size: side of that image in pixels. channels: name of a feature map -> its channels. detection: whether the network
    can be a detector's backbone. accuracy: the published number that speaks for it. weights: its published checkpoints.
    """

    name: str
    family: str
    size: int
    parameters: int
    macs: int
    activations: int
    channels: Mapping[str, int]
    detection: bool
    accuracy: Cell | None
    weights: tuple[PublishedWeights, ...]

    def as_json(self) -> dict[str, Any]:
        """The cost as plain JSON values."""
        accuracy = self.accuracy.as_json() if self.accuracy else None
        return {**asdict(self), "channels": dict(self.channels), "accuracy": accuracy}


@dataclass(frozen=True)
class PrintedCost:
    """What a paper prints of a whole detector: millions of parameters, billions of multiply-accumulates, AP, source."""

    parameters_millions: int | float | None
    macs_billions: int | float | None
    ap: int | float | None
    cited: str


@dataclass(frozen=True)
class DetectorCost:
    """parameters, macs: counted by the rule of whoever counted. printed: what is published of the same detector."""

    name: str
    detector: str
    parameters: int
    macs: int
    printed: PrintedCost | None

    def as_json(self) -> dict[str, Any]:
        """The cost as plain JSON values."""
        return asdict(self)


def matching_networks(pattern: str) -> list[str]:
    """Names of `list_models()` that fit a pattern as in file names, sorted; for a pattern that fits none, [].

    A name that is not listed and can be built (rexnet_1.27, resnext50_16x8d, lwdna:FILE, timm:NAME) is its own pattern.
    Raises UserError, with near names, for a name that cannot, unless it is one of NEEDS_A_FILE, and for a @tag.
    """
    found = list_models(pattern)
    if not found and not set(pattern) & set("*?[") and pattern not in NEEDS_A_FILE:
        if tag := parse(pattern).tag:
            raise UserError(f"{pattern} names weights, and the costs are the network's", fix=f"leave @{tag} out")
        network_skeleton(pattern)
        return [pattern]
    return found


def matching_without_file(pattern: str) -> list[str]:
    """Names of NEEDS_A_FILE that fit the pattern, sorted."""
    return sorted(name for name in NEEDS_A_FILE if fnmatch.fnmatchcase(name, pattern))


def networks_printed_with(detectors: Iterable[str]) -> list[str]:
    """Zoo names of ours of which the ReXNet paper or its repository prints one of these detectors, in its order."""
    found = []
    for cell in published.cells(task="detection", metric="parameters_millions"):
        names = [name for name in published.networks()[cell.network].names if ":" not in name]
        if cell.detector in detectors and names and names[0] not in found:
            found.append(names[0])
    return found


def network_skeleton(name: str) -> Any:
    """The network of a name without a tag, without numbers in it: for its shapes and its costs."""
    parsed = parse(name)
    return on_meta(lambda: create_external_model(parsed, None, None, {})) if parsed.package else skeleton(name)


def is_backbone(name: str) -> bool:
    """Whether a named network can be a detector's backbone."""
    parsed = parse(name)
    return bool(_external_maps(parsed)) if parsed.package else resolve(name).detection


def cost_of(name: str, size: int | None = None) -> NetworkCost:
    """The cost of a named network for one image of `size` x `size`.

    size: None for what the network is made for: 32 for the CIFAR forms, else 224. Raises UserError where the network
    does not take such an image.
    """
    parsed = parse(name)
    network = network_skeleton(name)
    if parsed.package:
        family, side, features = parsed.package, size or IMAGENET_SIZE, _external_maps(parsed)
        detection = bool(features)
    else:
        spec = resolve(name)
        family, detection = spec.family, spec.detection
        side = size or (IMAGENET_SIZE if spec.num_classes == 1000 else CIFAR_SIZE)
        # A network of another package (the base of a genome) may call something else so.
        features = maps_of(network)
    try:
        cost = count(network, (1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot be counted for an image of {side} x {side}: {reason}", name, "try --size") from error
    return NetworkCost(
        name=name,
        family=family,
        size=side,
        parameters=cost.parameters,
        macs=cost.macs,
        activations=cost.activations,
        channels={level: feature.channels for level, feature in features.items() if level.startswith("res")},
        detection=detection,
        accuracy=published.accuracy(name),
        weights=tuple(_weights(entry) for entry in entries() if entry.network == name),
    )


def maps_of(network: Any) -> Mapping[str, Feature]:
    """The feature maps that a network of ours names; none for a network of another package."""
    features = getattr(network, "features", {})
    return features if isinstance(features, Mapping) else {}


def _external_maps(name: Name) -> Mapping[str, Feature]:
    """The feature maps of another package's network; none where it has not those of every stride from 4 to 32."""
    try:
        return on_meta(lambda: create_external_backbone(name, PYRAMID, "BN", 0, None, {})).features
    except UserError:
        return {}


def _weights(entry: Entry) -> PublishedWeights:
    return PublishedWeights(entry.tag, entry.licence, entry.top1)


def printed_of(name: str, detector: str) -> PrintedCost | None:
    """What the ReXNet paper and its repository print of a detector over a network; None for nothing.

    The repository's table, which has more rows, comes first where both have one.
    """
    for source in ("rexnet_repository", "rexnet_paper"):
        cells = published.cells(name, task="detection", detector=detector, source=source)
        if cells:
            numbers = {cell.metric: cell.value for cell in cells}
            return PrintedCost(
                numbers.get("parameters_millions"), numbers.get("macs_billions"), numbers.get("AP"), cells[0].cited()
            )
    return None
