"""mmengine's file storage with files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend

from rexdet.files import atomic_path

ATOMIC = "rexdet_atomic"


@register_backend(name=ATOMIC, force=True)
class AtomicBackend(LocalBackend):
    """The local disk; a checkpoint takes its name only after it was read back whole."""

    def put(self, obj: bytes | memoryview, filepath: str | os.PathLike[str]) -> None:
        """Write a file. Raises OSError where the disk refuses, RuntimeError where what is read back does not open."""
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)
            if Path(filepath).suffix == ".pth":
                torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
