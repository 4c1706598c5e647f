"""The grammar of names: `net`, `net@tag`, and networks of other packages as `timm:net` and `torchvision:net`.

A name alone is a network and never loads anything; with a tag it is that network with that published checkpoint.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rexdet.errors import UserError

EXTERNAL = ("timm", "torchvision")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Name:
    """A name in its parts: `package` is "timm" or "torchvision" for networks of others, else "". tag: "" for none."""

    network: str
    tag: str = ""
    package: str = ""

    def __str__(self) -> str:
        package = f"{self.package}:" if self.package else ""
        tag = f"@{self.tag}" if self.tag else ""
        return f"{package}{self.network}{tag}"


def parse(text: str) -> Name:
    """Take a name apart. Whether such a network or tag exists is not asked here.

    Raises UserError for what is no name: another type, blanks, an empty part, two tags.
    """
    if not isinstance(text, str):
        raise UserError(f"a network's name is text, not {text!r}", fix="write it in quotes, e.g. 'rexnet_1.0'")
    network, at, tag = text.partition("@")
    package, colon, rest = network.partition(":")
    if colon and package in EXTERNAL:
        network = rest
    else:
        package = ""
    if not network or any(character.isspace() for character in text):
        raise UserError(f"{text!r} is no name of a network", fix="write e.g. rexnet_1.0 or rexnet_1.0@nav_in1k")
    if at and not _TAG.fullmatch(tag):
        raise UserError(f"{text!r} has no proper tag behind its @", fix="write e.g. rexnet_1.0@nav_in1k")
    return Name(network, tag, package)


def near(text: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that `text` may have been meant to be, best first."""
    lowered = {name.lower(): name for name in names}
    return [lowered[name] for name in difflib.get_close_matches(text.lower(), lowered, n=count, cutoff=0.5)]
