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

MEASURED = 100_000
"""Annotations at least whose polygons are measured; in files of twice as many and more it is an even sample."""


@dataclass(frozen=True, slots=True)
class MaskColumns:
    """N masks. texts: N byte strings of JSON, empty where there is no mask; the rest as in `schema.Table`."""

    texts: list[bytes]
    forms: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int32]
    extents: npt.NDArray[np.float32]
    whole_polygons: npt.NDArray[np.int32]
    short_polygons: npt.NDArray[np.int32]


def read_masks(values: Sequence[Any], masks: MaskTexts) -> MaskColumns:
    """Look at the segmentations `values` (N of them), those in `masks` included.

    Raises `source.BrokenMaskError` where a text that was set aside is no JSON list.
    """
    texts: list[bytes] = []
    forms = np.zeros(len(values), np.uint8)
    sizes = np.zeros((len(values), 2), np.int32)
    summary = segmentation.PolygonSummary(len(values))
    step = max(1, len(values) // MEASURED)
    for start in range(0, len(values), _BLOCK):
        block = _parse_block(values[start : start + _BLOCK], masks)
        part = slice(start, start + len(block.values))
        block_forms = np.fromiter(map(segmentation.form_of, block.values), np.uint8, len(block.values))
        facts = segmentation.polygon_summary(block.values, block_forms, step=step if block.numbers_alone else 1)
        block_forms[facts.invalid] = segmentation.INVALID
        coded = (block_forms == segmentation.RUNS) | (block_forms == segmentation.RUN_STRING)
        for place in np.flatnonzero(coded).tolist():
            sizes[start + place] = block.values[place]["size"]
        if block.numbers_alone:
            texts += block.texts
        else:
            texts += [
                text or _text_of(value, int(form))
                for value, form, text in zip(block.values, block_forms, block.texts, strict=True)
            ]
        forms[part] = block_forms
        summary.extents[part] = facts.extents
        summary.whole[part] = facts.whole
        summary.short[part] = facts.short
    return MaskColumns(texts, forms, sizes, summary.extents, summary.whole, summary.short)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some segmentations. texts: their JSON where it was set aside, else empty.

    numbers_alone: all were set aside, and hold lists of numbers, lists of such lists, and nothing else.
    """

    values: list[Any]
    texts: list[bytes]
    numbers_alone: bool


def _parse_block(values: Sequence[Any], masks: MaskTexts) -> _Block:
    texts = masks.texts_of(values)
    aside = [text for text in texts if text]
    joined = b",".join(aside)
    try:
        parsed = orjson.loads(b"[" + joined + b"]")
    except orjson.JSONDecodeError as error:
        raise BrokenMaskError(str(error)) from error
    if len(parsed) != len(aside):
        raise BrokenMaskError("brackets do not match")
    if len(aside) < len(texts):
        following = iter(parsed)
        return _Block(
            [next(following) if text else value for value, text in zip(values, texts, strict=True)], texts, False
        )
    # Without the letters of null, true and false only numbers are left, and as many brackets as lists are seen from
    # outside leave no room for lists among the numbers.
    lists = sum(len(value) for value in parsed if value and type(value[0]) is list)
    plain = b"u" not in joined and b"l" not in joined and joined.count(b"[") == len(parsed) + lists
    return _Block(parsed, texts, plain)


def _text_of(value: Any, form: int) -> bytes:
    if form in (segmentation.NONE, segmentation.INVALID):
        return b""
    # What else stands beside them in a run-length code need not be anything that can be written.
    return orjson.dumps({key: value[key] for key in ("size", "counts")} if isinstance(value, dict) else value)
