"""Features of the images of a split, computed once: a network's last layer but one, or any of res2 to res5, pooled.

They are kept under a key of everything they hang on: the network and its checkpoint's SHA-256, the tap, mean, deviation
and order of the pixels, how pictures are framed, the precision, and the split's fingerprint. Each image is computed for
itself (evaluation mode), so neither batch nor number of processes changes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.processes import barrier, gather, is_main, rank, share, world_size
from rexdet.transfer.augment import Normaliser
from rexdet.transfer.feature_store import FeatureStore
from rexdet.transfer.framing import Framing, frame, framing_of
from rexdet.transfer.images import Listing
from rexdet.transfer.taps import (
    PENULTIMATE,
    TAPS,
    Backend,
    FeatureFunction,
    feature_function,
    preferred_backend,
    tapped_network,
)
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.pixels import IMAGENET, Preprocessing
from rexdet.zoo.names import parse
from rexdet.zoo.open import open_checkpoint

# Images a part of the store: what a killed extraction loses at most, and what one process takes at a time.
BLOCK = 256
_FORM = 2


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of a split: one row an image.

    features: (N, D) float32, memory-mapped where they come from the disk. labels: (N,) int64, places in `classes`.
    names: of the images. key: SHA-256 of all that the features hang on, "" for features of several splits.
    was_kept: they were on the disk already.
    """

    features: NDArray[np.float32]
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...] = ()
    key: str = ""
    was_kept: bool = False

    def __len__(self) -> int:
        return len(self.features)

    def tensor(self) -> Tensor:
        """The features as a tensor, (N, D) float32; memory is shared."""
        return torch.from_numpy(self.features)

    def joined(self, other: FeatureSet) -> FeatureSet:
        """These rows, then the other's. Raises ValueError where classes or dimensions differ."""
        if self.classes != other.classes or self.features.shape[1] != other.features.shape[1]:
            raise ValueError("the two sets of features have different classes or dimensions")
        return FeatureSet(
            np.concatenate([self.features, other.features]),
            torch.cat([self.labels, other.labels]),
            self.classes,
            self.names + other.names,
        )


class Extractor:
    """Gives the features of listings; builds its network only when it has to.

    name: of the network, with a @tag or without. checkpoint: its weights; None for those of the tag, or random ones.
    tap: "penultimate" (what the last linear layer reads) or "res2" to "res5" (averaged over their pixels).
    framing, pixels: None for the checkpoint's own (ImageNet's for random weights). device: "cpu" or "cuda".
    dtype: torch.float32, or torch.bfloat16, whose features are as exact as that is and are kept apart.
    backend: see `feature_function`. batch_size: images at a time; it changes nothing but the speed. seed: of random
    weights.

    Raises UserError for an unknown tap and as `open_checkpoint` does.
    """

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint | None = None,
        *,
        tap: str = PENULTIMATE,
        framing: Framing | None = None,
        pixels: Preprocessing | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend = "auto",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if tap not in TAPS:
            raise UserError(f"there is no tap {tap!r}", fix=f"there are {', '.join(TAPS)}")
        if batch_size < 1:
            raise UserError(f"the batch size is {batch_size}", fix="give 1 or more")
        if checkpoint is None and parse(name).tag:
            checkpoint = open_checkpoint(name)
        self.name, self.checkpoint, self.tap, self.seed = parse(name).network, checkpoint, tap, seed
        self.pixels = pixels or (IMAGENET if checkpoint is None else checkpoint.pixels)
        self.framing = framing or framing_of(self.pixels)
        self.device, self.dtype, self.backend, self.batch_size = torch.device(device), dtype, backend, batch_size

    def facts(self, listing: Listing) -> dict[str, Any]:
        """Everything that the features of a listing hang on, as plain values."""
        return {
            "form": _FORM,
            "network": self.name,
            "weights": f"random, seed {self.seed}" if self.checkpoint is None else self.checkpoint.sha256,
            "tap": self.tap,
            "pixels": {"mean": list(self.pixels.mean), "std": list(self.pixels.std), "order": self.pixels.order},
            "framing": self.framing.as_mapping(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "backend": preferred_backend(self.backend, self.device, len(listing)),
            "images": listing.fingerprint,
        }

    def key(self, listing: Listing) -> str:
        """SHA-256 of the facts."""
        return hashlib.sha256(json.dumps(self.facts(listing), sort_keys=True).encode()).hexdigest()

    def extract(self, listing: Listing, folder: str | Path | None = None, *, progress: bool = False) -> FeatureSet:
        """The features of a listing, computed or, where `folder` holds them, opened.

        Among several processes each computes a share, and every one gets the whole; all must call it, with the same
        folder. A stopped extraction goes on at the block of images where it stopped. folder: None to keep nothing.

        Raises UserError for an image that cannot be read, and for a folder that cannot be written to or is full.
        """
        key = self.key(listing)
        features, was_kept = (
            (self._in_memory(listing, progress), False)
            if folder is None
            else self._through(FeatureStore(Path(folder), key, len(listing), BLOCK), listing, progress)
        )
        return FeatureSet(
            features,
            listing.labels,
            listing.classes,
            tuple(file.name for file in listing.files),
            key,
            was_kept,
        )

    def _through(self, store: FeatureStore, listing: Listing, progress: bool) -> tuple[NDArray[np.float32], bool]:
        # One process looks: another could come to another answer while the file is being written.
        was_kept = bool(share(store.load() is not None))
        if not was_kept:
            with store.alone() if is_main() else nullcontext():
                # Another run may have computed them while this one waited.
                was_kept = bool(share(store.load() is not None))
                if not was_kept:
                    self._fill(store, listing, progress)
        features = store.load()
        if features is None:
            raise RuntimeError(f"{store.path} has gone while it was needed")
        return features, was_kept

    def _fill(self, store: FeatureStore, listing: Listing, progress: bool) -> None:
        missing = share([part for part in range(len(store)) if not store.has(part)])
        own = missing[rank() :: world_size()]
        for part, rows in self._blocks(listing, [store.places(part) for part in own], own, progress):
            store.save(part, rows)
        barrier()
        if is_main():
            store.join()
        barrier()

    def _in_memory(self, listing: Listing, progress: bool) -> NDArray[np.float32]:
        starts = range(0, len(listing), BLOCK)
        own = list(range(len(starts)))[rank() :: world_size()]
        places = [range(starts[part], min(starts[part] + BLOCK, len(listing))) for part in own]
        mine = list(self._blocks(listing, places, own, progress))
        everyone = share(sorted((block for blocks in gather(mine) for block in blocks), key=lambda block: block[0]))
        return np.concatenate([features for _, features in everyone])

    def _blocks(
        self, listing: Listing, places: list[range], parts: list[int], progress: bool
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(part, its features (images of it, D)), one after the other. The next batch is decoded while one is run."""
        images = sum(map(len, places))
        if not images:
            return
        # By the whole listing: what was stopped, and what is shared among processes, is computed by one back end.
        run = self._function(len(listing))
        batches = [
            (part, range(start, min(start + self.batch_size, block.stop)))
            for part, block in zip(parts, places, strict=True)
            for start in range(block.start, block.stop, self.batch_size)
        ]
        normalise = Normaliser(self.pixels)
        rows: list[Tensor] = []
        bar = tqdm(total=images, desc=f"features of {listing.split}", unit="image", disable=not progress, leave=False)
        with bar, _Decoder(listing, self.framing) as decoder:
            waiting = decoder.ask(batches[0][1])
            for position, (part, batch) in enumerate(batches):
                pictures = decoder.get(waiting)
                is_last = position + 1 == len(batches)
                if not is_last:
                    waiting = decoder.ask(batches[position + 1][1])
                rows.append(run(normalise(pictures.to(self.device))))
                bar.update(len(batch))
                if is_last or batches[position + 1][0] != part:
                    yield part, _finite(torch.cat(rows), listing, block=part)
                    rows = []

    def _function(self, images: int) -> FeatureFunction:
        return feature_function(
            self._network,
            self.framing.crop,
            device=self.device,
            dtype=self.dtype,
            backend=self.backend,
            images=images,
        )

    @cached_property
    def _network(self) -> torch.nn.Module:
        return tapped_network(self.name, self.checkpoint, self.tap, seed=self.seed)


def _finite(features: Tensor, listing: Listing, block: int) -> NDArray[np.float32]:
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten()
    if len(bad):
        file = listing.files[block * BLOCK + int(bad[0])]
        raise UserError(
            f"the network's features of {len(bad):,} images are not finite",
            file.where,
            "look at the weights with tools/inspect_weights.py; bf16 and half precision overflow earlier",
        )
    return features.numpy()


class _Decoder:
    """Decodes pictures of a listing on threads of its own (Pillow lets go of the interpreter while it decodes)."""

    def __init__(self, listing: Listing, framing: Framing) -> None:
        self.listing, self.framing = listing, framing
        self.pool = ThreadPoolExecutor(max(torch.get_num_threads(), 1), "decode")

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def ask(self, places: range) -> list[Future[Tensor]]:
        return [self.pool.submit(self._one, place) for place in places]

    def get(self, asked: list[Future[Tensor]]) -> Tensor:
        """(B, 3, crop, crop) uint8. Raises what decoding raised."""
        return torch.stack([future.result() for future in asked])

    def _one(self, place: int) -> Tensor:
        return frame(self.listing.files[place].pixels(), self.framing)
