"""The masks of an annotation file as columns: their JSON text, their form, and what their polygons cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rexdet.coco import segmentation
from rexdet.coco.source import BrokenMaskError, MaskTexts

_BLOCK = 20_000
"""Annotations whose masks are objects at the same time."""


@dataclass(frozen=True, slots=True)
class MaskColumns:
    """N masks. texts: N byte strings of JSON, empty where there is no mask; the rest as in `schema.Table`."""

    texts: list[bytes]
    forms: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int32]
    extents: npt.NDArray[np.float32]
    polygon_areas: npt.NDArray[np.float64]
    short_polygons: npt.NDArray[np.int32]


def read_masks(values: Sequence[Any], masks: MaskTexts) -> MaskColumns:
    """Look at the segmentations `values` (N of them), those in `masks` included.

    Raises `source.BrokenMaskError` where a text that was set aside is no JSON list.
    """
    texts: list[bytes] = []
    forms = np.zeros(len(values), np.uint8)
    sizes = np.zeros((len(values), 2), np.int32)
    whole = segmentation.PolygonSummary(len(values))
    for start in range(0, len(values), _BLOCK):
        block, block_texts = _parse_block(values[start : start + _BLOCK], masks)
        part = slice(start, start + len(block))
        block_forms = np.fromiter(map(segmentation.form_of, block), np.uint8, len(block))
        summary = segmentation.polygon_summary(block, block_forms)
        block_forms[summary.invalid] = segmentation.INVALID
        coded = (block_forms == segmentation.RUNS) | (block_forms == segmentation.RUN_STRING)
        for place in np.flatnonzero(coded).tolist():
            sizes[start + place] = block[place]["size"]
        texts += [
            _text_of(value, int(form)) if text is None else text
            for value, form, text in zip(block, block_forms, block_texts, strict=True)
        ]
        forms[part] = block_forms
        whole.extents[part] = summary.extents
        whole.areas[part] = summary.areas
        whole.short[part] = summary.short
    return MaskColumns(texts, forms, sizes, whole.extents, whole.areas, whole.short)


def _parse_block(values: Sequence[Any], masks: MaskTexts) -> tuple[list[Any], list[bytes | None]]:
    """The segmentations themselves, and their texts where they were set aside (None elsewhere)."""
    texts = [masks.text_of(value) for value in values]
    aside = [text for text in texts if text is not None]
    try:
        parsed = orjson.loads(b"[" + b",".join(aside) + b"]")
    except orjson.JSONDecodeError as error:
        raise BrokenMaskError(str(error)) from error
    if len(parsed) != len(aside):
        raise BrokenMaskError("brackets do not match")
    if len(aside) == len(texts):
        return parsed, texts
    following = iter(parsed)
    return [value if text is None else next(following) for value, text in zip(values, texts, strict=True)], texts


def _text_of(value: Any, form: int) -> bytes:
    return b"" if form in (segmentation.NONE, segmentation.INVALID) else orjson.dumps(value)
