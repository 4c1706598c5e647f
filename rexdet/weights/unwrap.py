"""Finds the network inside what a file holds: nested dictionaries, prefixes, averaged weights beside raw ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rexdet.errors import UserError
from rexdet.weights.layouts import Match, find_networks

_MAX_NESTING = 4
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|averaged?|swa|shadow|teacher)(?:$|[._])", re.IGNORECASE)
# Numbers about weights that go under the weights' own names.
_ABOUT_WEIGHTS = re.compile(r"(?:^|[._])(?:optim\w*|grad\w*|exp_avg\w*|momentum|velocity)(?:$|\.)", re.IGNORECASE)
# Of two encoders trained as a pair, the one that the method hands on (He et al., arXiv 1911.05722: the query encoder).
_SECOND_OF_A_PAIR = re.compile(r"(?:^|\.)(?:encoder_k|momentum_encoder|key_encoder|target_encoder|student)(?:\.|$)")
_DETECTOR_PARTS = ("proposal_generator.", "roi_heads.", "rpn_head.", "roi_head.", "bbox_head.", "neck.", "head.")


@dataclass(frozen=True)
class Found:
    """One network that a file holds.

    part: where it lies, in the words of `part=` ("", "state_dict", "state_dict_ema:module.").
    match: its layout and keys. tensors: the dictionary that they are keys of.
    """

    container: str
    match: Match
    tensors: Mapping[str, Tensor]

    @property
    def part(self) -> str:
        prefix = self.match.prefix.rstrip(".")
        return ":".join(name for name in (self.container, prefix) if name)

    @property
    def is_averaged(self) -> bool:
        return bool(_AVERAGED.search(self.container) or _AVERAGED.search(self.match.prefix.rstrip(".")))

    @property
    def is_detector(self) -> bool:
        """The network is the backbone of a detector that lies around it."""
        if not re.search(r"(?:^|\.)(?:backbone|bottom_up)\.", self.match.prefix):
            return False
        outer = self.match.prefix.split("backbone.")[0]
        others = [key[len(outer) :] for key in self.match.outside if key.startswith(outer)]
        return any(key.startswith((*_DETECTOR_PARTS, "backbone.")) for key in others)


@dataclass(frozen=True)
class Unwrapped:
    """The network taken from a file, and what else the file holds.

    others: other networks in it (their parts). ignored: everything else at the top ("optimizer", "epoch").
    """

    found: Found
    others: tuple[Found, ...]
    ignored: tuple[str, ...]


def unwrap(
    value: Any, where: str, part: str = "", find: Callable[[Mapping[str, Tensor]], list[Match]] = find_networks
) -> Unwrapped:
    """Choose the network in `value` (what a file or the caller holds).

    part: which one, as `Found.part` says; "" chooses: averaged weights (EMA) before raw ones where they are complete,
    the query encoder of a pair. find: what counts as a network among the tensors of one dictionary.
    Raises UserError where there is none, where the choice is not clear, or for a `part` that the file does not have.
    """
    if not isinstance(value, Mapping):
        raise UserError(
            f"holds a {type(value).__name__}, not a dictionary of tensors", where=where, fix="save model.state_dict()"
        )
    states = dict(_states("", value, 0))
    networks = [Found(container, match, tensors) for container, tensors in states.items() for match in find(tensors)]
    if not networks:
        raise UserError(
            _what_is_seen(value, states), where=where, fix="rexdet's networks are listed by `rexdet models`"
        )
    chosen = _named(networks, part, where) if part else _choose(networks, where)
    others = tuple(found for found in networks if found is not chosen)
    return Unwrapped(chosen, others, _ignored(value, networks))


def _states(name: str, value: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in `value` that holds tensors by name, with the dotted path to it."""
    tensors = {key: inner for key, inner in value.items() if isinstance(key, str) and isinstance(inner, Tensor)}
    if tensors:
        yield name, tensors
    if depth >= _MAX_NESTING:
        return
    for key, inner in value.items():
        if isinstance(key, str) and isinstance(inner, Mapping):
            yield from _states(f"{name}.{key}" if name else key, inner, depth + 1)


def _named(networks: list[Found], part: str, where: str) -> Found:
    for found in networks:
        if part.rstrip(".") in (found.part, found.container):
            return found
    there = ", ".join(repr(found.part) for found in networks)
    raise UserError(f"holds no network under {part!r}", where=where, fix=f"there are: {there}")


def _choose(networks: list[Found], where: str) -> Found:
    for found in networks:
        mixed = {other.match.layout.name for other in networks if _place(other) == _place(found)}
        if len(mixed) > 1:
            layouts = " and ".join(sorted(mixed))
            raise UserError(f"mixes the keys of {layouts} in one dictionary", where=where, fix="fetch it again")
    networks = [found for found in networks if not _ABOUT_WEIGHTS.search(found.container)] or networks
    fullest = max(_size(found) for found in networks)
    complete = [found for found in networks if _size(found) == fullest]
    averaged = [found for found in complete if found.is_averaged]
    candidates = averaged or complete
    if len(candidates) > 1:
        candidates = [found for found in candidates if not _SECOND_OF_A_PAIR.search(found.match.prefix)] or candidates
    first = candidates[0]
    if any(not _same_tensors(first, other) for other in candidates[1:]):
        there = ", ".join(repr(found.part) for found in candidates)
        raise UserError(f"holds several networks: {there}", where=where, fix="say which with part=")
    return first


def _place(found: Found) -> tuple[str, str]:
    return found.container, found.match.prefix


def _size(found: Found) -> int:
    return sum(not key.endswith("num_batches_tracked") for key in found.match.keys)


def _same_tensors(one: Found, other: Found) -> bool:
    left, right = one.match.to_ours(one.tensors), other.match.to_ours(other.tensors)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def _ignored(value: Mapping[Any, Any], networks: list[Found]) -> tuple[str, ...]:
    used = {found.container.split(".")[0] for found in networks if found.container}
    if any(not found.container for found in networks):
        return tuple(str(key) for key, inner in value.items() if not isinstance(inner, Tensor))
    return tuple(str(key) for key in value if str(key) not in used)


def _what_is_seen(value: Mapping[Any, Any], states: Mapping[str, Mapping[str, Tensor]]) -> str:
    if not states:
        seen = ", ".join(map(str, list(value)[:6])) or "nothing"
        return f"holds no tensors under names (it holds: {seen})"
    name, largest = max(states.items(), key=lambda item: len(item[1]))
    keys = list(largest)
    place = f" under {name!r}" if name else ""
    return (
        f"holds the weights of a network that is not one of rexdet's: {len(keys)} tensors{place}, "
        f"from {keys[0]} {list(largest[keys[0]].shape)} to {keys[-1]} {list(largest[keys[-1]].shape)}"
        f"{_known_kind(keys)}"
    )


# How other networks' keys look, so that a person recognises the file.
_FOREIGN = (
    (re.compile(r"(?:^|\.)layer[1-4]\.\d+\.conv[123]\."), "a ResNet or ResNeXt"),
    (re.compile(r"(?:^|\.)res[2-5]\.\d+\.conv[123]\."), "detectron2's ResNet"),
    (re.compile(r"(?:^|\.)res\d_\d+_branch"), "a Caffe2 ResNet"),
    (
        re.compile(r"(?:^|\.)_?blocks\.\d+\.(?:\d+\.conv_pw|_expand_conv|_depthwise_conv|\d+\.conv_dw)"),
        "an EfficientNet",
    ),
    (re.compile(r"(?:^|\.)branch_main\."), "a ShuffleNet"),
    (re.compile(r"(?:^|\.)blocks\.\d+\.attn\."), "a vision transformer"),
    (re.compile(r"(?:^|\.)features\.\d+\.conv\.\d+"), "a MobileNet"),
)


def _known_kind(keys: list[str]) -> str:
    for pattern, name in _FOREIGN:
        if any(pattern.search(key) for key in keys):
            return f" (it looks like {name})"
    return ""
