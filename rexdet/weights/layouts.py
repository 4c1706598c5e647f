"""Key maps between publishers' layouts of one network, invertible to the bit.

A layout says which keys a publisher uses. All of a file's keys are held against every layout, whatever stands before
them (`module.`, `backbone.bottom_up.`, `module.encoder_q.` ...), and the layout whose blocks are found is the file's.
Layouts of a family of networks stand in a module of their own and are listed in `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rexdet.weights import detectron_layouts, lwdna_layouts, resnet_layouts, rexnet_layouts
from rexdet.weights.pixels import IMAGENET, Preprocessing

# Keys of this many tensors of blocks make a layout; fewer are a coincidence of names.
_ENOUGH_BLOCK_TENSORS = 10
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one publisher names the tensors of a family of networks.

    name: "ours", "authors", "timm", "torchvision", ... family: the networks it belongs to ("rexnet", "resnet").
    keys: what a whole key looks like. block_keys: those that only this layout has.
    head_keys: the beginnings of keys of a classifier, in whatever form.
    to_ours, from_ours: the maps of a whole state. from_ours raises ValueError where the layout has no such network.

    accepts: of layouts with the same keys, whether a state (its keys without prefix) is in this one.
    left_out: keys that belong to the publisher's file and are no part of the network.
    by_position: the keys of a network that their order tells and not their names; () for none.
    stride_in: where a bottleneck has its stride, as far as the layout tells. pixels: what its files usually take.
    foreign: what makes a network with further keys another one than ours, in words.
    """

    name: str
    family: str
    keys: re.Pattern[str]
    block_keys: re.Pattern[str]
    head_keys: tuple[str, ...]
    to_ours: Callable[[State], dict[str, Tensor]]
    from_ours: Callable[[State], dict[str, Tensor]]
    accepts: Callable[[State], bool] = lambda state: True
    left_out: re.Pattern[str] = re.compile(r"(?!)")
    by_position: Callable[[State], tuple[str, ...]] = lambda state: ()
    stride_in: Callable[[State], str | None] = lambda state: None
    pixels: Callable[[State], Preprocessing] = lambda state: IMAGENET
    foreign: Callable[[Iterable[str]], str] = lambda extra: ""

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
    does not have. left_out: those of them that the publisher's files have beside the network.
    outside: keys that do not start with the prefix.
    """

    layout: Layout
    prefix: str
    keys: tuple[str, ...]
    extra: tuple[str, ...]
    outside: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def tensors(self, state: State) -> dict[str, Tensor]:
        """The network's tensors in its publisher's layout, without prefix."""
        return {key[len(self.prefix) :]: state[key] for key in self.keys}

    def to_ours(self, state: State) -> dict[str, Tensor]:
        """The network's tensors in our layout. Raises ValueError for keys that contradict each other."""
        return self.layout.to_ours(self.tensors(state))


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
    Layout(
        "ours",
        "resnet",
        resnet_layouts.OUR_KEYS,
        resnet_layouts.OUR_BLOCK_KEYS,
        ("head.",),
        resnet_layouts.in_our_order,
        resnet_layouts.in_our_order,
    ),
    Layout(
        "torchvision",
        "resnet",
        resnet_layouts.TORCHVISION_KEYS,
        resnet_layouts.TORCHVISION_BLOCK_KEYS,
        ("fc.", "linear.", "classifier.", "head."),
        resnet_layouts.from_torchvision,
        resnet_layouts.to_torchvision,
        accepts=lambda state: resnet_layouts.is_torchvision(state) and not lwdna_layouts.contradicts_its_names(state),
        left_out=lwdna_layouts.LEFT_OUT,
        stride_in=resnet_layouts.torchvision_stride_in,
        foreign=resnet_layouts.foreign_part,
    ),
    Layout(
        "akamaster",
        "resnet",
        resnet_layouts.AKAMASTER_KEYS,
        resnet_layouts.TORCHVISION_BLOCK_KEYS,
        ("linear.", "fc."),
        resnet_layouts.from_torchvision,
        resnet_layouts.to_akamaster,
        accepts=resnet_layouts.is_akamaster,
        pixels=resnet_layouts.akamaster_pixels,
        foreign=resnet_layouts.foreign_part,
    ),
    Layout(
        "distiller",
        "resnet",
        resnet_layouts.TORCHVISION_KEYS,
        resnet_layouts.TORCHVISION_BLOCK_KEYS,
        ("fc.", "linear."),
        resnet_layouts.from_torchvision,
        resnet_layouts.to_distiller,
        accepts=resnet_layouts.is_distiller,
        pixels=resnet_layouts.distiller_pixels,
        foreign=resnet_layouts.foreign_part,
    ),
    Layout(
        "caffe2",
        "resnet",
        detectron_layouts.CAFFE2_KEYS,
        detectron_layouts.CAFFE2_BLOCK_KEYS,
        ("fc1000_", "pred_"),
        detectron_layouts.from_caffe2,
        detectron_layouts.to_caffe2,
        left_out=detectron_layouts.CAFFE2_LEFT_OUT,
        stride_in=detectron_layouts.caffe2_stride_in,
        pixels=detectron_layouts.caffe2_pixels,
    ),
    Layout(
        "detectron2_resnet",
        "resnet",
        detectron_layouts.DETECTRON2_KEYS,
        detectron_layouts.DETECTRON2_BLOCK_KEYS,
        ("linear.", "stem.fc."),
        detectron_layouts.from_detectron2,
        detectron_layouts.to_detectron2,
        stride_in=detectron_layouts.detectron2_stride_in,
        pixels=detectron_layouts.detectron2_pixels,
        foreign=detectron_layouts.foreign_part,
    ),
    Layout(
        "lwdna",
        "resnet",
        lwdna_layouts.KEYS,
        lwdna_layouts.BLOCK_KEYS,
        ("classifier.",),
        lwdna_layouts.from_names,
        resnet_layouts.to_torchvision,
        left_out=lwdna_layouts.LEFT_OUT,
        stride_in=lambda state: "3x3",
    ),
    Layout(
        "lwdna",
        "resnet",
        re.compile(r"(?!)"),
        re.compile(r"(?!)"),
        (),
        lwdna_layouts.from_positions,
        resnet_layouts.to_torchvision,
        left_out=lwdna_layouts.LEFT_OUT,
        by_position=lwdna_layouts.keys_by_position,
        stride_in=lambda state: "3x3",
    ),
)


# timm's plain ResNets have torchvision's keys.
_OTHER_NAMES = {("resnet", "timm"): "torchvision"}


def layout_by_name(name: str, family: str = "rexnet") -> Layout:
    """The layout of that name for a family of networks. Raises ValueError where there is none."""
    wanted = _OTHER_NAMES.get((family, name), name)
    for layout in LAYOUTS:
        if layout.name == wanted and layout.family == family:
            return layout
    there = dict.fromkeys(layout.name for layout in LAYOUTS if layout.family == family)
    raise ValueError(f"this family of networks has the layouts {', '.join(there)}")


def layout_names() -> list[str]:
    """The names of every layout, ours first."""
    return list(dict.fromkeys(layout.name for layout in LAYOUTS))


def find_networks(state: State) -> list[Match]:
    """Every network in a state: one match for each layout and prefix whose blocks are there.

    Where no names say anything, the order of the tensors may.
    """
    found = [match for layout in LAYOUTS for match in _find(layout, state)]
    return found or [match for layout in LAYOUTS for match in _find_by_position(layout, state)]


def _find(layout: Layout, state: State) -> list[Match]:
    counts: dict[str, int] = {}
    for key in state:
        prefix = _prefix_before(layout.block_keys, key)
        if prefix is not None:
            counts[prefix] = counts.get(prefix, 0) + 1
    matches = []
    for prefix, number in counts.items():
        if number < _ENOUGH_BLOCK_TENSORS:
            continue
        under = [key for key in state if key.startswith(prefix)]
        own = tuple(key for key in under if layout.keys.fullmatch(key[len(prefix) :]))
        if layout.accepts({key[len(prefix) :]: state[key] for key in own}):
            outside = tuple(key for key in state if not key.startswith(prefix))
            matches.append(_match(layout, prefix, own, under, outside))
    return matches


def _find_by_position(layout: Layout, state: State) -> list[Match]:
    own = layout.by_position(state)
    return [_match(layout, "", own, list(state), ())] if own else []


def _match(layout: Layout, prefix: str, own: tuple[str, ...], under: list[str], outside: tuple[str, ...]) -> Match:
    known = set(own)
    left_out = tuple(key for key in under if key not in known and layout.left_out.fullmatch(key[len(prefix) :]))
    extra = tuple(key for key in under if key not in known and key not in left_out)
    return Match(layout, prefix, own, extra, outside, left_out)


def _prefix_before(pattern: re.Pattern[str], key: str) -> str | None:
    """What stands before the part of `key` that the whole pattern matches: "" or parts that end with a dot."""
    parts = key.split(".")
    for start in range(len(parts)):
        if pattern.fullmatch(".".join(parts[start:])):
            return "".join(f"{part}." for part in parts[:start])
    return None
