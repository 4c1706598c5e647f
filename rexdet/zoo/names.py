"""The grammar of names.

`net`: one of rexdet's own networks; `lwdna:NAME` and `lwdna:FILE`: one whose widths a genome gives layer by layer;
`timm:net`, `torchvision:net`: those of other packages. Before any of them `nmN:M/` applies the N:M rule to it
(`nmN:M-leaky/` its leaky form), behind it `@tag` fills it with a published checkpoint. A name without a tag never
loads anything.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rexdet.errors import UserError

EXTERNAL = ("timm", "torchvision")
GENOME_PREFIX = "lwdna:"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RULE = re.compile(r"^nm(?P<ratio>[^/]*)/")
_RATIO = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})(?:-leaky)?")


@dataclass(frozen=True)
class Name:
    """A name in its parts.

    base: "resnet50", "lwdna:my.yaml", or a name of another package. tag: "" for none.
    package: "timm" or "torchvision" for networks of others, else "". rule: "2:1" or "2:1-leaky" of the N:M rule, "" for
    none.
    """

    base: str
    tag: str = ""
    package: str = ""
    rule: str = ""

    @property
    def network(self) -> str:
        """Everything but the tag: what is built."""
        rule = f"nm{self.rule}/" if self.rule else ""
        package = f"{self.package}:" if self.package else ""
        return f"{rule}{package}{self.base}"

    @property
    def without_rule(self) -> Name:
        """The same network as its authors made it: what its published weights are called after."""
        return Name(self.base, self.tag, self.package)

    def __str__(self) -> str:
        return f"{self.network}@{self.tag}" if self.tag else self.network


def parse(text: str) -> Name:
    """Take a name apart. Whether such a network, genome or tag exists is not asked here.

    Raises UserError for what is no name: another type, blanks, an empty part, two tags, a ratio that is none.
    """
    if not isinstance(text, str):
        raise UserError(f"a network's name is text, not {text!r}", fix="write it in quotes, e.g. 'rexnet_1.0'")
    rule, rest = take_rule(text)
    is_genome = rest.startswith(GENOME_PREFIX)
    base, at, tag = _split_tag(rest)
    package, colon, inner = base.partition(":")
    if colon and package in EXTERNAL:
        base = inner
    else:
        package = ""
    blank = any(character.isspace() for character in (text if not is_genome else rule))
    if not base or base == GENOME_PREFIX or blank:
        raise UserError(f"{text!r} is no name of a network", fix="write e.g. rexnet_1.0 or rexnet_1.0@nav_in1k")
    if at and not _TAG.fullmatch(tag):
        raise UserError(f"{text!r} has no proper tag behind its @", fix="write e.g. rexnet_1.0@nav_in1k")
    return Name(base, tag, package, rule)


def names_weights(text: str) -> bool:
    """Whether a name has a @tag, proper or not. Nothing else of it is checked."""
    return bool(_split_tag(text)[1])


def without_tag(text: str) -> str:
    """A name without its @tag, as it is where it has none. Nothing else of it is checked."""
    return _split_tag(text)[0]


def _split_tag(text: str) -> tuple[str, str, str]:
    # A genome's file may be anywhere, and has no published weights: an @ in it belongs to the path.
    is_genome = _RULE.sub("", text, count=1).startswith(GENOME_PREFIX)
    return (text, "", "") if is_genome else text.partition("@")


def take_rule(text: str) -> tuple[str, str]:
    """The N:M rule before a name ("2:1", "2:1-leaky", "" for none), and the name.

    Raises UserError for a rule that is none (no ratio, or more activations, M, than convolutions, N) and for two.
    """
    match = _RULE.match(text)
    if match is None:
        return "", text
    ratio = _RATIO.fullmatch(match["ratio"])
    if ratio is None:
        raise UserError(f"{text!r} has no ratio N:M behind nm", fix="write e.g. nm2:1/resnet50 or nm2:1-leaky/resnet50")
    if int(ratio[2]) > int(ratio[1]):
        raise UserError(f"{text!r} has more activations than convolutions", fix="write e.g. nm2:1/resnet50")
    rest = text[match.end() :]
    if _RULE.match(rest):
        raise UserError(f"{text!r} has two N:M rules", fix="a network takes one, e.g. nm2:1/resnet50")
    return ratio[0], rest


def near(text: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that `text` may have been meant to be, best first."""
    lowered = {name.lower(): name for name in names}
    return [lowered[name] for name in difflib.get_close_matches(text.lower(), lowered, n=count, cutoff=0.5)]
