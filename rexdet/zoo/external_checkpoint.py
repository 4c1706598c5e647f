"""Opens files of weights of timm's and torchvision's networks, with everything that is known about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.checkpoint import (
    METADATA_KEY,
    Checkpoint,
    KnownFile,
    read_checkpoint,
    with_known_pixels,
    with_word_on_pixels,
)
from rexdet.weights.formats import read_file
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo import published
from rexdet.zoo.external_network import ExternalNetwork
from rexdet.zoo.external_published import PublishedByPackage
from rexdet.zoo.external_state import find_efficientnet, finder, name_efficientnet, name_of, shape_of
from rexdet.zoo.external_timm import pixels_of_config, timm_by_hash, timm_published, timm_tags
from rexdet.zoo.external_torchvision import torchvision_by_hash, torchvision_published, torchvision_tags
from rexdet.zoo.names import EXTERNAL, Name, parse

Source = str | Path | Mapping[str, Any]
_MAX_NESTING = 3
_PACKAGES = tuple(f"{package}:" for package in EXTERNAL)
# An N:M rule before a name.
_RULE = re.compile(r"^nm[^/]*/")
# How the hub names the file that its config.json describes.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def known_external(name: Name) -> KnownFile:
    """What is known of the published file of a name with a tag: by checkpoints.yaml, else by the package itself.

    Nothing is fetched. Raises UserError that lists the published tags where there is no such file.
    """
    own = published.find(name.without_rule)
    return own.known() if own is not None else _by_package(name).known()


def fetch_external(name: Name) -> tuple[Path, KnownFile]:
    """The published file of a name with a tag, from where it lies already or fetched into the cache."""
    own = published.find(name.without_rule)
    if own is not None:
        return published.fetch(own), own.known()
    found = _by_package(name)
    return cache.fetch(found.remote), found.known()


def published_tags(name: Name) -> list[str]:
    """The names with tags of a network's published files."""
    tags = timm_tags(name) if name.package == "timm" else torchvision_tags(name)
    own = published.published_names(str(Name(name.base, package=name.package)))
    return [*own, *(f"{name.package}:{name.base}@{tag}" for tag in tags)]


def external_of(source: Source, network: str = "") -> Name | None:
    """The network of another package that a source holds: by the name that it is, by what the file, its metadata or the
    config.json beside it say, else by `network`; None where nothing says so.

    Raises UserError for a name without a tag, which names no file.
    """
    if isinstance(source, str) and _RULE.sub("", source).startswith(_PACKAGES) and not Path(source).exists():
        name = parse(source)
        if not name.tag:
            there = ", ".join(published_tags(name)[:8]) or "none"
            raise UserError(
                f"{name.network} is a network, not a file of weights", fix=f"its published weights are {there}"
            )
        return name
    told = _told(source)
    if told is None and network and parse(network).package:
        told = Name(parse(network).base, package=parse(network).package)
    return told


def _told(source: Source) -> Name | None:
    if isinstance(source, Mapping):
        return _told_by_content(source, {})
    path = Path(source)
    if not path.is_file():
        return None
    content = read_file(path)
    config = _hub_config(path)
    return _told_by_content(content.value, content.metadata or {}) or (config.name if config else None)


def open_external(
    name: Name, source: Source, pixels: Any = None, part: str = "", network: ExternalNetwork | None = None
) -> Checkpoint:
    """Open weights of another package's network: a file, a name with a tag, or a dictionary of tensors.

    The tensors have the package's own keys. pixels: the user's word; part: as in `rexdet.open_checkpoint`.
    network: where it was built with overrides. Raises UserError as `rexdet.open_checkpoint` does.
    """
    network = network or ExternalNetwork(name)
    if name.tag:
        path, known = fetch_external(name)
        checkpoint = _read(network, path, part, str(name.without_rule))
        if checkpoint.network != network.name:
            raise UserError(
                f"the file of {name.without_rule} holds another network", where=str(path), fix="fetch it again"
            )
        return with_known_pixels(checkpoint, known, None if pixels == "" else pixels)
    checkpoint = _read(network, source if isinstance(source, Mapping) else Path(source), part)
    config = None if isinstance(source, Mapping) else _hub_config(Path(source))
    if checkpoint.pixels_known_by == "assumed" and config is not None and config.name.base == network.base.base:
        checkpoint = replace(
            checkpoint, pixels=config.pixels, pixels_known_by="metadata", licence=checkpoint.licence or config.licence
        )
    return checkpoint if pixels in (None, "") else with_word_on_pixels(checkpoint, pixels)


def _read(network: ExternalNetwork, source: Path | Mapping[str, Any], part: str, name: str = "") -> Checkpoint:
    def known(sha256: str, path: Path | None) -> KnownFile | None:
        by_hash = timm_by_hash if network.package == "timm" else torchvision_by_hash
        listed = published.known_file(sha256, path)
        found = None if listed else by_hash(network.base, sha256)
        return found.known() if found else listed

    return read_checkpoint(
        source,
        part=part,
        known=known,
        name_of=lambda state: name_of(network, state),
        name=name,
        find=finder(network),
        shape_of=lambda state: shape_of(network, state),
    )


def _by_package(name: Name) -> PublishedByPackage:
    name = name.without_rule
    return timm_published(name) if name.package == "timm" else torchvision_published(name)


def _told_by_content(value: Any, metadata: Mapping[str, str]) -> Name | None:
    """The network that our tools wrote into a file's metadata, or whose layout tells it."""
    written: Any = value.get(METADATA_KEY) if isinstance(value, Mapping) else None
    if METADATA_KEY in metadata:
        try:
            written = json.loads(metadata[METADATA_KEY])
        except json.JSONDecodeError:
            written = None  # Whoever reads the file in full says so.
    if isinstance(written, Mapping):
        # A checkpoint says "network", a detector of ours "backbone".
        said = str(written.get("network") or written.get("backbone") or "")
        if _RULE.sub("", said).startswith(_PACKAGES):
            name = parse(said)
            return Name(name.base, package=name.package)
    for state in _states(value, 0):
        for match in find_efficientnet(state):
            found = name_efficientnet(match.tensors(state))
            if found is not None:
                return found
    return None


def _states(value: Any, depth: int) -> Iterator[dict[str, Tensor]]:
    if not isinstance(value, Mapping) or depth > _MAX_NESTING:
        return
    tensors = {str(key): inner for key, inner in value.items() if isinstance(inner, Tensor)}
    if tensors:
        yield tensors
    for inner in value.values():
        yield from _states(inner, depth + 1)


@dataclass(frozen=True)
class _HubConfig:
    name: Name
    pixels: Preprocessing
    licence: str | None


def _hub_config(path: Path) -> _HubConfig | None:
    """What the config.json beside a file says, where both come from timm's hub; None where there is none."""
    beside = path.with_name("config.json")
    if path.name not in _HUB_FILES or not beside.is_file():
        return None
    try:
        values = json.loads(beside.read_text(encoding="utf-8"))
        config = values["pretrained_cfg"]
        licence = config.get("license") or values.get("license")
        return _HubConfig(Name(str(values["architecture"]), package="timm"), pixels_of_config(config), licence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"is no configuration of timm's ({error})", where=str(beside), fix="mend it, or move it away"
        ) from error
