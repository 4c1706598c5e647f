"""A config's optimiser and schedules in words, as a record tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rexdet.mmdet.types import type_name


def optimizer_words(node: Mapping[str, Any]) -> str:
    """ "SGD momentum 0.9 weight decay 0.0001"."""
    words = [type_name(node)]
    if "momentum" in node:
        words.append(f"momentum {node['momentum']:g}")
    if "weight_decay" in node:
        words.append(f"weight decay {node['weight_decay']:g}")
    return " ".join(words)


def schedule_words(schedulers: Any) -> str:
    """The decay: "x0.1 at epochs 8, 11" or, in steps, "x0.1 at 60000, 80000"; "constant" where there is none."""
    words = [_decay(node) for node in _listed(schedulers) if not _is_warm_up(node)]
    return "; ".join(words) or "constant"


def warm_up_words(schedulers: Any) -> str:
    """The warm-up: "linear, 500 steps from 0.001"; "none" where there is none."""
    words = []
    for node in _listed(schedulers):
        if _is_warm_up(node):
            kind = type_name(node).removesuffix("LR").lower()
            factor = node.get("start_factor", node.get("factor", 1 / 3))
            words.append(f"{kind}, {node['end']} {'epochs' if _by_epoch(node) else 'steps'} from {factor:g}")
    return "; ".join(words) or "none"


def _decay(node: Mapping[str, Any]) -> str:
    if type_name(node) == "MultiStepLR":
        unit = "epochs " if _by_epoch(node) else ""
        return f"x{node.get('gamma', 0.1):g} at {unit}{', '.join(map(str, node['milestones']))}"
    known = {key: node[key] for key in ("T_max", "eta_min", "eta_min_ratio", "gamma", "power", "end") if key in node}
    return " ".join([type_name(node), *(f"{key} {value}" for key, value in known.items())])


def _is_warm_up(node: Mapping[str, Any]) -> bool:
    return type_name(node) in ("LinearLR", "ConstantLR", "QuadraticWarmupLR") and not node.get("begin", 0)


def _by_epoch(node: Mapping[str, Any]) -> bool:
    return bool(node.get("by_epoch", True))


def _listed(schedulers: Any) -> list[Any]:
    if schedulers is None:
        return []
    return [schedulers] if isinstance(schedulers, Mapping) else list(schedulers)
