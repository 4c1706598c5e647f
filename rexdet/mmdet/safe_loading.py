"""mmengine's own checkpoints under torch's safe loading.

mmengine keeps the history of losses in its checkpoints as objects, which `torch.load` refuses since torch 2.6. Exactly
what mmengine stores is allowed here; safe loading itself stays on, and any other class is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

# A history names its statistics as methods of its class, which a pickle writes as getattr(HistoryBuffer, "mean").
_STATISTICS = ("min", "max", "current", "mean")
_NUMBERS = ("float64", "float32", "int64", "int32", "bool")


def allow_mmengine_checkpoints() -> None:
    """Let `torch.load(weights_only=True)` open what mmengine stores: histories, and NumPy's arrays and numbers."""
    torch.serialization.add_safe_globals(stored_by_mmengine())


def stored_by_mmengine() -> list[Any]:
    """The classes and functions that a checkpoint of mmengine names, as `add_safe_globals` takes them."""
    allowed: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in _NUMBERS)]
    # The real getattr is not among them: the one in its place gives a history's statistics and nothing else.
    allowed.append((_statistics_method, "builtins.getattr"))
    for name in ("_reconstruct", "scalar"):
        function = getattr(_multiarray(), name)
        # NumPy 2 moved the module; files name the one of the NumPy that wrote them.
        allowed += [(function, f"numpy._core.multiarray.{name}"), (function, f"numpy.core.multiarray.{name}")]
    return allowed


def _statistics_method(owner: object, name: str) -> Callable[..., Any]:
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(f"getattr({owner!r}, {name!r}) is nothing that mmengine stores")
    method: Callable[..., Any] = getattr(HistoryBuffer, name)
    return method


def _multiarray() -> Any:
    if hasattr(np, "_core"):
        return np._core.multiarray
    return np.core.multiarray  # type: ignore[attr-defined,unused-ignore]
