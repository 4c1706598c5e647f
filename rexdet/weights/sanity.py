"""Numbers that no trained network has: found before they cost a run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rexdet.errors import UserError
from rexdet.weights.detectron_layouts import has_folded_norms


def refuse_broken_numbers(state: Mapping[str, Tensor], where: str) -> None:
    """Raise UserError for the first tensor with NaN, infinity or a negative variance."""
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
            raise UserError(f"holds {kind} in {key}", where=where, fix="use another file: these weights are broken")
        if key.endswith(".running_var") and tensor.numel() and float(tensor.min()) < 0.0:
            raise UserError(
                f"holds a negative variance in {key} ({float(tensor.min()):g})",
                where=where,
                fix="use another file: these weights are broken",
            )


def suspicions(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What makes it unlikely that a state (in our layout) comes from training, in words; empty where nothing does."""
    found = []
    convolutions = [key for key in state if key.endswith("conv.weight")]
    zeros = [key for key in convolutions if not bool(state[key].any())]
    if zeros:
        found.append(
            f"every weight of {zeros[0]} is 0" + (f" (and of {len(zeros) - 1} more)" if len(zeros) > 1 else "")
        )
    means = [tensor for key, tensor in state.items() if key.endswith(".running_mean")]
    variances = [tensor for key, tensor in state.items() if key.endswith(".running_var")]
    untouched = means and not any(bool(mean.any()) for mean in means)
    if untouched and all(bool((variance == 1).all()) for variance in variances):
        found.append("every norm's running mean is 0 and variance 1: statistics that no training has touched")
    if has_folded_norms(state):
        found.append("its norms are folded into scale and shift: right under norm FrozenBN, wrong under BN that trains")
    return tuple(found)
