"""What a protocol id stands for: how a published number was trained and measured, as far as that is known."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

UNKNOWN = "unknown"
Unknown = Literal["unknown"]
Words = Annotated[str, Field(min_length=1)]


class Protocol(BaseModel):
    """How a number came about. A field that no source tells is the text "unknown"; none has a default, so that nobody
    leaves one out.

    Fields that a run's record has too carry its name and its wording (`rexdet.runs.parts.Recipe`), so that the two can
    be held against each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(description="the name that tables use")
    title: Words = Field(description="what people call it")
    source: str = Field(description="id of the source that tells it")
    place: Words = Field(description="where in the source")
    note: str = Field(default="", description="what a reader must know before comparing")
    toolbox: Words = Field(description="library that trained")
    effective_batch: int | Unknown = Field(description="images per optimiser step, over all processes")
    optimizer: Words = Field(description="optimiser, with momentum and weight decay")
    base_lr: float | Unknown = Field(description="learning rate after the warm-up, before any decay")
    warm_up: Words = Field(description="kind, steps, first factor")
    schedule: Words = Field(description="decay in words")
    iterations: int | Unknown = Field(description="optimiser steps; unknown where epochs are told instead")
    epochs: float | Unknown = Field(
        description="passes through the training data; unknown where steps are told instead"
    )
    augmentation: Words = Field(description="what is done to training images beside resizing")
    train_size: Words = Field(description="size of training images, pixels")
    test_size: Words = Field(description="size of test images, pixels")
    initial_weights: Words = Field(description="what training starts from")
    train_split: Words = Field(description="images trained on")
    test_split: Words = Field(description="images measured on")


class DetectionProtocol(Protocol):
    """A detector's: what happens to the backbone's norms and first stages belongs to it."""

    kind: Literal["detection"]
    norm: Words = Field(description="norm of the backbone while the detector trains")
    freeze_at: int | Unknown = Field(
        description="how many stages do not learn, as detectron2 counts (2: stem and res2)"
    )


class ClassificationProtocol(Protocol):
    """A classifier's: trained from scratch, fine-tuned, or a linear one on fixed features."""

    kind: Literal["classification"]
    runs: int | Unknown = Field(description="independent runs that the number is the mean of")


AnyProtocol = Annotated[DetectionProtocol | ClassificationProtocol, Field(discriminator="kind")]

_DESCRIBING = ("id", "title", "source", "place", "note")


def differences(one: Protocol, other: Protocol) -> dict[str, tuple[object, object]]:
    """The fields in which two protocols are not known to be equal: name -> (value of `one`, value of `other`).

    A field that either does not tell counts as different; epochs and iterations say one thing in two units, so one of
    them that is equal in both settles the other where that is unknown in either. Empty: numbers of the two may be
    subtracted from each other.
    """
    names = [name for name in type(one).model_fields if name not in _DESCRIBING]
    names += [name for name in type(other).model_fields if name not in (*names, *_DESCRIBING)]
    found = {}
    for name in names:
        left, right = getattr(one, name, UNKNOWN), getattr(other, name, UNKNOWN)
        if left != right or _is_unknown(left):
            found[name] = (left, right)
    for told, silent in (("iterations", "epochs"), ("epochs", "iterations")):
        if told not in found and silent in found and any(_is_unknown(value) for value in found[silent]):
            del found[silent]
    return found


def _is_unknown(value: object) -> bool:
    return isinstance(value, str) and value == UNKNOWN
