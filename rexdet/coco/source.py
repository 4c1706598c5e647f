"""An annotation file's bytes, and the JSON in them; every way in which that fails is one line for a person."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from rexdet.coco.lenient_json import loads_leniently
from rexdet.errors import UserError

_MASK_LIST = re.compile(rb'"segmentation"\s*:\s*\[')
_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's bytes and its state before they were read. Raises UserError where it cannot be read or is empty."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.glob("*.json"))[:5]
        hint = f"it holds {', '.join(inside)}" if inside else "there is no .json file in it"
        raise UserError(f"is a folder, not an annotation file ({hint})", str(path), "name the .json file itself")
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
            data = file.read()
    except FileNotFoundError:
        raise UserError("there is no such annotation file", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", str(path)) from error
    if not data.strip():
        raise UserError("the annotation file is empty", str(path))
    return data, state


def digest(data: bytes) -> str:
    """SHA-256 of `data`, hex."""
    return hashlib.sha256(data).hexdigest()


class BrokenMaskError(Exception):
    """A text that was set aside as a mask is no JSON by itself: parse the file whole."""


class MaskTexts:
    """The JSON texts of masks that were set aside: nine tenths of a file that then need no objects.

    In the parsed content a mask that was set aside is the list `[number]`, which nothing else can be: every list of
    numbers under "segmentation" was set aside itself.
    """

    def __init__(self, text: bytes, starts: list[int], ends: list[int]) -> None:
        self._text = text
        self._starts = starts
        self._ends = ends

    def texts_of(self, values: Sequence[Any]) -> list[bytes]:
        """The texts of the masks that `values` stand for; empty for those that are segmentations themselves."""
        if not self._starts:
            return [b""] * len(values)
        text, starts, ends = self._text, self._starts, self._ends
        return [
            text[starts[value[0]] : ends[value[0]]]
            if type(value) is list and len(value) == 1 and type(value[0]) is int
            else b""
            for value in values
        ]


def parse(data: bytes, path: Path, *, set_masks_aside: bool = True) -> tuple[dict[str, Any], MaskTexts]:
    """Parse a COCO file's bytes, plain or gzip; returns the top-level object and the masks that are not in it.

    Raises UserError with line and column where the JSON is broken, and where it is no COCO instances file.
    """
    text = _plain_text(data, path)
    content = None
    masks = MaskTexts(b"", [], [])
    if set_masks_aside:
        masks, rest = _set_masks_aside(text)
        try:
            content = orjson.loads(rest)
        except orjson.JSONDecodeError:
            # Whatever is wrong is told by its place in the whole text.
            masks = MaskTexts(b"", [], [])
        del rest
    if content is None:
        content = _parse_json(text, path)
    _check_top_level(content, path)
    return content, masks


def _set_masks_aside(text: bytes) -> tuple[MaskTexts, bytes]:
    """Cut lists under "segmentation" out of the text, putting `[number]` in their places.

    A list of numbers ends before the next quotation mark or brace, so that looking for these is enough: no character
    of the numbers is looked at one by one. What is cut out is verified when it is parsed.
    """
    starts: list[int] = []
    ends: list[int] = []
    pieces: list[bytes] = []
    done = 0
    found = _MASK_LIST.search(text)
    while found is not None:
        start = found.end() - 1
        quote = text.find(b'"', start)
        stop = quote if quote >= 0 else len(text)
        brace = text.find(b"}", start, stop)
        end = text.rfind(b"]", start, brace if brace >= 0 else stop) + 1
        if end:
            pieces += (text[done:start], b"[%d]" % len(starts))
            starts.append(start)
            ends.append(end)
            done = end
        found = _MASK_LIST.search(text, max(end, start + 1))
    pieces.append(text[done:])
    return MaskTexts(text, starts, ends), b"".join(pieces)


def _plain_text(data: bytes, path: Path) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"is a broken gzip file ({error})", str(path)) from error
    if data[:2] == b"PK":
        raise UserError("is a zip archive", str(path), "unpack it and name the .json file inside")
    return data[3:] if data.startswith(_BOM) else data


def _parse_json(text: bytes, path: Path) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Python's own parser reads NaN and Infinity, which are no JSON but are met: they become findings that name
        # the annotation. Where the text is broken, its message has the line and column.
        pass
    try:
        return loads_leniently(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text (byte {error.start})", str(path), "save it as JSON in UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}", str(path)) from error
    except RecursionError as error:
        raise UserError("is nested too deeply to be an annotation file", str(path)) from error


def _check_top_level(content: Any, path: Path) -> None:
    where = str(path)
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if "score" in first:
            raise UserError(
                "is a list of detections (a results file), not an annotation file",
                where,
                "give it as --detections, and as annotations the file with images, annotations and categories",
            )
        raise UserError("holds a list at its top, not an object with images, annotations and categories", where)
    if not isinstance(content, dict):
        raise UserError(f"holds a {type(content).__name__}, not an object with images and annotations", where)
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if key not in content]
    if missing:
        keys = ", ".join(sorted(map(str, content))[:8]) or "none"
        raise UserError(
            f"has no {' and no '.join(missing)} key (its keys: {keys})", where, "give a COCO instances file"
        )
    for key in wanted:
        if not isinstance(content[key], list):
            raise UserError(f"{key} is {type(content[key]).__name__}, not a list", where)
