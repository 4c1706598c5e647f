"""What the shapes of every family of networks have in common: what they tell, and how a difference is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

# The tensors of a classifier whose first dimension is the class count. ReXNet-lite's hidden layer is not among them.
CLASSIFIER_KEYS = ("head.weight", "head.bias", "head.classifier.weight", "head.classifier.bias")


class Shaped(Protocol):
    """Anything with a shape: a tensor, on any device."""

    @property
    def shape(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class NetworkShape:
    """What the tensors of a network say about it, whole or in parts; each family adds its own hyper-parameters.

    norm: "batch" or "group". head: the form of the classifier, None where there is none. classes: of the classifier.
    channels: the output channels of each layer whose width is free, as the network's `channels` names them.
    """

    family: ClassVar[str] = ""

    norm: str
    head: str | None
    classes: int | None
    channels: Mapping[str, int]

    def summary(self) -> str:
        """The hyper-parameters in a few words, for a person."""
        raise NotImplementedError

    def difference(self, model: Any) -> str:
        """The first hyper-parameter in which this file differs from a model of the same family; "" for none."""
        raise NotImplementedError


def norm_of(state: Mapping[str, Shaped]) -> str:
    """ "batch" or "group": only a batch norm has statistics."""
    return "batch" if any(key.endswith(".running_var") for key in state) else "group"


def channels_of(state: Mapping[str, Shaped], key: str) -> int | None:
    """The output channels of the layer with that weight; None where it is not in the state."""
    return int(state[key].shape[0]) if key in state else None


def differ(one: object, other: object) -> bool:
    """Both are known, and they are not the same."""
    return one is not None and other is not None and one != other


def in_words(name: str, file: object, model: object) -> str:
    """ "cardinality 32 in the file, 1 in the model"."""
    return f"{name} {file} in the file, {model} in the model"
