"""What a family of networks is: networks that are named alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from rexdet.weights.shape_base import NetworkShape

Candidates = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Family:
    """Networks that are named alike.

    title: what people call them. form: how a name is written. pattern: of a whole name.
    constructor: gives a network. arguments: a matched name -> the arguments that it fixes. Raises UserError for a name
    of this form that no network has.
    listed: names that people use, first to last. candidates: a network's shape -> names and overrides that may fit it.
    nearest: the same for a shape that no family's candidates fit: names whose widths are the nearest to it, the widths
    that differ beside them.
    num_classes: the networks' own count. detection: whether they have feature maps at strides 4 to 32.
    """

    title: str
    form: str
    pattern: re.Pattern[str]
    constructor: Callable[..., nn.Module]
    arguments: Callable[[re.Match[str]], dict[str, Any]]
    listed: tuple[str, ...]
    candidates: Callable[[NetworkShape], Candidates]
    num_classes: int = 1000
    detection: bool = True
    nearest: Callable[[NetworkShape], Candidates] = lambda shape: iter(())
