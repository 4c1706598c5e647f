"""The hyper-parameters that a ReXNet's tensors give away, read from a state in our layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

STAGE_OF_FIRST_BLOCKS = "stage 1"


class Shaped(Protocol):
    """Anything with a shape: a tensor, on any device."""

    @property
    def shape(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class NetworkShape:
    """What the tensors of a ReXNet say about it; None for what is not among them.

    norm: "batch" or "group". stem: channels. blocks: output channels, block by block.
    hidden: channels inside each block. squeezed: channels inside each squeeze-excitation, 0 where a block has none.
    penultimate: channels of the last convolution. head: "linear", "lite" or None. classes: of the classifier.
    """

    norm: str
    stem: int | None
    blocks: tuple[int | None, ...]
    hidden: tuple[int | None, ...]
    squeezed: tuple[int | None, ...]
    penultimate: int | None
    head: str | None
    classes: int | None


def read_shape(state: Mapping[str, Shaped]) -> NetworkShape:
    """The hyper-parameters of a state in our layout, whole or in parts."""

    def channels(key: str) -> int | None:
        return int(state[key].shape[0]) if key in state else None

    indices = sorted({int(key.split(".")[1]) for key in state if key.startswith("blocks.")})
    blocks = range(indices[-1] + 1 if indices else 0)
    head = None
    if any(key.startswith("head.") for key in state):
        head = "lite" if any(key.startswith("head.hidden.") for key in state) else "linear"
    return NetworkShape(
        norm="batch" if any(key.endswith(".running_var") for key in state) else "group",
        stem=channels("stem.conv.weight"),
        blocks=tuple(channels(f"blocks.{index}.project.conv.weight") for index in blocks),
        hidden=tuple(channels(f"blocks.{index}.depthwise.conv.weight") for index in blocks),
        squeezed=tuple(_squeezed(state, index) for index in blocks),
        penultimate=channels("penultimate.conv.weight"),
        head=head,
        classes=channels("head.classifier.weight" if head == "lite" else "head.weight"),
    )


def first_difference(file: NetworkShape, model: NetworkShape) -> str:
    """The first hyper-parameter in which a file's network differs from a model, in words; "" where none does.

    What only one of the two has at its end (a backbone ends early) is no difference. The class count is none either.
    The activation cannot be told from tensors.
    """
    if file.norm != model.norm:
        return f"norm {file.norm} norm in the file, {model.norm} norm in the model"
    for name, theirs, ours in (
        ("stem channels", file.stem, model.stem),
        (f"{STAGE_OF_FIRST_BLOCKS} channels", _first(file.blocks), _first(model.blocks)),
    ):
        if _differ(theirs, ours):
            return _words(name, theirs, ours)
    if file.penultimate is not None and model.penultimate is not None and len(file.blocks) != len(model.blocks):
        return _words("depth (blocks)", len(file.blocks), len(model.blocks))
    for index, (theirs, ours) in enumerate(zip(file.blocks, model.blocks, strict=False)):
        if _differ(theirs, ours):
            return _words(f"channel growth (channels of block {index})", theirs, ours)
    for index, (theirs, ours) in enumerate(zip(file.squeezed, model.squeezed, strict=False)):
        if (theirs == 0) != (ours == 0):
            return _words(f"squeeze-excitation of block {index}", _there(theirs), _there(ours))
        if _differ(theirs, ours):
            return _words(f"squeeze-excitation channels of block {index}", theirs, ours)
    for index, (theirs, ours) in enumerate(zip(file.hidden, model.hidden, strict=False)):
        if _differ(theirs, ours):
            return _words(f"expansion channels of block {index}", theirs, ours)
    if _differ(file.penultimate, model.penultimate):
        return _words("channels of the last convolution", file.penultimate, model.penultimate)
    if file.head and model.head and file.head != model.head:
        return _words("form of the classifier head", file.head, model.head)
    return ""


def _first(values: Sequence[int | None]) -> int | None:
    return values[0] if values else None


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


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


def _words(name: str, file: object, model: object) -> str:
    return f"{name} {file} in the file, {model} in the model"
