"""What a backbone starts from: random weights, a backbone's file, or a whole detector's; and what follows from that."""

from __future__ import annotations

import enum
import logging
from typing import Any

from detectron2.config import CfgNode

from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError

logger = logging.getLogger(__name__)

# Addresses in detectron2's own catalogues: every file behind them holds one of its own networks.
CATALOGUES = ("detectron2://", "catalog://", "https://dl.fbaipublicfiles.com/detectron2/")


class Start(enum.Enum):
    """What the backbone's weights are when training starts."""

    RANDOM = "random"
    BACKBONE = "backbone"  # MODEL.REXDET.WEIGHTS, or the @tag in MODEL.REXDET.NAME
    DETECTOR = "detector"  # MODEL.WEIGHTS: whoever loads the detector fills the backbone too


def find_start(cfg: CfgNode, settings: BackboneSettings) -> Start:
    """What `cfg` says that the backbone starts from.

    Raises UserError where MODEL.WEIGHTS names a file that does not hold a detector over one of our networks: an address
    in detectron2's catalogue by the address, before any download.
    """
    weights = cfg.MODEL.WEIGHTS
    if weights:
        refuse_catalogue(weights, settings)
        return Start.DETECTOR
    return Start.BACKBONE if settings.source else Start.RANDOM


def refuse_catalogue(weights: str, settings: BackboneSettings) -> None:
    """Raise UserError where `weights` is an address in detectron2's own catalogues."""
    if weights.startswith(CATALOGUES):
        raise foreign_weights(weights, "holds one of detectron2's own networks", settings)


def foreign_weights(weights: str, why: str, settings: BackboneSettings) -> UserError:
    """The error for a MODEL.WEIGHTS that does not fit a network of ours."""
    return UserError(
        f"MODEL.WEIGHTS is {weights}, which {why}, not a detector over {settings.network}",
        fix=f'empty MODEL.WEIGHTS, or call rexdet.detectron2.use_backbone(cfg, "{settings.name}"), which sets all',
    )


def choose_norm(settings: BackboneSettings, start: Start) -> str:
    """The norm of the backbone: what the settings say, else FrozenBN with weights and BN without.

    Raises UserError for an explicit FrozenBN on random weights: its statistics would stay 0 and 1 for ever.
    """
    if settings.norm == "FrozenBN" and start is Start.RANDOM:
        raise UserError(
            f"MODEL.REXDET.NORM is FrozenBN but {settings.name} has random weights: a frozen norm without statistics",
            fix="give MODEL.REXDET.WEIGHTS or a @tag, or set MODEL.REXDET.NORM to BN",
        )
    return settings.norm or ("BN" if start is Start.RANDOM else "FrozenBN")


def choose_freezing(freeze_at: Any, settings: BackboneSettings, start: Start) -> int:
    """How many stages stay frozen: MODEL.BACKBONE.FREEZE_AT, but none on random weights, which is said aloud."""
    if start is not Start.RANDOM:
        return int(freeze_at)
    logger.warning(
        "%s starts from random weights%s; MODEL.REXDET.WEIGHTS or a @tag in MODEL.REXDET.NAME gives it trained ones.",
        settings.name,
        f", so MODEL.BACKBONE.FREEZE_AT {freeze_at} counts as 0" if freeze_at else "",
    )
    return 0


def load_start(backbone: Any, cfg: CfgNode, settings: BackboneSettings, start: Start) -> None:
    """Fill `backbone` with the weights of a start from a backbone's file, strictly."""
    if start is Start.BACKBONE:
        from rexdet.zoo import load_weights

        logger.info("%s", load_weights(backbone, settings.source))
