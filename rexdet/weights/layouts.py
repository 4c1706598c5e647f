"""Key maps between publishers' layouts of one network, invertible to the bit.

A layout says which keys a publisher uses. All of a file's keys are held against every layout, whatever stands before
them (`module.`, `backbone.bottom_up.`, `module.encoder_q.` ...), and the layout whose blocks are found is the file's.
Layouts of a family of networks stand in a module of their own and are listed in `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rexdet.weights import rexnet_layouts

# Keys of this many tensors of blocks make a layout; fewer are a coincidence of names.
_ENOUGH_BLOCK_TENSORS = 10
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one publisher names the tensors of a family of networks.

    name: "ours", "authors", "timm". family: the networks it belongs to ("rexnet").
    keys: what a whole key looks like. block_keys: those that only this layout has.
    head_keys: the beginnings of keys of a classifier, in whatever form.
    to_ours, from_ours: the maps of a whole state. from_ours raises ValueError where the layout has no such network.
    """

    name: str
    family: str
    keys: re.Pattern[str]
    block_keys: re.Pattern[str]
    head_keys: tuple[str, ...]
    to_ours: Callable[[State], dict[str, Tensor]]
    from_ours: Callable[[State], dict[str, Tensor]]

    @property
    def title(self) -> str:
        return {"ours": "rexdet's layout", "authors": "the authors' layout", "timm": "timm's layout"}.get(
            self.name, f"the layout of {self.name}"
        )


@dataclass(frozen=True)
class Match:
    """A network found among the keys of a state.

    layout: whose keys they are. prefix: what stands before each of them.
    keys: the keys of the layout, with their prefix, in the state's order. extra: keys under the prefix that the layout
    does not have. outside: keys that do not start with the prefix.
    """

    layout: Layout
    prefix: str
    keys: tuple[str, ...]
    extra: tuple[str, ...]
    outside: tuple[str, ...]

    def to_ours(self, state: State) -> dict[str, Tensor]:
        """The network's tensors in our layout. Raises ValueError for keys that contradict each other."""
        return self.layout.to_ours({key[len(self.prefix) :]: state[key] for key in self.keys})


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "ours",
        "rexnet",
        rexnet_layouts.OUR_KEYS,
        rexnet_layouts.OUR_BLOCK_KEYS,
        ("head.",),
        rexnet_layouts.from_ourselves,
        rexnet_layouts.from_ourselves,
    ),
    Layout(
        "authors",
        "rexnet",
        rexnet_layouts.AUTHORS_KEYS,
        rexnet_layouts.AUTHORS_BLOCK_KEYS,
        ("output.", "fc.", "classifier.", "head."),
        rexnet_layouts.from_authors,
        rexnet_layouts.to_authors,
    ),
    Layout(
        "timm",
        "rexnet",
        rexnet_layouts.TIMM_KEYS,
        rexnet_layouts.TIMM_BLOCK_KEYS,
        ("head.", "fc.", "classifier."),
        rexnet_layouts.from_timm,
        rexnet_layouts.to_timm,
    ),
)


def layout_by_name(name: str, family: str = "rexnet") -> Layout:
    """The layout of that name for a family of networks. Raises KeyError where there is none."""
    for layout in LAYOUTS:
        if layout.name == name and layout.family == family:
            return layout
    raise KeyError(f"{family} has no layout {name!r}")


def find_networks(keys: tuple[str, ...]) -> list[Match]:
    """Every network among the keys of a state: one match for each layout and prefix whose blocks are there."""
    return [match for layout in LAYOUTS for match in _find(layout, keys)]


def _find(layout: Layout, keys: tuple[str, ...]) -> list[Match]:
    counts: dict[str, int] = {}
    for key in keys:
        prefix = _prefix_before(layout.block_keys, key)
        if prefix is not None:
            counts[prefix] = counts.get(prefix, 0) + 1
    matches = []
    for prefix, number in counts.items():
        if number < _ENOUGH_BLOCK_TENSORS:
            continue
        under = [key for key in keys if key.startswith(prefix)]
        own = tuple(key for key in under if layout.keys.fullmatch(key[len(prefix) :]))
        known = set(own)
        extra = tuple(key for key in under if key not in known)
        outside = tuple(key for key in keys if not key.startswith(prefix))
        matches.append(Match(layout, prefix, own, extra, outside))
    return matches


def _prefix_before(pattern: re.Pattern[str], key: str) -> str | None:
    """What stands before the part of `key` that the whole pattern matches: "" or parts that end with a dot."""
    parts = key.split(".")
    for start in range(len(parts)):
        if pattern.fullmatch(".".join(parts[start:])):
            return "".join(f"{part}." for part in parts[:start])
    return None
