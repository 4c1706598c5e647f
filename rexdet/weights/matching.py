"""Which tensors of a file go where in a model, told by name and shape alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Batch norms count their batches; files that lack it are whole all the same.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Matching:
    """wanted: what the model asks for. missing: of it, what the file lacks. mismatched: what has another shape there,
    both in words. left: what the model has no place for. copies: the tensors that fit, counters included.
    """

    wanted: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    left: tuple[str, ...]
    copies: Mapping[str, Tensor]

    @property
    def loaded(self) -> int:
        """How many of `wanted` fit."""
        return len(self.wanted) - len(self.missing) - len(self.mismatched)


def match(target: Mapping[str, Tensor], state: Mapping[str, Tensor], skipped: Iterable[str] = ()) -> Matching:
    """Compare a model's tensors with those of a file in the model's layout. skipped: keys that stay as they are."""
    passed_over = set(skipped)
    wanted = tuple(key for key in target if key not in passed_over and not key.endswith(COUNTER))
    here = [key for key in wanted if key in state]
    fitting = [key for key in here if state[key].shape == target[key].shape]
    counters = [key for key in target if key.endswith(COUNTER) and key in state]
    return Matching(
        wanted=wanted,
        missing=tuple(key for key in wanted if key not in state),
        mismatched=tuple(
            f"{key} {list(state[key].shape)} in the file, {list(target[key].shape)} in the model"
            for key in here
            if state[key].shape != target[key].shape
        ),
        left=tuple(key for key in state if key not in target and not key.endswith(COUNTER)),
        copies={key: state[key] for key in (*fitting, *counters)},
    )


def copy_into(target: Mapping[str, Tensor], copies: Mapping[str, Tensor]) -> None:
    """Write tensors over a model's own, in its dtype and on its device."""
    with torch.no_grad():
        for key, tensor in copies.items():
            target[key].copy_(tensor)
