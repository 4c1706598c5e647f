"""JSON as orjson reads it, and what is no JSON but is met: NaN and Infinity. Slower; for texts that orjson refuses."""

from __future__ import annotations

import json
from typing import Any

_MOST_DIGITS = 20
"""Of a whole number that 64 bits may hold, with its sign."""


def loads_leniently(text: str | bytes) -> Any:
    """Parse `text`; whole numbers beyond 64 bits become floats, infinite where they are beyond those too.

    Raises json.JSONDecodeError with the place where the text is broken, UnicodeDecodeError for bytes that are no text,
    and RecursionError for what is nested too deeply.
    """
    return json.loads(text, parse_int=_whole_number)


def _whole_number(digits: str) -> int | float:
    # int() refuses thousands of digits, and takes long for fewer.
    if len(digits) > _MOST_DIGITS:
        return float(digits)
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(value)
