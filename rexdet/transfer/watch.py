"""Curves for TensorBoard, where it is installed and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rexdet.optional import import_optional

FOLDER = "tensorboard"


class Watch:
    """Writes scalars into `FOLDER/tensorboard`. Raises UserError where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        import_optional("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / FOLDER))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a training step, counted from 1."""
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
