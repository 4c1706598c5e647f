"""What a named network costs: exact counts, and its published tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rexdet.nets.complexity import count
from rexdet.nets.features import PYRAMID, Feature
from rexdet.zoo.published import entries
from rexdet.zoo.registry import skeleton


@dataclass(frozen=True)
class NetworkCost:
    """parameters: of the classifier of the network's own class count. macs, activations: of one image.
    channels: of res2 to res5. tags: of its published checkpoints."""

    name: str
    parameters: int
    macs: int
    activations: int
    channels: tuple[int, ...]
    tags: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def cost_of(name: str, size: int = 224) -> NetworkCost:
    """The cost of a named network for one `size` x `size` image."""
    network = skeleton(name)
    cost = count(network, (1, 3, size, size))
    features: Mapping[str, Feature] = network.features  # type: ignore[assignment]
    tags = tuple(entry.tag for entry in entries() if entry.network == name)
    channels = tuple(features[level].channels for level in PYRAMID)
    return NetworkCost(name, cost.parameters, cost.macs, cost.activations, channels, tags)
