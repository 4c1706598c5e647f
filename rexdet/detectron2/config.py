"""The MODEL.REXDET node of a detectron2 config: its defaults, and its values once they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.config import CfgNode

from rexdet.errors import UserError
from rexdet.zoo.names import names_weights, without_tag

NORMS = ("BN", "FrozenBN", "SyncBN", "GN")
PLAIN_BUILDER = "build_rexdet_backbone"
FPN_BUILDER = "build_rexdet_fpn_backbone"
RETINANET_BUILDER = "build_retinanet_rexdet_fpn_backbone"
BUILDERS = (PLAIN_BUILDER, FPN_BUILDER, RETINANET_BUILDER)

# Key -> default. What each means is told in docs/detectron2.md.
DEFAULTS: dict[str, Any] = {
    "NAME": "rexnet_1.0",
    "WEIGHTS": "",
    "PIXELS": "",
    "NORM": "",
    "OUT_FEATURES": [],
    "DROP_PATH": 0.0,
    "ACT_CHECKPOINT": False,
    "OVERRIDES": [],
}


def add_rexdet_config(cfg: CfgNode) -> None:
    """Give a config the MODEL.REXDET node; keys that it has already keep their values, so calling twice is harmless."""
    was_frozen = cfg.is_frozen()
    cfg.defrost()
    if "REXDET" not in cfg.MODEL:
        cfg.MODEL.REXDET = CfgNode()
    for key, value in DEFAULTS.items():
        if key not in cfg.MODEL.REXDET:
            cfg.MODEL.REXDET[key] = list(value) if isinstance(value, list) else value
    if "OPTIMIZER" not in cfg.SOLVER:
        # Read by tools/train_det.py: SGD, or AdamW with detectron2's parameter groups. Other trainers do not know it.
        cfg.SOLVER.OPTIMIZER = "SGD"
    if was_frozen:
        cfg.freeze()


@dataclass(frozen=True)
class BackboneSettings:
    """What a config says about the backbone, each value checked for its form.

    name: a network's name, which may carry a @tag (a published checkpoint).
    weights: a file or name@tag with the backbone's weights, or "".
    pixels: the user's word on what the weights were trained with, or "".
    norm: one of NORMS, or "" for the default of its start (FrozenBN with weights, BN without).
    out_features: feature maps asked for by MODEL.REXDET.OUT_FEATURES; empty: those that the neck reads.
    drop_path: rate of the last block, 0 <= rate < 1.
    activation_checkpointing: recompute activations in the backward pass.
    overrides: further arguments of the network.
    """

    name: str = DEFAULTS["NAME"]
    weights: str = ""
    pixels: str = ""
    norm: str = ""
    out_features: tuple[str, ...] = ()
    drop_path: float = 0.0
    activation_checkpointing: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the backbone's weights come from: a file, a name@tag, or "" for random ones."""
        return self.name if names_weights(self.name) else self.weights

    @property
    def network(self) -> str:
        """The network's name without a tag."""
        return without_tag(self.name)


def read_settings(cfg: CfgNode) -> BackboneSettings:
    """The MODEL.REXDET node of `cfg`, checked; a missing node or key means its default.

    Raises UserError for a value of the wrong form, and where NAME has a @tag and WEIGHTS is given too.
    """
    node = {**DEFAULTS, **cfg.MODEL.get("REXDET", {})}
    for key in ("NAME", "WEIGHTS", "PIXELS", "NORM"):
        if not isinstance(node[key], str):
            raise _wrong(key, node[key], "a text", f'"{node[key]}"')
    if not node["NAME"]:
        raise UserError("names no network", _where("NAME"), "write a name such as rexnet_1.0")
    if names_weights(node["NAME"]) and node["WEIGHTS"]:
        raise UserError(
            f"MODEL.REXDET.NAME is {node['NAME']}, which has published weights, and MODEL.REXDET.WEIGHTS is "
            f"{node['WEIGHTS']}: two sources for one backbone",
            fix="empty MODEL.REXDET.WEIGHTS, or drop the @tag from MODEL.REXDET.NAME",
        )
    if node["NORM"] not in ("", *NORMS):
        raise UserError(f"norm {node['NORM']!r} is not one of {', '.join(NORMS)}", _where("NORM"))
    if not isinstance(node["ACT_CHECKPOINT"], bool):
        raise _wrong("ACT_CHECKPOINT", node["ACT_CHECKPOINT"], "True or False", "True")
    return BackboneSettings(
        name=node["NAME"],
        weights=node["WEIGHTS"],
        pixels=node["PIXELS"],
        norm=node["NORM"],
        out_features=_read_names(node["OUT_FEATURES"]),
        drop_path=_read_rate(node["DROP_PATH"]),
        activation_checkpointing=node["ACT_CHECKPOINT"],
        overrides=read_overrides(node["OVERRIDES"]),
    )


def uses_rexdet(cfg: CfgNode) -> bool:
    """Whether the config's backbone is built by one of our builders."""
    return cfg.MODEL.BACKBONE.NAME in BUILDERS


def read_overrides(value: Any) -> dict[str, Any]:
    """Arguments for the network from pairs: [["depth", 1.2], ["lite", True]], or flat: ["depth", 1.2, "lite", True].

    Raises UserError for anything else, or a name that stands twice.
    """
    where = _where("OVERRIDES")
    example = 'write pairs: [["depth", 1.2], ["squeeze_excitation", False]]'
    if not _is_list(value):
        raise UserError(f"{value!r} is not a list", where, example)
    flat = [part for pair in value for part in (pair if _is_list(pair) else [pair])]
    nested = [pair for pair in value if _is_list(pair)]
    if len(flat) % 2 or any(len(pair) != 2 for pair in nested) or (nested and len(nested) != len(value)):
        raise UserError(f"{list(value)!r} does not consist of pairs", where, example)
    names = flat[::2]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UserError(f"{list(value)!r} needs a name first in each pair, and each name once", where, example)
    return dict(zip(names, flat[1::2], strict=True))


def _read_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise _wrong("OUT_FEATURES", value, "a list", f'["{value}"]')
    if not _is_list(value) or not all(isinstance(name, str) for name in value):
        raise _wrong("OUT_FEATURES", value, "a list of feature names", '["res3", "res4", "res5"]')
    return tuple(value)


def _read_rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise UserError(f"drop path rate {value!r} is not a number in [0, 1)", _where("DROP_PATH"))
    return float(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _where(key: str) -> str:
    return f"MODEL.REXDET.{key}"


def _wrong(key: str, value: Any, wanted: str, example: str) -> UserError:
    return UserError(f"{value!r} is not {wanted}", _where(key), f"write {example}")
