"""Masks as COCO's compressed run-length codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from rexdet.coco.arrays import as_array

RunLengthCode = dict[str, Any]
"""A mask: {"size": [height, width], "counts": str}, COCO's compressed run-length code (column-major)."""


def encode_masks(masks: Any) -> list[RunLengthCode]:
    """Run-length codes of (n, height, width) masks, true inside; codes that are given already are passed on."""
    if isinstance(masks, list | tuple) and (not masks or isinstance(masks[0], dict)):
        return [with_text_counts(mask) for mask in masks]
    from pycocotools import mask as mask_tools

    pixels = as_array(masks)
    if len(pixels) == 0:
        return []
    columns = np.asfortranarray(pixels.astype(np.uint8).transpose(1, 2, 0))
    return [with_text_counts(mask) for mask in mask_tools.encode(columns)]


def with_text_counts(mask: RunLengthCode) -> RunLengthCode:
    """The code with its counts as text, as JSON holds them (pycocotools gives bytes)."""
    counts = mask["counts"]
    return {
        "size": [int(side) for side in mask["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
