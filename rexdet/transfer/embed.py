"""Features of the pictures of any folder, written for other programs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from rexdet.disk import refusals_told
from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.processes import is_main
from rexdet.transfer.features import Extractor, FeatureSet
from rexdet.transfer.framing import framing_of
from rexdet.transfer.images import SUFFIXES, Listing, StoredImage, pictures_below
from rexdet.weights.checkpoint import Checkpoint
from rexdet.zoo.names import parse
from rexdet.zoo.open import open_checkpoint

ENDINGS = (".npz", ".safetensors")


def open_weights(name: str, weights: str, pixels: str) -> Checkpoint:
    """The checkpoint that a command line means. Raises UserError where it names none, or two."""
    parsed = parse(name)
    if parsed.tag and weights:
        raise UserError(f"{name} names its weights already, and --weights is given, too", fix="leave one of them out")
    if not parsed.tag and not weights:
        raise UserError(f"{name} alone has random weights", fix="give a name@tag, or --weights FILE")
    return open_checkpoint(weights or name, pixels=pixels or None, network=parsed.network)


def embed(
    name: str,
    checkpoint: Checkpoint,
    images: Path,
    output: Path,
    *,
    tap: str = "penultimate",
    framing: Literal["centre", "whole"] = "centre",
    size: int = 0,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    is_bf16: bool = False,
    progress: bool = False,
) -> str:
    """Compute the features of all pictures below `images` and write them, whole or not at all; says what was written.

    .npz: features (N, D) float32, names (N) text (paths below the folder), facts (JSON text). .safetensors: features;
    names (a JSON list) and facts in the metadata. Among several processes each computes a share, the main one writes.

    Raises UserError: another ending, a folder without pictures, a picture that cannot be read, a full disk.
    """
    if output.suffix not in ENDINGS:
        raise UserError(f"ends in {output.suffix or 'nothing'}", str(output), f"name a file {' or '.join(ENDINGS)}")
    extractor = Extractor(
        name,
        checkpoint,
        tap=tap,
        framing=framing_of(checkpoint.pixels, framing, size),
        device=device,
        dtype=torch.bfloat16 if is_bf16 else torch.float32,
        batch_size=batch_size,
    )
    listing = list_pictures(images)
    found = extractor.extract(listing, progress=progress)
    facts = {**extractor.facts(listing), "origin_sha256": checkpoint.origin_sha256}
    if is_main():
        _write(output, found, json.dumps(facts, sort_keys=True))
    dimensions = found.features.shape[1]
    return f"{len(found)} pictures x {dimensions} features ({tap}, {extractor.framing}) in {output}"


def list_pictures(folder: Path) -> Listing:
    """Every picture below a folder, by name, hidden ones left out; all of one class.

    Raises UserError where there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise UserError("no such folder of pictures", str(folder))
    paths = pictures_below(folder)
    if not paths:
        raise UserError("holds no pictures", str(folder), f"give a folder of {', '.join(SUFFIXES)} files")
    files = tuple(StoredImage(path.relative_to(folder).as_posix(), str(path)) for path in paths)
    digests = tuple(hashlib.sha256(file.read()).hexdigest() for file in files)
    labels = torch.zeros(len(files), dtype=torch.int64)
    return Listing(folder.name, "images", files, labels, ("images",), digests, str(folder))


def _write(output: Path, found: FeatureSet, facts: str) -> None:
    fix = "make room there, or name another file"
    with refusals_told("cannot be written", output, fix), atomic_path(output) as temporary:
        if output.suffix == ".npz":
            with open(temporary, "wb") as stream:
                np.savez(stream, features=found.features, names=np.array(found.names), facts=np.array(facts))
        else:
            from safetensors.numpy import save_file

            metadata = {"names": json.dumps(found.names), "facts": facts}
            save_file({"features": np.ascontiguousarray(found.features)}, str(temporary), metadata=metadata)
