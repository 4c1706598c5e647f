"""Genomes: a base network and the channels of every layer, in a small YAML file.

A genome says what LW-DNA's search (arXiv 2006.16242) found, without weights:

    version: 1
    network: resnet50
    channels:
      stem: 60
      stages.0.0.unit1: 57
      ...
    provenance:
      criterion: gradient

`network` is a name without tag: one of ours, whose layers are keyed as in its `.channels`, or one of torchvision's,
whose convolutions are keyed by the path of their module (a depthwise one has no entry, it follows its input).
"""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import nn

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.nets.widths import LARGEST_WIDTH
from rexdet.weights.checkpoint import Checkpoint
from rexdet.zoo.names import GENOME_PREFIX, near, parse

# Characters. The largest genome of the papers' networks has a hundredth of it.
_LARGEST_FILE = 1_000_000
_SUFFIXES = (".yaml", ".yml")
_HEAD = "# An LW-DNA genome: a base network and the channels of every layer. `lwdna:FILE` builds it.\n"
Width = Annotated[int, Field(ge=1, le=LARGEST_WIDTH, strict=True)]


class Genome(BaseModel):
    """Layer-wise widths of a network.

    network: name of the base network, without tag, genome or N:M rule. channels: path of a layer -> output channels.
    provenance: where the widths come from, in plain values. Raises pydantic's ValidationError for other fields, and
    UserError for a name that has no such widths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    network: Annotated[str, Field(min_length=1, strict=True)]
    channels: Annotated[dict[str, Width], Field(min_length=1)]
    provenance: dict[str, str | int | float | bool | None] = Field(default_factory=dict)

    @field_validator("network")
    @classmethod
    def _check_network(cls, text: str) -> str:
        name = parse(text)
        if name.tag or name.rule or name.base.startswith(GENOME_PREFIX) or name.package not in ("", "torchvision"):
            raise UserError(
                "layer-wise widths are for one of our networks or torchvision's, without a tag, a rule or a genome",
                where=text,
                fix="write e.g. resnet50 or torchvision:mobilenet_v2",
            )
        return text

    def build(self, num_classes: int | None = None, **overrides: Any) -> nn.Module:
        """The network at these widths, with random weights: (B, 3, H, W) -> (B, num_classes) logits.

        Raises UserError for widths that do not fit the network or each other.
        """
        from rexdet.zoo.external import create_external_model
        from rexdet.zoo.registry import resolve
        from rexdet.zoo.resize import resize

        name = parse(self.network)
        if not name.package:
            return resolve(name.base).build(num_classes, channels=dict(self.channels), **overrides)
        return resize(create_external_model(name, num_classes, None, overrides), self.channels, where=self.network)


def read_genome(path: str | Path) -> Genome:
    """Read and check a genome file.

    Raises UserError (one line): no file, no YAML, a layer twice, a field missing or unknown, a width that is no
    positive whole number. Whether the widths fit the network is seen when it is built.
    """
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such genome file", where, "tools/search_lwdna.py writes one: genome.yaml") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"not a genome file ({error})", where) from None
    if len(text) > _LARGEST_FILE:
        raise UserError(f"not a genome file: it has {len(text):,} characters", where, "give a genome.yaml")
    try:
        values = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a number or a date that Python cannot hold. RecursionError: brackets in brackets without end.
        raise UserError(f"not YAML: {' '.join(str(error).split())[:300]}", where) from None
    if not isinstance(values, dict) or "network" not in values or "channels" not in values:
        raise UserError("not a genome: it has no `network` and `channels`", where, "docs/search-lwdna.md shows one")
    try:
        return Genome.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"not a genome: {place}: {first['msg']} (got {reprlib.repr(first['input'])})", where) from None
    except UserError as error:
        raise UserError(f"network: {error}", where) from None


def genome_of(checkpoint: Checkpoint) -> Genome:
    """The widths of every layer of a checkpoint's network (LW-DNA's published file, say), with where they come from.

    Raises UserError for a network that no name fits, and for one that is built with more than widths of its own.
    """
    further = [key for key in checkpoint.overrides if key != "channels"]
    if checkpoint.network is None or further:
        reason = f"it has {', '.join(further)} of its own" if further else "no name fits its network"
        raise UserError(f"cannot be written as a genome: {reason}", where=checkpoint.source)
    facts: dict[str, str | int | float | bool | None] = {
        "source": checkpoint.source,
        "sha256": checkpoint.origin_sha256,
        "licence": checkpoint.licence,
    }
    return Genome(network=checkpoint.network, channels=dict(checkpoint.shape.channels), provenance=facts)


def write_genome(path: str | Path, genome: Genome) -> None:
    """Write a genome file, whole or not at all."""
    text = yaml.safe_dump(genome.model_dump(), sort_keys=False, allow_unicode=True, width=120)
    write_text_atomically(path, _HEAD + text)


def shipped_genomes() -> dict[str, Path]:
    """Name -> file of the genomes that come with rexdet, sorted: widths that our own search found."""
    folder = Path(str(resources.files("rexdet.zoo").joinpath("genomes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_genome(text: str) -> Genome:
    """The genome of "lwdna:NAME" (one that comes with rexdet) or "lwdna:FILE" (the prefix may be left out).

    Raises UserError where there is none, and as `read_genome` does.
    """
    wanted = text.removeprefix(GENOME_PREFIX)
    shipped = shipped_genomes()
    if wanted in shipped:
        return read_genome(shipped[wanted])
    path = Path(wanted).expanduser()
    if path.suffix in _SUFFIXES or path.is_file():
        return read_genome(path)
    close = near(wanted, shipped) or list(shipped)
    offered = ", ".join(f"{GENOME_PREFIX}{name}" for name in close)
    raise UserError(
        f"there is no genome {wanted!r}", fix=f"there are {offered}, or give a file that ends in .yaml (lwdna:FILE)"
    )


class _StrictLoader(yaml.SafeLoader):
    """YAML that does not let a second entry silently take the place of the first, and repeats nothing by reference:
    a few lines of references to references stand for more than a machine can hold.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "a genome has no references (*name); write it out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice} is there twice", node.start_mark)
        return mapping
