"""The hyper-parameters that the tensors of a ResNet or ResNeXt give away, read from a state in our layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rexdet.weights.shape_base import NetworkShape, Shaped, channels_of, differ, in_words, norm_of

BLOCKS = "stages."


@dataclass(frozen=True)
class ResNetShape(NetworkShape):
    """What the tensors of a ResNet say about it; None for what is not among them.

    depths: blocks of each stage. block: "bottleneck", "basic" or None. cardinality: groups of a bottleneck's middle
    convolution. stem_kernel: its side in pixels, 7 in the ImageNet form and 3 in the CIFAR one.
    stem_norm: whether a norm follows the stem. projections: the paths of the shortcuts that are convolutions.
    """

    family: ClassVar[str] = "ResNet"

    depths: tuple[int, ...]
    block: str | None
    cardinality: int | None
    stem_kernel: int | None
    stem_norm: bool | None
    projections: frozenset[str]

    @property
    def base_width(self) -> int | None:
        """Channels of one group in the first block that tells: the d of C x d."""
        unit = "unit2" if self.block == "bottleneck" else "unit1"
        for path, channels in self.channels.items():
            parts = path.split(".")
            if parts[0] == "stages" and parts[3] == unit:
                share, rest = divmod(channels, (self.cardinality or 1) * 2 ** int(parts[1]))
                return None if rest else share
        return None

    def summary(self) -> str:
        form = f"{self.cardinality}x{self.base_width}d" if self.block == "bottleneck" else f"width {self.base_width}"
        return f"stem {self.channels.get('stem')}, {self.block} blocks {_blocks(self.depths)}, {form}"

    def difference(self, model: Any) -> str:
        for name, theirs, ours in (
            ("stem (side of its kernel)", self.stem_kernel, model.stem_kernel),
            ("kind of block", self.block, model.block),
            ("cardinality", self.cardinality, model.cardinality),
            *self._depths_beside(model),
            ("stem channels", self.channels.get("stem"), model.channels.get("stem")),
            ("stem norm", _there(self.stem_norm), _there(model.stem_norm)),
            ("base width", self.base_width, model.base_width),
            *self._shortcuts_beside(model),
        ):
            if differ(theirs, ours):
                return in_words(name, theirs, ours)
        for path, channels in self.channels.items():
            if differ(channels, model.channels.get(path)):
                return in_words(f"channels of {path}", channels, model.channels[path])
        return ""

    def _depths_beside(self, model: ResNetShape) -> list[tuple[str, str, str]]:
        """The depths, where both networks reach their end or the stages that both have are not equally deep."""
        shared = min(len(self.depths), len(model.depths))
        both_end = self.head is not None and model.head is not None
        if both_end or self.depths[:shared] != model.depths[:shared]:
            return [("depth (blocks of each stage)", _blocks(self.depths), _blocks(model.depths))]
        return []

    def _shortcuts_beside(self, model: ResNetShape) -> list[tuple[str, str, str]]:
        stages = min(len(self.depths), len(model.depths))
        paths = [f"stages.{stage}.0.projection" for stage in range(stages)]
        return [
            (
                f"shortcut of stage {stage + 1}",
                _shortcut(path in self.projections),
                _shortcut(path in model.projections),
            )
            for stage, path in enumerate(paths)
        ]


def read_resnet_shape(state: Mapping[str, Shaped]) -> ResNetShape:
    """The hyper-parameters of a state in our layout, whole or in parts."""
    channels = {
        key.removesuffix(".conv.weight"): int(state[key].shape[0]) for key in state if key.endswith(".conv.weight")
    }
    stem = state.get("stem.conv.weight")
    return ResNetShape(
        norm=norm_of(state),
        head="linear" if any(key.startswith("head.") for key in state) else None,
        classes=channels_of(state, "head.weight"),
        channels=channels,
        depths=_depths(state),
        block=_block(state),
        cardinality=_cardinality(state),
        stem_kernel=int(stem.shape[2]) if stem is not None and len(stem.shape) == 4 else None,
        stem_norm=_stem_norm(state),
        projections=frozenset(path for path in channels if path.endswith(".projection")),
    )


def _depths(state: Mapping[str, Shaped]) -> tuple[int, ...]:
    depths: list[int] = []
    for key in state:
        if key.startswith(BLOCKS):
            stage, block = map(int, key.split(".")[1:3])
            depths += [0] * (stage + 1 - len(depths))
            depths[stage] = max(depths[stage], block + 1)
    return tuple(depths)


def _block(state: Mapping[str, Shaped]) -> str | None:
    if any(".unit3." in key for key in state):
        return "bottleneck"
    return "basic" if any(".unit2." in key for key in state) else None


def _cardinality(state: Mapping[str, Shaped]) -> int | None:
    """Groups of the first bottleneck that tells: channels that its middle convolution is given, by those it reads."""
    if _block(state) != "bottleneck":
        return None
    for key in state:
        if key.startswith(BLOCKS) and key.endswith(".unit2.conv.weight"):
            before = state.get(key.replace(".unit2.", ".unit1."))
            if before is not None and int(state[key].shape[1]) > 0:
                return int(before.shape[0]) // int(state[key].shape[1])
    return None


def _stem_norm(state: Mapping[str, Shaped]) -> bool | None:
    if any(key.startswith("stem.norm.") for key in state):
        return True
    return False if "stem.conv.bias" in state else None


def _blocks(depths: tuple[int, ...]) -> str:
    return "-".join(map(str, depths))


def _shortcut(is_projection: bool) -> str:
    return "a convolution" if is_projection else "without parameters"


def _there(value: bool | None) -> str | None:
    return None if value is None else "present" if value else "absent"
