"""From the arguments of a backbone in an MMDetection config to a network with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

import rexdet
from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID
from rexdet.weights import Checkpoint
from rexdet.zoo.external import create_external_backbone
from rexdet.zoo.names import names_weights, parse, without_tag
from rexdet.zoo.open import asks_its_weights, build_backbone, network_spec
from rexdet.zoo.published import entry

# What a norm_cfg may be called -> our name of the norm.
NORMS = {
    "BN": "BN",
    "BN2d": "BN",
    "SyncBN": "SyncBN",
    "MMSyncBN": "SyncBN",
    "GN": "GN",
    "FrozenBN": "FrozenBN",
}
NORM_KEYS = ("type", "requires_grad", "eps", "momentum", "num_groups")
# MMDetection counts from -1 (nothing frozen) and 0 (the stem) to 4; detectron2's FREEZE_AT is one more.
FROZEN_STAGES = range(-1, 5)


@dataclass(frozen=True)
class BackboneSettings:
    """What a config says about the backbone, each value checked for its form.

    name: a network's name, which may carry a @tag (a published checkpoint). checkpoint: a file or name@tag with the
    backbone's weights, or "". pixels: the user's word on what the weights were trained with, or "".
    out_features: feature maps, in the order of the output. norm: "BN", "FrozenBN", "SyncBN" or "GN".
    norm_learns: whether the scale and shift of the norms learn. norm_numbers: eps and momentum where they are given.
    frozen_stages: as MMDetection counts. with_cp: recompute activations. drop_path_rate: of the last block.
    overrides: further arguments of the network.
    """

    name: str
    checkpoint: str = ""
    pixels: Any = ""
    out_features: tuple[str, ...] = PYRAMID
    norm: str = "BN"
    norm_learns: bool = True
    norm_numbers: Mapping[str, float] = field(default_factory=dict)
    frozen_stages: int = -1
    with_cp: bool = False
    drop_path_rate: float = 0.0
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the backbone's weights come from: a file, a name@tag, or "" for random ones."""
        return self.name if names_weights(self.name) else self.checkpoint

    @property
    def network(self) -> str:
        """The network's name without a tag."""
        return without_tag(self.name)


def read_settings(
    name: Any,
    *,
    out_indices: Sequence[int] | None,
    out_features: Sequence[str] | None,
    frozen_stages: int,
    norm_cfg: Mapping[str, Any] | None,
    with_cp: bool,
    drop_path_rate: float,
    checkpoint: str,
    pixels: Any,
    overrides: Mapping[str, Any] | None,
    filled_later: bool = False,
) -> BackboneSettings:
    """The arguments of `RexDetBackbone`, checked. Raises UserError for a value of the wrong form.

    filled_later: the weights come with a whole detector's file, so that a frozen norm needs none here.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"name is {name!r}", _where("name"), 'write a name such as "rexnet_1.0"')
    if names_weights(name) and checkpoint:
        raise UserError(
            f"{name} names its weights already, and init_cfg names {checkpoint}: two sources for one backbone",
            fix="leave init_cfg out, or drop the @tag from name",
        )
    has_weights = bool(checkpoint) or names_weights(name)
    # One rule in every engine: norms are frozen with weights, and batch norms without.
    norm, learns, numbers = read_norm(norm_cfg or {"type": "FrozenBN" if has_weights else "BN"})
    if norm == "FrozenBN" and not has_weights and not filled_later:
        raise UserError(
            f"norm_cfg is FrozenBN but {name} has random weights: a frozen norm without statistics",
            _where("norm_cfg"),
            'give init_cfg=dict(type="Pretrained", checkpoint=...), or norm_cfg=dict(type="BN")',
        )
    if not isinstance(frozen_stages, int) or isinstance(frozen_stages, bool) or frozen_stages not in FROZEN_STAGES:
        raise UserError(f"frozen_stages is {frozen_stages!r}", _where("frozen_stages"), FROZEN_HELP)
    if isinstance(drop_path_rate, bool) or not isinstance(drop_path_rate, int | float) or not 0 <= drop_path_rate < 1:
        raise UserError(f"drop_path_rate is {drop_path_rate!r}", _where("drop_path_rate"), "a number in [0, 1)")
    return BackboneSettings(
        name=name,
        checkpoint=checkpoint,
        pixels=pixels or "",
        out_features=_read_features(out_indices, out_features),
        norm=norm,
        norm_learns=learns,
        norm_numbers=numbers,
        frozen_stages=frozen_stages,
        with_cp=bool(with_cp),
        drop_path_rate=float(drop_path_rate),
        overrides=dict(overrides or {}),
    )


FROZEN_HELP = "it counts as MMDetection does: -1 nothing, 0 the stem, 1 the stem and the first stage, up to 4, all"


def read_norm(given: Mapping[str, Any]) -> tuple[str, bool, dict[str, float]]:
    """(our name of the norm, whether it learns, eps and momentum as far as given). Raises UserError."""
    if not isinstance(given, Mapping) or "type" not in given:
        raise UserError(f"norm_cfg is {given!r}", _where("norm_cfg"), 'write dict(type="BN", requires_grad=True)')
    unknown = [key for key in given if key not in NORM_KEYS]
    if given["type"] not in NORMS or unknown:
        what = f"norm_cfg has {unknown[0]!r}" if unknown else f"norm_cfg type {given['type']!r} is not known"
        fix = f"its keys are {', '.join(NORM_KEYS)}" if unknown else f"one of {', '.join(NORMS)}"
        raise UserError(what, _where("norm_cfg"), fix)
    norm = NORMS[given["type"]]
    if given.get("num_groups", 32) != 32:
        raise UserError(
            f"num_groups is {given['num_groups']}",
            _where("norm_cfg"),
            "leave it out: each norm takes the largest number of groups up to 32 that divides its channels",
        )
    return norm, bool(given.get("requires_grad", True)), {k: float(given[k]) for k in ("eps", "momentum") if k in given}


def _read_features(out_indices: Sequence[int] | None, out_features: Sequence[str] | None) -> tuple[str, ...]:
    if out_features is not None:
        if out_indices is not None:
            raise UserError("out_indices and out_features are both given", _where("out_indices"), "give one of them")
        if isinstance(out_features, str) or not out_features:
            raise UserError(f"out_features is {out_features!r}", _where("out_features"), f"a list of {PYRAMID}")
        return tuple(out_features)
    indices = (0, 1, 2, 3) if out_indices is None else out_indices
    right = not isinstance(indices, int | str) and all(
        isinstance(index, int) and 0 <= index < len(PYRAMID) for index in indices
    )
    if not right or not indices or list(indices) != sorted(set(indices)):
        raise UserError(
            f"out_indices is {out_indices!r}",
            _where("out_indices"),
            "write rising numbers of stages, 0 (stride 4) to 3 (stride 32): (0, 1, 2, 3)",
        )
    return tuple(PYRAMID[index] for index in indices)


def checkpoint_that_tells(settings: BackboneSettings) -> Checkpoint | None:
    """The weights that say how their network is built (where a ResNet's stride stands); None where none are asked."""
    if not settings.source or parse(settings.name).package or not asks_its_weights(settings.network):
        return None
    return open_weights(settings)


def open_weights(settings: BackboneSettings) -> Checkpoint:
    """The checkpoint that the settings name. Raises UserError where it cannot be opened."""
    return rexdet.open_checkpoint(settings.source, pixels=settings.pixels or None, network=settings.network)


def create_network(settings: BackboneSettings, weights: Checkpoint | None = None) -> nn.Module:
    """The backbone that `settings` describe, with random weights and nothing frozen: a module with `features`.

    weights: those that it will be filled with, as far as they say how it is built (`checkpoint_that_tells`).
    Raises UserError for an unknown network, argument or feature.
    """
    own = {"norm": "norm_cfg", "drop_path": "drop_path_rate", "weights": "init_cfg", "num_classes": ""}
    for key in settings.overrides:
        if key in own:
            fix = f"use {own[key]}" if own[key] else "leave it out: a backbone has no classifier"
            raise UserError(f"{key} does not belong here", _where("overrides"), fix)
    name = parse(settings.name)
    if name.package:
        if settings.drop_path_rate:
            raise UserError(f"{name} takes no drop_path_rate", _where("drop_path_rate"), "leave it out")
        if settings.with_cp:
            raise UserError("with_cp is for rexdet's own networks", _where("with_cp"), "leave it out")
        bare = parse(settings.network)
        return create_external_backbone(bare, settings.out_features, settings.norm, 0, None, dict(settings.overrides))
    spec, told = network_spec(settings.network, weights)
    published = entry(name.without_rule).overrides if name.tag else {}
    arguments = {**published, **told, **settings.overrides}
    if settings.drop_path_rate > 0.0:
        arguments["drop_path"] = settings.drop_path_rate
    return build_backbone(
        spec, settings.out_features, settings.norm, activation_checkpointing=settings.with_cp, **arguments
    )


def _where(key: str) -> str:
    return f"RexDetBackbone.{key}"
