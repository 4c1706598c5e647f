"""What every back end shares: inputs cut into pieces that fit the caches, outputs put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Outputs = Tensor | dict[str, Tensor]
Runner = Callable[[Tensor], Outputs]

IMAGE_PIXELS = 224 * 224


def images_at_a_time(x: Tensor, images_of_224: int) -> int:
    """How many images of `x` (B, C, H, W) to run together: as many pixels as `images_of_224` images of 224 x 224."""
    pixels = max(x.shape[2] * x.shape[3], 1)
    return max(1, images_of_224 * IMAGE_PIXELS // pixels)


def in_pieces(runner: Runner, x: Tensor, size: int) -> Outputs:
    """`runner` over `x` in pieces of `size` images; the outputs joined along the batch."""
    if x.shape[0] <= size:
        return runner(x)
    return joined([runner(piece) for piece in x.split(size)])


def joined(outputs: Sequence[Outputs]) -> Outputs:
    """Outputs of pieces of a batch, as the outputs of the whole batch."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat([output for output in outputs if isinstance(output, Tensor)])
    return {name: torch.cat([output[name] for output in outputs if isinstance(output, dict)]) for name in first}


def converted(outputs: Outputs, dtype: torch.dtype) -> Outputs:
    """Outputs in `dtype`."""
    if isinstance(outputs, Tensor):
        return outputs.to(dtype)
    return {name: value.to(dtype) for name, value in outputs.items()}


def relative_difference(ours: Outputs, reference: Outputs) -> float:
    """The largest difference over all outputs, each in units of its reference's largest magnitude."""
    if isinstance(ours, Tensor) and isinstance(reference, Tensor):
        scale = reference.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
        return float((ours.float() - reference.float()).abs().max() / scale)
    if isinstance(ours, dict) and isinstance(reference, dict):
        return max(relative_difference(ours[name], value) for name, value in reference.items())
    raise TypeError(f"outputs of two kinds: {type(ours).__name__} and {type(reference).__name__}")
