"""The hyper-parameters that a network's tensors give away, read from a state in our layout: one reader a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rexdet.weights import resnet_shapes, rexnet_shapes
from rexdet.weights.shape_base import CLASSIFIER_KEYS, NetworkShape, Shaped, in_words

__all__ = ["CLASSIFIER_KEYS", "NetworkShape", "Shaped", "first_difference", "read_shape"]

# How the keys of a family's blocks begin -> its reader.
_READERS: dict[str, Callable[[Mapping[str, Shaped]], NetworkShape]] = {
    rexnet_shapes.BLOCKS: rexnet_shapes.read_rexnet_shape,
    resnet_shapes.BLOCKS: resnet_shapes.read_resnet_shape,
}


def read_shape(state: Mapping[str, Shaped]) -> NetworkShape:
    """The hyper-parameters of a state in our layout, whole or in parts. Raises ValueError where it has no block."""
    for beginning, read in _READERS.items():
        if any(key.startswith(beginning) for key in state):
            return read(state)
    raise ValueError("no tensor of a block of any family of networks")


def first_difference(file: NetworkShape, model: NetworkShape) -> str:
    """The first hyper-parameter in which a file's network differs from a model, in words; "" where none does.

    What only one of the two has at its end (a backbone ends early) is no difference. The class count is none either.
    What leaves no trace in tensors (the activation, where a stride stands) cannot be told from them.
    """
    if file.family != model.family:
        return in_words("family", file.family, model.family)
    if file.norm != model.norm:
        return f"norm {file.norm} norm in the file, {model.norm} norm in the model"
    return file.difference(model)
