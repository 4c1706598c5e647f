"""Text of others, made safe to show: what a terminal would obey is written as what it is."""

from __future__ import annotations

import re

# All control characters but tabs and ends of lines, which every writer deals with.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    r"""The text with its control characters as escapes: a name may hold one that clears the screen, `\x1b[2J`."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
