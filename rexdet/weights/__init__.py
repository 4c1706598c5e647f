"""Checkpoint files: bytes -> tensors that can be trusted. Knows layouts and shapes, no names of networks."""

from __future__ import annotations

from rexdet.weights.checkpoint import Checkpoint, hash_file, hash_tensors, read_checkpoint
from rexdet.weights.load import LoadReport, compare, fill
from rexdet.weights.pixels import Preprocessing, read_pixels

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Preprocessing",
    "compare",
    "fill",
    "hash_file",
    "hash_tensors",
    "read_checkpoint",
    "read_pixels",
]
