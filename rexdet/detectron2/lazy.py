"""Our backbones in detectron2's LazyConfigs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import LazyCall
from omegaconf import DictConfig, OmegaConf

from rexdet.detectron2.backbone import AnyBackbone, draft_backbone, make_backbone
from rexdet.detectron2.config import NORMS, BackboneSettings
from rexdet.detectron2.networks import checkpoint_that_tells
from rexdet.detectron2.pixels import pixels_for
from rexdet.detectron2.start import Start, choose_freezing, choose_norm, find_start, load_start, open_start
from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID
from rexdet.zoo.names import names_weights

logger = logging.getLogger(__name__)


def build_bottom_up(
    name: str,
    *,
    weights: str = "",
    pixels: str = "",
    norm: str = "",
    out_features: Sequence[str] = PYRAMID,
    freeze_at: int = 0,
    drop_path: float = 0.0,
    activation_checkpointing: bool = False,
    overrides: Mapping[str, Any] | None = None,
    detector: str = "",
) -> AnyBackbone:
    """A backbone with its weights loaded, for `bottom_up=L(build_bottom_up)(name=...)` in a LazyConfig.

    The arguments are the MODEL.REXDET keys under their own names (docs/detectron2.md), and:
    freeze_at: as MODEL.BACKBONE.FREEZE_AT; on random weights it counts as 0, said aloud.
    detector: the whole detector's file that will be loaded afterwards (train.init_checkpoint), or "". Where it is
        given, no other weights are opened.
    Raises UserError as the builders for YAML configs do.
    """
    _check_source(name, weights)
    if norm not in ("", *NORMS):
        raise UserError(f"norm {norm!r} is not one of {', '.join(NORMS)}", name)
    settings = BackboneSettings(
        name, weights, pixels, norm, tuple(out_features), drop_path, activation_checkpointing, dict(overrides or {})
    )
    start = find_start(detector, settings)
    told = checkpoint_that_tells(settings, detector)
    backbone = make_backbone(
        settings,
        settings.out_features,
        norm=choose_norm(settings, start),
        freeze_at=choose_freezing(freeze_at, settings, start),
        weights=told,
    )
    # Opened already where the network was built after it.
    checkpoint = told if told is not None else open_start(start, settings, detector)
    if checkpoint is not None:
        load_start(backbone, checkpoint, start)
    return backbone


def use_backbone_in_lazy_config(cfg: DictConfig, name: str, weights: str = "") -> None:
    """What `use_backbone` does, for a LazyConfig: `cfg.model.backbone` is an FPN whose bottom_up is replaced.

    Set are bottom_up, the channels of a top block that reads a backbone's map, pixel_mean, pixel_std, the image format
    of the model and the data loaders, and train.init_checkpoint is emptied.
    Raises UserError where the model has no such backbone.
    """
    backbone = OmegaConf.select(cfg, "model.backbone")
    if backbone is None or "bottom_up" not in backbone:
        raise UserError(
            "this LazyConfig has no cfg.model.backbone.bottom_up to replace",
            fix="write L(rexdet.detectron2.build_bottom_up)(name=...) where its backbone stands",
        )
    _check_source(name, weights)
    kept = _kept_arguments(backbone.bottom_up)
    features = list(backbone.in_features)
    settings = BackboneSettings(name, weights, kept.get("pixels", ""), overrides=kept.get("overrides") or {})
    start = Start.BACKBONE if settings.source else Start.RANDOM
    if start is Start.RANDOM and kept.get("norm") == "FrozenBN":
        kept["norm"] = ""
    channels = {key: feature.channels for key, feature in draft_backbone(settings, PYRAMID).features.items()}
    pixels = pixels_for(settings)
    freeze_at = backbone.bottom_up.get("freeze_at", 0) if start is Start.BACKBONE else 0
    arguments = {**kept, "name": name, "weights": weights, "out_features": features, "freeze_at": freeze_at}
    if "train" in cfg and "init_checkpoint" in cfg.train:
        cfg.train.init_checkpoint = ""
        arguments["detector"] = "${train.init_checkpoint}"
    backbone.bottom_up = LazyCall(build_bottom_up)(**arguments)
    _fit_top_block(backbone, channels)
    cfg.model.pixel_mean, cfg.model.pixel_std = list(pixels.mean), list(pixels.std)
    if "input_format" in cfg.model:
        cfg.model.input_format = pixels.order
    for loader in ("dataloader.train", "dataloader.test"):
        mapper = OmegaConf.select(cfg, f"{loader}.mapper")
        if mapper is not None and "image_format" in mapper and not OmegaConf.is_interpolation(mapper, "image_format"):
            mapper.image_format = pixels.order
    if start is Start.RANDOM:
        logger.warning("%s: random weights, %s, nothing frozen", name, kept.get("norm") or "BN")


def _check_source(name: str, weights: str) -> None:
    if names_weights(name) and weights:
        raise UserError(f"{name} has published weights, and weights is {weights}", fix="give one of the two")


def _kept_arguments(bottom_up: DictConfig) -> dict[str, Any]:
    """What a backbone of ours was given beside name, weights, features and freezing; nothing for other backbones."""
    if "name" not in bottom_up:
        return {}
    names = ("pixels", "norm", "drop_path", "activation_checkpointing", "overrides")
    values = OmegaConf.to_container(bottom_up)
    assert isinstance(values, dict)
    return {name: values[name] for name in names if name in values}


def _fit_top_block(backbone: DictConfig, channels: Mapping[str, int]) -> None:
    """Tell a top block that convolves a map of the backbone how many channels that map has."""
    top = backbone.get("top_block")
    if top is not None and "in_channels" in top:
        feature = top.get("in_feature", "res5")
        if feature in channels:
            top.in_channels = channels[feature]
