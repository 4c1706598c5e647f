"""One network of another package as its tensors show it: keys, shapes, which of them are the classifier's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from rexdet.errors import UserError
from rexdet.zoo.external_timm import timm_model
from rexdet.zoo.external_torchvision import torchvision_model
from rexdet.zoo.names import Name

T = TypeVar("T")


class ExternalNetwork:
    """A network of timm or torchvision, built with these overrides; its keys are those of the package's classifier.

    An N:M rule and a tag are no part of it: neither changes keys or shapes.
    """

    def __init__(self, name: Name, overrides: Mapping[str, Any] | None = None) -> None:
        self.base = Name(name.base, package=name.package)
        self.name = str(self.base)
        self.package = name.package
        self.overrides = dict(overrides or {})

    def build(self, num_classes: int | None = None) -> nn.Module:
        """The classifier with random weights."""
        make = timm_model if self.package == "timm" else torchvision_model
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return make(self.base, {**self.overrides, **classes})

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Key -> shape of every tensor of the classifier, in the package's order."""
        return _shapes(on_meta(self.build))

    @cached_property
    def classifier_keys(self) -> tuple[str, ...]:
        """The tensors whose shape follows the number of classes."""
        classes = next(reversed(self.shapes.values()))[0] + 1
        other = _shapes(on_meta(lambda: self.build(classes)))
        return tuple(key for key, shape in self.shapes.items() if other.get(key) != shape)

    def canonical(self, key: str) -> str:
        """The package's own key of a tensor, from the one that timm's feature extractor has made of it.

        Where the extractor takes a sequence apart it writes `stages_0.` for `stages.0.`. Other keys stay.
        """
        if key in self.shapes:
            return key
        first, dot, rest = key.partition(".")
        pieces = first.split("_")
        for at in range(1, len(pieces)):
            candidate = f"{'_'.join(pieces[:at])}.{'_'.join(pieces[at:])}{dot}{rest}"
            if candidate in self.shapes:
                return candidate
        return key


def on_meta(build: Callable[[], T]) -> T:
    """What `build` makes, without memory for its numbers; with memory where its constructor computes with tensors."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        pass
    except UserError as error:
        # Errors of the package's constructors arrive in one line; this one is no mistake of the user's.
        if not isinstance(error.__cause__, NotImplementedError):
            raise
    with torch.device("cpu"):
        return build()


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
