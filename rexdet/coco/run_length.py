"""Masks as COCO's compressed run-length codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.arrays import as_array

RunLengthCode = dict[str, Any]
"""A mask: {"size": [height, width], "counts": str}, COCO's compressed run-length code (column-major)."""

# Codes that are looked at together.
_BLOCK = 500
# Characters of a number: as many as the difference of two runs of 32 bits takes.
_MOST_DIGITS = 7


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


def first_unfilled(masks: Sequence[RunLengthCode]) -> int | None:
    """The number of the first code that is broken, or whose runs do not fill its size; None where all are sound.

    pycocotools trusts codes: comparing such a one with another may never end.
    """
    for start in range(0, len(masks), _BLOCK):
        block = masks[start : start + _BLOCK]
        sizes = np.array([mask["size"] for mask in block], np.int64)
        counts = [mask["counts"] for mask in block]
        texts = [count.encode("ascii") if isinstance(count, str) else bytes(count) for count in counts]
        unfilled = np.flatnonzero(_pixels(texts) != sizes.prod(axis=1))
        if len(unfilled):
            return start + int(unfilled[0])
    return None


def _pixels(texts: Sequence[bytes]) -> NDArray[np.int64]:
    """How many pixels the runs of N codes cover, int64 (N,); -1 for a code that is broken.

    `segmentation.runs_of` has the same format in a loop: this is for many thousand.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    pixels = np.full(len(texts), -1, np.int64)
    bits = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    ends = np.cumsum(lengths)
    is_last = (bits & 32) == 0
    # Codes end where a number ends, and hold nothing but six bits a character.
    sound = lengths > 0
    sound[sound] = is_last[ends[sound] - 1]
    strangers = bits >= 64
    if strangers.any():
        sound &= _sums(strangers, lengths) == 0
    if not sound.all():
        kept = np.flatnonzero(sound)
        pixels[kept] = _pixels([texts[row] for row in kept.tolist()]) if len(kept) else 0
        return pixels
    last = np.flatnonzero(is_last)
    starts = np.append(0, last[:-1] + 1)
    digits = last - starts + 1
    values = _numbers(bits, starts, digits)
    numbers = np.searchsorted(last, ends)
    firsts = np.append(0, numbers[:-1])
    amounts = numbers - firsts
    runs = _runs(values, np.arange(len(values)) - np.repeat(firsts, amounts))
    broken = (runs < 0) | (digits > _MOST_DIGITS)
    return np.where(_sums(broken, amounts) > 0, -1, _sums(runs, amounts))


def _numbers(bits: NDArray[np.uint8], starts: NDArray[np.int64], digits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers that begin at these places and have so many digits, of which the first `_MOST_DIGITS` are taken."""
    values = np.zeros(len(starts), np.int64)
    rows = np.arange(len(starts))
    for place in range(_MOST_DIGITS):
        rows = rows[digits[rows] > place] if place else rows
        digit = bits[starts[rows] + place]
        sign = (digits[rows] == place + 1) & (digit & 16 > 0)
        values[rows] += ((digit & 31).astype(np.int64) - 32 * sign) << 5 * place
    return values


def _runs(values: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The runs of all codes from their numbers: from the fourth on each is the difference from the one before the last.

    places: of each number in its code.
    """
    runs = values.copy()
    for first, chain in ((1, places % 2 == 1), (2, (places % 2 == 0) & (places > 0))):
        sums = np.cumsum(values[chain])
        heads = places[chain] == first
        before = np.append(0, sums[:-1])[heads]
        runs[chain] = sums - np.repeat(before, np.diff(np.append(np.flatnonzero(heads), len(sums))))
    return runs


def _sums(values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum over each of the runs of `values` that have these lengths, int64 (N,)."""
    sums = np.append(0, np.cumsum(values, dtype=np.int64))
    ends = np.cumsum(lengths)
    return np.asarray(sums[ends] - sums[ends - lengths])
