"""Writes a checkpoint in a publisher's layout, with where it comes from, and reads it back before it counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.weights.checkpoint import METADATA_KEY, Checkpoint
from rexdet.weights.formats import read_file
from rexdet.weights.layouts import layout_by_name

FORMATS = ("safetensors", "pth")


def save_checkpoint(
    checkpoint: Checkpoint, path: str | Path, *, layout: str = "ours", format: str | None = None, force: bool = False
) -> int:
    """Write `checkpoint` to `path`; returns the number of tensors.

    layout: one that the network's family has (rexdet.weights.layouts); a network of another package keeps its package's
    keys, and "ours" stands for them. format: "safetensors", "pth", or None for what
    the path's ending says.
    Origin SHA-256, network, licence and (where known) pixels go along: in safetensors metadata, or beside the weights
    (`state_dict`) under "rexdet" in a .pth. The file appears whole or not at all, after it was read back equal.

    Raises UserError for a file that exists (without `force`), an ending that says nothing, and a layout that has no
    such network.
    """
    path = Path(path)
    kind = format or _kind_of(path)
    if path.exists() and not force:
        raise UserError("exists already", where=str(path), fix="choose another --output, or --force")
    tensors = _in_layout(checkpoint, layout)
    solid = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    try:
        with atomic_path(path) as temporary:
            _write(temporary, kind, solid, checkpoint.metadata())
            _read_back(temporary, solid)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror or error})", where=str(path)) from error
    return len(solid)


def _in_layout(checkpoint: Checkpoint, layout: str) -> Mapping[str, Tensor]:
    package, colon, _ = (checkpoint.network or "").partition(":")
    if colon and layout in ("ours", package):
        return checkpoint.tensors
    try:
        if colon:
            raise ValueError(f"{checkpoint.network} has the keys of {package} alone")
        return layout_by_name(layout, checkpoint.shape.family.lower()).from_ours(checkpoint.tensors)
    except ValueError as error:
        raise UserError(f"cannot be written in {layout} layout: {error}", where=checkpoint.source) from error


def _kind_of(path: Path) -> str:
    if path.suffix == ".safetensors":
        return "safetensors"
    if path.suffix in (".pth", ".pt"):
        return "pth"
    raise UserError(
        f"the ending {path.suffix!r} says no format", where=str(path), fix="give --format safetensors or pth"
    )


def _write(path: Path, kind: str, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, str(path), metadata={"format": "pt", METADATA_KEY: json.dumps(metadata)})
    else:
        torch.save({"state_dict": tensors, METADATA_KEY: dict(metadata)}, path)


def _read_back(path: Path, tensors: Mapping[str, Tensor]) -> None:
    value = read_file(path).value
    stored = value.get("state_dict", value)
    for key, tensor in tensors.items():
        if key not in stored or not torch.equal(stored[key].nan_to_num(), tensor.nan_to_num()):
            raise UserError(f"{key} did not survive the writing", where=str(path), fix="check the disk")
