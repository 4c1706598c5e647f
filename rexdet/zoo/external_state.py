"""Finds the tensors of another package's network in what a file holds, in whichever layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from rexdet.errors import UserError
from rexdet.weights import efficientnet_layouts
from rexdet.weights.layouts import Layout, Match
from rexdet.weights.pixels import IMAGENET, Preprocessing
from rexdet.weights.shape_base import NetworkShape
from rexdet.zoo.external_network import ExternalNetwork
from rexdet.zoo.external_timm import timm_model, timm_usual_pixels
from rexdet.zoo.names import Name

State = Mapping[str, Tensor]
_NO_KEYS = re.compile(r"(?!)")
_ENOUGH = 10
_HEADS = ("fc.", "classifier.", "head.", "heads.", "_fc.")
_COUNTER = "num_batches_tracked"
# In efficientnet_pytorch's layout; its networks are those that timm names after TensorFlow's (SAME padding, eps 1e-3).
_LITE = tuple(f"tf_efficientnet_lite{size}" for size in range(5))
_WITH_SQUEEZE_EXCITATION = tuple(f"tf_efficientnet_b{size}" for size in range(9))


@dataclass(frozen=True)
class ExternalShape(NetworkShape):
    """Another package's network says no hyper-parameters of ours: the tensors themselves are compared."""

    family: ClassVar[str] = "external"

    def summary(self) -> str:
        return "a network of another package"

    def difference(self, model: Any) -> str:
        return ""


def shape_of(network: ExternalNetwork, state: State) -> ExternalShape:
    """What is known of a state of that network: whether it has a classifier, and of how many classes."""
    heads = [key for key in network.classifier_keys if key in state]
    classes = int(state[heads[0]].shape[0]) if heads else None
    return ExternalShape("batch", "linear" if heads else None, classes, {})


def name_of(network: ExternalNetwork, state: State) -> tuple[str, dict[str, Any]] | None:
    """The network's name where every tensor of the state fits it (the class count may differ), else None."""
    for key, tensor in state.items():
        wanted = network.shapes.get(key)
        start = 1 if key in network.classifier_keys else 0
        if wanted is None or wanted[start:] != tuple(tensor.shape)[start:]:
            return None
    return network.name, dict(network.overrides)


def finder(network: ExternalNetwork) -> Callable[[State], list[Match]]:
    """What finds that network among the tensors of one dictionary: in the package's own layout, or in another."""

    def usual(state: State) -> Preprocessing:
        return timm_usual_pixels(network.base) if network.package == "timm" else IMAGENET

    def to_package(state: State) -> dict[str, Tensor]:
        return {network.canonical(key): tensor for key, tensor in state.items()}

    own = Layout(network.package, "external", _NO_KEYS, _NO_KEYS, _HEADS, to_package, dict, pixels=usual)

    def find(state: State) -> list[Match]:
        matches = _matches(own, state, lambda key: network.canonical(key) in network.shapes)
        if network.package != "timm":
            return matches
        matches += find_efficientnet(state)
        if not any(_is_in_layout(match, network) for match in matches):
            converted = _converted_by_timm(network, state)
            if converted is not None:
                layout = Layout("timm", "external", _NO_KEYS, _NO_KEYS, _HEADS, lambda _: converted, dict, pixels=usual)
                return [Match(layout, "", tuple(state), (), ())]
        return matches

    return find


def find_efficientnet(state: State) -> list[Match]:
    """The networks in efficientnet_pytorch's layout among these tensors."""
    layout = efficientnet_layouts.LAYOUT
    found = _matches(layout, state, lambda key: layout.keys.fullmatch(key) is not None)
    return [match for match in found if any(layout.block_keys.search(key) for key in match.keys)]


def name_efficientnet(state: State) -> Name | None:
    """The network of timm's whose tensors a state in efficientnet_pytorch's layout has; None where none has."""
    try:
        tensors = efficientnet_layouts.to_timm(state)
    except ValueError:
        return None
    names = _WITH_SQUEEZE_EXCITATION if efficientnet_layouts.has_squeeze_excitation(state) else _LITE
    for base in names:
        network = ExternalNetwork(Name(base, package="timm"))
        if name_of(network, tensors) is not None:
            return network.base
    return None


def _matches(layout: Layout, state: State, is_key: Callable[[str], bool]) -> list[Match]:
    """One match for each prefix under which (nearly) as many keys stand as under the fullest."""
    counts: dict[str, int] = {}
    for key in state:
        for prefix in _prefixes(key):
            if is_key(key[len(prefix) :]):
                counts[prefix] = counts.get(prefix, 0) + 1
    fullest = max(counts.values(), default=0)
    found = []
    for prefix, count in counts.items():
        if count < _ENOUGH or 2 * count <= fullest:
            continue
        under = [key for key in state if key.startswith(prefix)]
        own = tuple(key for key in under if is_key(key[len(prefix) :]))
        extra = tuple(key for key in under if not is_key(key[len(prefix) :]))
        found.append(Match(layout, prefix, own, extra, tuple(key for key in state if not key.startswith(prefix))))
    return found


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return ["".join(f"{part}." for part in parts[:start]) for start in range(len(parts))]


def _is_in_layout(match: Match, network: ExternalNetwork) -> bool:
    """The match has every key of the network, or is part of a larger one: nobody has to know an older layout."""
    if match.prefix or match.layout.name != network.package:
        return True
    own = {network.canonical(key) for key in match.keys}
    return not match.extra and all(key in own for key in network.shapes if not key.endswith(_COUNTER))


def _converted_by_timm(network: ExternalNetwork, state: State) -> dict[str, Tensor] | None:
    """The tensors as timm's own loader understands older and original layouts; None where it does not, either."""
    tensors = [key for key in state if not key.endswith(_COUNTER)]
    if len(tensors) < _ENOUGH:
        return None
    options = {**network.overrides, "pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    try:
        model = timm_model(network.base, options)
    except (UserError, KeyError, IndexError):
        return None
    return dict(model.state_dict())
