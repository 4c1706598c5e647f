"""resnet50_lwdna: the ResNet-50 that LW-DNA's authors published. Its widths stand in their file and nowhere else.

The name resolves from that file alone: from the cache, where a person put it, or from what is given as weights. Widths
that our own search found are called `lwdna:NAME`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.checkpoint import Checkpoint, read_checkpoint
from rexdet.zoo import published
from rexdet.zoo.names import Name
from rexdet.zoo.registry import LWDNA_RESNET50, NetworkSpec, identify, resolve

BASE = "resnet50"
TAG = "hh_in1k"


def spec_from_cache() -> NetworkSpec:
    """The network by the file in the cache. Raises UserError that says where to get and put it where it is not."""
    entry = published.entry(Name(LWDNA_RESNET50, TAG))
    remotes = entry.remote_files()
    for remote in remotes:
        if (found := cache.present(remote)) is not None:
            return spec_from(_open(found, found.stat().st_mtime_ns))
    raise UserError(
        f"{LWDNA_RESNET50} is known by its authors' file alone, which is not here",
        fix=f"fetch {remotes[0].page} by hand and put it at {cache.folder() / remotes[0].name}, or give it as weights",
    )


def spec_from(checkpoint: Checkpoint) -> NetworkSpec:
    """The network by a checkpoint that somebody says is the authors' file.

    Raises UserError where it holds no ResNet-50 with widths of its own.
    """
    channels = checkpoint.overrides.get("channels")
    if checkpoint.network != BASE or not channels:
        held = checkpoint.network_in_words if checkpoint.network else checkpoint.shape.summary()
        raise UserError(
            f"holds {held}, and {LWDNA_RESNET50} has the depth of {BASE} and widths of its own in every layer",
            where=checkpoint.source,
            fix="give the authors' resnet50_lwdna.pt",
        )
    base = resolve(BASE)
    return NetworkSpec(
        LWDNA_RESNET50, "LW-DNA", base.constructor, {**base.arguments, "channels": dict(channels)}, base.num_classes
    )


@lru_cache(maxsize=1)
def _open(path: Path, modified: int) -> Checkpoint:
    return read_checkpoint(path, known=published.known_file, name_of=identify)
