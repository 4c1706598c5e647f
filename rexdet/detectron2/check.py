"""The check of a config before anything is built."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode

from rexdet.detectron2.backbone import draft_backbone
from rexdet.detectron2.config import DEFAULTS, read_settings, uses_rexdet
from rexdet.detectron2.levels import (
    EXTRA_LEVELS,
    check_heads,
    describes_a_detector,
    neck_features,
    refuse_rebuilt_stages,
    wanted_features,
)
from rexdet.detectron2.pixels import pixels_of_config
from rexdet.detectron2.start import check_start, choose_norm, find_start, open_start
from rexdet.errors import UserError

logger = logging.getLogger(__name__)


def check_config(cfg: CfgNode, *, training: bool = True) -> None:
    """Check everything about the backbone, its neck and what reads them that can be told before a model is built.

    training: whether the config is to train, and not only to evaluate.
    Raises UserError with what is wrong, where, and what to write. A config with another backbone passes; where it has
    settings for ours that nothing will read, that is said aloud.
    """
    if not uses_rexdet(cfg):
        if dict(cfg.MODEL.get("REXDET", DEFAULTS)) != DEFAULTS:
            logger.warning(
                "MODEL.BACKBONE.NAME is %s, so nothing reads MODEL.REXDET; --backbone or use_backbone sets both",
                cfg.MODEL.BACKBONE.NAME,
            )
        return
    settings = read_settings(cfg)
    if describes_a_detector(cfg):
        refuse_rebuilt_stages(cfg)
    start = find_start(cfg.MODEL.WEIGHTS, settings)
    norm = choose_norm(settings, start)
    if training and norm == "SyncBN" and not str(cfg.MODEL.DEVICE).startswith("cuda"):
        raise UserError(
            f"MODEL.REXDET.NORM is SyncBN, which trains on CUDA only, and MODEL.DEVICE is {cfg.MODEL.DEVICE}",
            fix="set MODEL.REXDET.NORM to BN, GN or FrozenBN",
        )
    backbone = draft_backbone(settings, wanted_features(cfg, settings), norm, cfg.MODEL.WEIGHTS)
    if describes_a_detector(cfg):
        check_heads(cfg, backbone.features)
    if cfg.MODEL.BACKBONE.NAME in EXTRA_LEVELS:
        neck_features(cfg, backbone.features)
    checkpoint = open_start(start, settings, cfg.MODEL.WEIGHTS)
    if checkpoint is not None:
        check_start(backbone, checkpoint, start, pixels_of_config(cfg))
