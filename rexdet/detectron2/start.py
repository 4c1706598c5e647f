"""What a backbone starts from: random weights, a backbone's file, or a whole detector's; and what follows from that."""

from __future__ import annotations

import enum
import logging
from dataclasses import replace
from pathlib import Path

from detectron2.utils.file_io import PathManager
from torch import nn

import rexdet
from rexdet.detectron2.config import BackboneSettings
from rexdet.detectron2.pixels import Pixels, check_pixels
from rexdet.errors import UserError
from rexdet.weights import Checkpoint
from rexdet.zoo.external_load import BODY
from rexdet.zoo.open import compare_weights

logger = logging.getLogger(__name__)

# Addresses in detectron2's own catalogues: every file behind them holds one of its own networks.
CATALOGUES = ("detectron2://", "catalog://", "https://dl.fbaipublicfiles.com/detectron2/")
# Of the layouts of checkpoints: those whose keys are the keys of our networks.
OWN_LAYOUTS = ("ours", "detectron2")


class Start(enum.Enum):
    """What the backbone's weights are when training starts."""

    RANDOM = "random"
    BACKBONE = "backbone"  # MODEL.REXDET.WEIGHTS, or the @tag in MODEL.REXDET.NAME
    DETECTOR = "detector"  # MODEL.WEIGHTS: whoever loads the detector fills the backbone too


def find_start(detector: str, settings: BackboneSettings) -> Start:
    """What the backbone starts from, by what the config names and before any of it is opened.

    detector: MODEL.WEIGHTS (in a LazyConfig train.init_checkpoint): a file or an address that detectron2 knows, or "".
    Raises UserError for an address in detectron2's own catalogues, before any download.
    """
    if not detector:
        return Start.BACKBONE if settings.source else Start.RANDOM
    if detector.startswith(CATALOGUES):
        raise _foreign(detector, "is one of detectron2's own models", settings)
    return Start.DETECTOR


def open_start(start: Start, settings: BackboneSettings, detector: str = "") -> Checkpoint | None:
    """The checkpoint that the backbone starts from, opened; None for a random start.

    Raises UserError where it cannot be opened, and where `detector` does not hold a detector over a network of ours.
    """
    if start is Start.RANDOM:
        return None
    if start is Start.BACKBONE:
        return rexdet.open_checkpoint(settings.source, pixels=settings.pixels or None, network=settings.network)
    path = _local_path(detector)
    try:
        checkpoint = rexdet.open_checkpoint(path, pixels=settings.pixels or None, network=settings.network)
    except UserError as error:
        raise _foreign(detector, error.what, settings) from error
    if checkpoint.kind != "detector":
        raise _foreign(detector, f"holds a {checkpoint.kind} alone", settings, weights=detector)
    # Another package's network has its own keys, under the part of the backbone that carries them.
    is_ours = checkpoint.prefix.endswith(f"bottom_up.{BODY}") or checkpoint.layout in OWN_LAYOUTS
    if not is_ours:
        # detectron2 would go on with random weights where it finds other keys than the model's.
        raise _foreign(detector, f"holds a detector over a network in {checkpoint.layout} layout", settings)
    return checkpoint


def check_start(backbone: nn.Module, checkpoint: Checkpoint, start: Start, pixels: Pixels | None = None) -> None:
    """Hold what a backbone starts from against the backbone (it may be without memory) and the pixels it will be fed.

    Raises UserError where the weights do not fit, or were trained with other pixels.
    """
    # A detector may have been trained on any pixels: only where its own are known can they be held against the config.
    if pixels is not None and (start is Start.BACKBONE or checkpoint.pixels_known_by != "assumed"):
        check_pixels(pixels, checkpoint)
    compare_weights(backbone, checkpoint).raise_if_wrong()


def load_start(backbone: nn.Module, checkpoint: Checkpoint, start: Start, pixels: Pixels | None = None) -> None:
    """Fill `backbone` strictly from what it starts from. Raises UserError as `check_start` does.

    A whole detector's file is loaded by detectron2 afterwards; its backbone is loaded here too, because detectron2 goes
    on with random weights where a file does not fit.
    """
    check_start(backbone, checkpoint, start, pixels)
    rexdet.load_weights(backbone, checkpoint)
    # Where the weights came from, for the record; the tensors themselves are in the backbone now.
    backbone.provenance = replace(checkpoint, tensors={})  # type: ignore[assignment]


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


def choose_freezing(freeze_at: int, settings: BackboneSettings, start: Start) -> int:
    """How many stages stay frozen: MODEL.BACKBONE.FREEZE_AT, but none on random weights, which is said aloud."""
    if start is not Start.RANDOM:
        return freeze_at
    logger.warning(
        "%s starts from random weights%s; MODEL.REXDET.WEIGHTS or a @tag in MODEL.REXDET.NAME gives it trained ones",
        settings.name,
        f", so MODEL.BACKBONE.FREEZE_AT {freeze_at} counts as 0" if freeze_at else "",
    )
    return 0


def _local_path(address: str) -> str:
    """The file behind `address`; a query (?matching_heuristics=True), which detectron2 allows, is left away."""
    try:
        path = str(PathManager.get_local_path(address.partition("?")[0]))
    except OSError as error:
        raise UserError(f"cannot be fetched ({error})", f"MODEL.WEIGHTS {address}") from error
    if not Path(path).is_file():
        raise UserError("no such file", f"MODEL.WEIGHTS {address}", "check the path, or empty the key")
    return path


def _foreign(detector: str, why: str, settings: BackboneSettings, weights: str = "") -> UserError:
    arguments = f'"{settings.network}", weights="{weights}"' if weights else f'"{settings.name}"'
    return UserError(
        f"MODEL.WEIGHTS is {detector}, which {why}: not a detector over {settings.network}",
        fix=f"empty MODEL.WEIGHTS, or call rexdet.detectron2.use_backbone(cfg, {arguments}), which sets all of it",
    )
