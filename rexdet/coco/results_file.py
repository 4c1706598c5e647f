"""The entries of a COCO results file, checked and turned into columns."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import orjson
from numpy.typing import NDArray

from rexdet.coco.columns import LARGEST_PICTURE, whole_number
from rexdet.coco.lenient_json import loads_leniently
from rexdet.coco.run_length import RunLengthCode, first_unfilled, with_text_counts
from rexdet.errors import UserError

Entry = dict[str, Any]


def load_entries(where: str) -> list[Entry]:
    """The objects of the file at `where`. Raises UserError that says what is wrong with the file or an entry."""
    try:
        data = Path(where).read_bytes()
    except FileNotFoundError as error:
        raise UserError("no such file", where) from error
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", where) from error
    collecting = gc.isenabled()
    gc.disable()  # many small objects that all stay: the collector would walk through them again and again
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError:
        # Python's own parser reads NaN, which is met and told by row, and says where the text is broken.
        content = _load_leniently(data, where)
    finally:
        if collecting:
            gc.enable()
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        raise UserError(
            "is an annotation file, not detections",
            where,
            "give the results file (a list of objects with image_id, category_id, bbox, score)",
        )
    if not isinstance(content, list):
        raise UserError(f"holds {shown(content)} where a list of detections is meant", where)
    for number, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise UserError(f"entry {number} is not an object but {shown(entry)}", where)
    return content


def _load_leniently(data: bytes, where: str) -> Any:
    try:
        return loads_leniently(data)
    except UnicodeDecodeError as error:
        raise UserError("is not text", where) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}", where, "it may be an unfinished copy"
        ) from error
    except RecursionError as error:
        raise UserError("is nested too deeply to be a list of detections", where) from error


def _column(entries: list[Entry], key: str, where: str) -> list[Any]:
    try:
        return [entry[key] for entry in entries]
    except KeyError:
        number = next(number for number, entry in enumerate(entries) if key not in entry)
        raise UserError(f"entry {number} has no {key!r}", where) from None


def integer_column(entries: list[Entry], key: str, where: str) -> NDArray[np.int64]:
    """int64 (N,) of one key. Raises UserError that names what stands there instead of whole numbers."""
    values = _column(entries, key, where)
    if set(map(type, values)) == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            # The number that needs more than 64 bits is named below.
            pass
    # 7.0 is the same number as 7 (some writers know floats alone); "7" and true are not numbers.
    numbers = [None if type(value) is str else whole_number(value) for value in values]
    wrong = [number for number, value in enumerate(numbers) if value is None]
    if wrong:
        distinct = list(dict.fromkeys(shown(values[number]) for number in wrong))
        raise UserError(
            f"{key} must be a whole number of 64 bits, but {len(wrong)} of {len(values)} entries have "
            f"{listed(distinct)}, the first is entry {wrong[0]}",
            where,
            "write ids as the annotation file does, without quotes",
        )
    return np.array(numbers, np.int64)


def number_column(entries: list[Entry], key: str, where: str) -> NDArray[np.float64]:
    """float64 (N,) of one key. Raises UserError that names the first entry without a number there."""
    values = _column(entries, key, where)
    if not set(map(type, values)) <= {int, float}:
        number = next(n for n, value in enumerate(values) if type(value) not in (int, float))
        raise UserError(f"{key} of entry {number} is {shown(values[number])}, not a number", where)
    return np.array(values, np.float64)


def box_column(entries: list[Entry], masks: list[RunLengthCode] | None, where: str) -> NDArray[np.float64]:
    """float64 (N, 4) of `bbox`; where an entry has none, the box of its mask."""
    without = [number for number, entry in enumerate(entries) if "bbox" not in entry]
    if masks is None:
        boxes = _column(entries, "bbox", where)
    else:
        from pycocotools import mask as mask_tools

        boxes = [entry.get("bbox") for entry in entries]
        for number in without:
            boxes[number] = mask_tools.toBbox(masks[number]).tolist()
    for number, box in enumerate(boxes):
        if (
            not isinstance(box, list)
            or len(box) != 4
            or not all(type(side) is float or type(side) is int for side in box)
        ):
            raise UserError(f"bbox of entry {number} is {shown(box)}, not four numbers (x, y, width, height)", where)
    return np.array(boxes, np.float64)


def mask_column(entries: list[Entry], where: str) -> list[RunLengthCode] | None:
    """N run-length codes, or None when no entry has a `segmentation`."""
    having = sum("segmentation" in entry for entry in entries)
    if having == 0:
        return None
    masks = []
    for number, mask in enumerate(_column(entries, "segmentation", where)):
        size = mask.get("size") if isinstance(mask, dict) else None
        counts = mask.get("counts") if isinstance(mask, dict) else None
        if not _is_size(size) or not counts or not _are_counts(counts, size):
            raise UserError(
                f"segmentation of entry {number} is {shown(mask)}, not a run-length code "
                '({"size": [height, width], "counts": "..."})',
                where,
            )
        if isinstance(counts, list):
            from pycocotools import mask as mask_tools

            mask = mask_tools.frPyObjects(mask, *size)
        masks.append(with_text_counts(mask))
    if (unfilled := first_unfilled(masks)) is not None:
        raise UserError(f"segmentation of entry {unfilled} is a run-length code that does not fill its size", where)
    return masks


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _are_counts(value: Any, size: list[int]) -> bool:
    return value.isascii() if isinstance(value, str) else _are_whole(value) and sum(value) == size[0] * size[1]


def _is_size(value: Any) -> TypeGuard[list[int]]:
    return _are_whole(value) and len(value) == 2 and max(value) <= LARGEST_PICTURE


def shown(value: Any) -> str:
    """A JSON value as a message shows it, cut to 60 characters."""
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        text = "lists nested too deeply to be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def listed(values: Sequence[Any], most: int = 8) -> str:
    """The first few of `values`, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
