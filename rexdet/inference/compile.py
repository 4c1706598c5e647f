"""The back ends inside torch: the folded form as it is ("eager"), and compiled ("compile")."""

from __future__ import annotations

import os
import shutil
import sys
import warnings

import torch
from torch import Tensor, nn

from rexdet.inference.fold import fold
from rexdet.inference.runners import Outputs, Runner, converted, images_at_a_time, in_pieces

# Larger batches leave the caches (and make the allocator ask the system for pages again and again).
IMAGES_AT_A_TIME = 4


def compiler() -> str | None:
    """The path of the C++ compiler that torch.compile would call on a CPU, or None where there is none."""
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(name)


def eager_runner(model: nn.Module, dtype: torch.dtype) -> Runner:
    """The folded form of `model` in `dtype`, channels_last."""
    module = fold(model).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _runner(module, dtype)


def compiled_runner(model: nn.Module, dtype: torch.dtype) -> Runner:
    """The folded form of `model` in `dtype`, channels_last, compiled; without a C++ compiler the eager form.

    The fall-back is a warning, once for each place that asks.
    torch compiles at the first call, and again, then for any size, at the first call with another size.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    if on_cpu and compiler() is None:
        warnings.warn(
            "torch.compile needs a C++ compiler and none was found: the folded eager form stands in"
            ' (install g++, or use backend="openvino", which needs none)',
            RuntimeWarning,
            stacklevel=3,
        )
        return eager_runner(model, dtype)
    module = fold(model).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _runner(torch.compile(module), dtype)  # type: ignore[arg-type]


def _runner(module: nn.Module, dtype: torch.dtype) -> Runner:
    def run(x: Tensor) -> Outputs:
        with torch.no_grad():
            prepared = x.to(dtype=dtype, memory_format=torch.channels_last)
            size = images_at_a_time(x, IMAGES_AT_A_TIME) if x.device.type == "cpu" else x.shape[0]
            return converted(in_pieces(module, prepared, size), x.dtype)

    return run
