"""What constructing the networks of other packages has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID

# The stride of each feature map that an FPN takes, and the side of the image with which other networks are probed.
STRIDES = {name: 4 << level for level, name in enumerate(PYRAMID)}
PROBE_SIDE = 128
# What the packages' constructors raise for arguments that they cannot use.
CONSTRUCTION_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, LookupError)
# Their arguments that fetch or read weights: past our cache, our hashes, and our refusal of pickles.
_LOADING = ("pretrained", "weights", "checkpoint_path")


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Check what is common to the arguments of both packages' constructors.

    Raises UserError for one that would load weights (a name alone never loads anything), and for no class count.
    """
    for key in options:
        if key.startswith(_LOADING):
            raise UserError(f"{key} would load weights", where=where, fix="leave it out; a @tag or weights= loads them")
    classes = options.get("num_classes", 1)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise UserError(f"num_classes is {classes!r}", where=where, fix="give a whole number")


def in_one_line(error: Exception) -> str:
    """What a package's error says, in one line that is not endless; a failed look-up says its kind, too."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError) or not text else text
