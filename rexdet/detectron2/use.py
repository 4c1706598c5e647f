"""One call that puts a network of ours into a detectron2 config."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from detectron2.config import CfgNode
from omegaconf import DictConfig

from rexdet.detectron2.backbone import draft_backbone
from rexdet.detectron2.config import (
    BUILDERS,
    FPN_BUILDER,
    PLAIN_BUILDER,
    RETINANET_BUILDER,
    BackboneSettings,
    add_rexdet_config,
    read_settings,
    uses_rexdet,
)
from rexdet.detectron2.lazy import use_backbone_in_lazy_config
from rexdet.detectron2.levels import describes_a_detector, refuse_rebuilt_stages, wanted_features
from rexdet.detectron2.pixels import pixels_for
from rexdet.detectron2.start import Start, choose_norm

logger = logging.getLogger(__name__)

# detectron2's own number, MODEL.BACKBONE.FREEZE_AT: the stem and the first stage.
DEFAULT_FREEZE_AT = 2


def use_backbone(cfg: CfgNode | DictConfig, name: str, weights: str | os.PathLike[str] | None = None) -> None:
    """Put the network `name` into `cfg`, in place: builder, weights, pixels, norm and freezing, consistent.

    cfg: a detectron2 config (get_cfg, or a YAML merged into it), or a LazyConfig whose model has an FPN.
    name: a network (rexnet_1.0: random weights unless `weights` is given), or a network with its published checkpoint
        (rexnet_1.0@nav_in1k).
    weights: a file with the backbone's weights; not beside a @tag.

    MODEL.WEIGHTS is emptied. With weights the norms are frozen and MODEL.BACKBONE.FREEZE_AT holds; without, the norms
    are BN and nothing is frozen, which is said aloud. A NORM that the config chose itself stays where it can.
    What MODEL.REXDET holds beyond that (OUT_FEATURES, DROP_PATH, OVERRIDES, PIXELS ...) stays.

    Raises UserError for an unknown name, a file that cannot be opened, a tag beside a file, and for C4 and DC5 configs.
    """
    file = os.fspath(weights) if weights is not None else ""
    if isinstance(cfg, DictConfig):
        use_backbone_in_lazy_config(cfg, name, file)
        return
    add_rexdet_config(cfg)
    if describes_a_detector(cfg):
        refuse_rebuilt_stages(cfg)
    norm, freeze_at = _chosen_norm_and_freezing(cfg)
    settings = _settings_with(cfg, name, file, norm)
    start = Start.BACKBONE if settings.source else Start.RANDOM
    if start is Start.RANDOM:
        freeze_at = 0
        settings = replace(settings, norm="" if norm == "FrozenBN" else norm)
    norm = choose_norm(settings, start)
    draft_backbone(settings, wanted_features(cfg, settings), norm)
    pixels = pixels_for(settings)

    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = _builder_for(cfg)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.REXDET.NAME, cfg.MODEL.REXDET.WEIGHTS, cfg.MODEL.REXDET.NORM = name, file, norm
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(pixels.mean), list(pixels.std)
    cfg.INPUT.FORMAT = pixels.order
    frozen = f"MODEL.BACKBONE.FREEZE_AT {freeze_at}" if freeze_at else "nothing frozen"
    if start is Start.RANDOM:
        logger.warning("%s: random weights, %s, %s", name, norm, frozen)
    else:
        logger.info("%s: weights from %s, %s, %s", settings.network, settings.source, norm, frozen)


def _settings_with(cfg: CfgNode, name: str, weights: str, norm: str) -> BackboneSettings:
    """The config's settings with another network, checked; `cfg` stays as it is."""
    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.REXDET.NAME, trial.MODEL.REXDET.WEIGHTS, trial.MODEL.REXDET.NORM = name, weights, norm
    return read_settings(trial)


def _chosen_norm_and_freezing(cfg: CfgNode) -> tuple[str, int]:
    """NORM and FREEZE_AT that the config's author chose; not those that an earlier `use_backbone` set by its rule."""
    node = cfg.MODEL.REXDET
    norm, freeze_at = node.NORM, cfg.MODEL.BACKBONE.FREEZE_AT
    if not uses_rexdet(cfg):
        return norm, freeze_at
    was_random = not node.WEIGHTS and "@" not in node.NAME
    if norm == ("BN" if was_random else "FrozenBN"):
        norm = ""
    if was_random and freeze_at == 0:
        freeze_at = DEFAULT_FREEZE_AT
    return norm, freeze_at


def _builder_for(cfg: CfgNode) -> str:
    present = cfg.MODEL.BACKBONE.NAME
    if present in BUILDERS:
        return str(present)
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" or "retinanet" in present:
        return RETINANET_BUILDER
    return FPN_BUILDER if "fpn" in present or cfg.MODEL.FPN.IN_FEATURES else PLAIN_BUILDER
