"""The hyper-parameters that a ReXNet's tensors give away, read from a state in our layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rexdet.weights.shape_base import NetworkShape, Shaped, channels_of, differ, in_words, norm_of

BLOCKS = "blocks."


@dataclass(frozen=True)
class RexnetShape(NetworkShape):
    """What the tensors of a ReXNet say about it; None for what is not among them.

    stem: channels. blocks: output channels, block by block. hidden: channels inside each block.
    squeezed: channels inside each squeeze-excitation, 0 where a block has none.
    penultimate: channels of the last convolution. head: "linear", "lite" or None.
    """

    family: ClassVar[str] = "ReXNet"

    stem: int | None
    blocks: tuple[int | None, ...]
    hidden: tuple[int | None, ...]
    squeezed: tuple[int | None, ...]
    penultimate: int | None

    def summary(self) -> str:
        return f"stem {self.stem}, blocks {', '.join(map(str, self.blocks))}, last {self.penultimate}"

    def difference(self, model: Any) -> str:
        for name, theirs, ours in (
            ("stem channels", self.stem, model.stem),
            ("stage 1 channels", _first(self.blocks), _first(model.blocks)),
        ):
            if differ(theirs, ours):
                return in_words(name, theirs, ours)
        if self.penultimate is not None and model.penultimate is not None and len(self.blocks) != len(model.blocks):
            return in_words("depth (blocks)", len(self.blocks), len(model.blocks))
        for index, (theirs, ours) in enumerate(zip(self.blocks, model.blocks, strict=False)):
            if differ(theirs, ours):
                return in_words(f"channel growth (channels of block {index})", theirs, ours)
        for index, (theirs, ours) in enumerate(zip(self.squeezed, model.squeezed, strict=False)):
            if (theirs == 0) != (ours == 0):
                return in_words(f"squeeze-excitation of block {index}", _there(theirs), _there(ours))
            if differ(theirs, ours):
                return in_words(f"squeeze-excitation channels of block {index}", theirs, ours)
        for index, (theirs, ours) in enumerate(zip(self.hidden, model.hidden, strict=False)):
            if differ(theirs, ours):
                return in_words(f"expansion channels of block {index}", theirs, ours)
        if differ(self.penultimate, model.penultimate):
            return in_words("channels of the last convolution", self.penultimate, model.penultimate)
        if self.head and model.head and self.head != model.head:
            return in_words("form of the classifier head", self.head, model.head)
        return ""


def read_rexnet_shape(state: Mapping[str, Shaped]) -> RexnetShape:
    """The hyper-parameters of a state in our layout, whole or in parts."""
    indices = sorted({int(key.split(".")[1]) for key in state if key.startswith(BLOCKS)})
    blocks = range(indices[-1] + 1 if indices else 0)
    head = None
    if any(key.startswith("head.") for key in state):
        head = "lite" if any(key.startswith("head.hidden.") for key in state) else "linear"
    return RexnetShape(
        norm=norm_of(state),
        head=head,
        classes=channels_of(state, "head.classifier.weight" if head == "lite" else "head.weight"),
        channels=_free_widths(state),
        stem=channels_of(state, "stem.conv.weight"),
        blocks=tuple(channels_of(state, f"blocks.{index}.project.conv.weight") for index in blocks),
        hidden=tuple(channels_of(state, f"blocks.{index}.depthwise.conv.weight") for index in blocks),
        squeezed=tuple(_squeezed(state, index) for index in blocks),
        penultimate=channels_of(state, "penultimate.conv.weight"),
    )


def _free_widths(state: Mapping[str, Shaped]) -> dict[str, int]:
    """Widths by the path of the layer that writes them; a depthwise convolution's follows from what it reads."""
    widths = {}
    for key in state:
        path, _, leaf = key.rpartition(".")
        if leaf != "weight" or path.startswith("head"):
            continue
        if path.endswith(".conv") and not path.endswith(".depthwise.conv"):
            widths[path.removesuffix(".conv")] = int(state[key].shape[0])
        elif path.endswith(".squeeze_excitation.reduce"):
            widths[path] = int(state[key].shape[0])
    return widths


def _first(values: Sequence[int | None]) -> int | None:
    return values[0] if values else None


def _squeezed(state: Mapping[str, Shaped], index: int) -> int | None:
    beginning = f"blocks.{index}.squeeze_excitation."
    if not any(key.startswith(beginning) for key in state):
        return 0
    for key, dimension in ((f"{beginning}reduce.weight", 0), (f"{beginning}expand.weight", 1)):
        if key in state:
            return int(state[key].shape[dimension])
    return None


def _there(value: int | None) -> str:
    return "absent" if value == 0 else "present"
