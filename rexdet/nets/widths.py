"""Widths that somebody gives layer by layer instead of a rule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

# The papers' networks stay below 8,192; a slip of the finger would fill the memory.
LARGEST_WIDTH = 65536


def take_widths(rule: Mapping[str, int], given: Mapping[str, int] | None) -> dict[str, int]:
    """Every layer's width: the given one where there is one, else the rule's.

    rule, given: the path of a layer -> its output channels. Raises ValueError for a layer that the network does not
    have, and for a width that is no whole number from 1 to LARGEST_WIDTH.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"channels is {given!r}; give a mapping: the path of a layer -> its output channels")
    widths = dict(rule)
    for path, channels in (given or {}).items():
        if path not in rule:
            near = difflib.get_close_matches(str(path), rule, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; the first layers are {', '.join(list(rule)[:4])}"
            raise ValueError(f"channels: the network has no layer {path!r}{hint}")
        if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= LARGEST_WIDTH:
            raise ValueError(f"channels: {path} is {channels!r}; a width is a whole number from 1 to {LARGEST_WIDTH}")
        widths[path] = channels
    return widths
