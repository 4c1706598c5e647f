"""What is MMDetection's own about the checkpoints of a run: what they hold, and their class-dependent layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rexdet.errors import UserError
from rexdet.session import checkpoints
from rexdet.session.checkpoints import Weights, classes_of, is_own, strip_prefix

WEIGHTS = "state_dict"
STATE = "rexdet_state"
RESUME_KEYS = ("meta", WEIGHTS, "message_hub", "optimizer", "rexdet", STATE)
FILES = "*_*.pth"
_PARTS = ("neck.", "bbox_head.", "rpn_head.", "roi_head.", "mask_head.", "encoder.")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Open a detector's checkpoint of mmengine's form. Raises UserError."""
    return checkpoints.read_checkpoint(path, key=WEIGHTS)


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, and what had to be passed over to find it, a line each."""
    return checkpoints.newest_checkpoint(folder, key=WEIGHTS, pattern=FILES)


def whole_detector(source: str) -> bool:
    """Whether `source` is a file that holds a whole detector of MMDetection, told by its content.

    A name@tag, and a file of a backbone or a classifier, is none. Raises UserError where the file cannot be opened.
    """
    if not Path(source).is_file():
        return False
    try:
        weights = read_checkpoint(source)[WEIGHTS]
    except UserError as error:
        if "no checkpoint of a detector" in error.what or Path(source).suffix != ".pth":
            # Other forms of files are opened, and refused, as a backbone's.
            return False
        raise
    keys = list(strip_prefix(weights)) if isinstance(weights, Mapping) else []
    return any(key.startswith("backbone.") for key in keys) and any(key.startswith(_PARTS) for key in keys)


def check_resumable(content: Mapping[str, Any], where: str) -> None:
    """Raise UserError where going on from a checkpoint is not possible, or not the same run.

    A checkpoint lists its own keys, those that the config's hooks have put into it included.
    """
    state = content.get(STATE)
    listed = tuple(state["keys"]) if isinstance(state, Mapping) else RESUME_KEYS
    checkpoints.check_resumable(content, where, (*RESUME_KEYS, *(key for key in listed if key not in RESUME_KEYS)), ())


def known_classes(content: Mapping[str, Any] | None) -> tuple[list[str], list[int] | None] | None:
    """Class names in the order of a detector's outputs, and their category ids; None where they are not known.

    A checkpoint of MMDetection's own tools has the names alone.
    """
    if content is None:
        return None
    if is_own(content):
        return classes_of(content)
    meta = content.get("meta") or {}
    names = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
    return (list(names), None) if names else None


def load_detector(model: nn.Module, content: Mapping[str, Any], where: str, classes: int) -> list[str]:
    """Fill a whole detector from a checkpoint, strictly; returns lines that tell what was loaded.

    classes: how many the model has. Raises UserError.
    """
    known = known_classes(content)

    def count(keys: list[str], own: Weights, weights: Weights) -> tuple[int, int]:
        return len(known[0]) if known is not None else 0, classes

    other = known is not None and len(known[0]) != classes
    return checkpoints.load_detector(
        model,
        content[WEIGHTS],
        where,
        backbone="backbone.",
        # Heads call their layers as they like; where the classes are as many, no shape may differ.
        depends_on_classes=lambda key: other and "head" in key.partition(".")[0],
        class_counts=count,
    )
