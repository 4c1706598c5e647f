"""What a package says about a published file of one of its networks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rexdet.weights import cache
from rexdet.weights.checkpoint import KnownFile
from rexdet.weights.pixels import Preprocessing

_HASH = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


@dataclass(frozen=True)
class PublishedByPackage:
    """A published file: name ("timm:resnet18@a1_in1k"), where it is, its pixels, its licence (None: not known)."""

    name: str
    remote: cache.RemoteFile
    pixels: Preprocessing
    licence: str | None

    def known(self) -> KnownFile:
        return KnownFile(self.name, self.pixels, self.licence)


def hash_in(address: str) -> str:
    """The beginning of the SHA-256 that publishers put into a file's name (resnet18-f37072fd.pth); "" for none."""
    match = _HASH.search(address)
    return match[1] if match else ""


def matches_hash_in(address: str, sha256: str) -> bool:
    """The file behind an address has this hash, as far as its name tells."""
    beginning = hash_in(address)
    return bool(beginning) and sha256.startswith(beginning)
