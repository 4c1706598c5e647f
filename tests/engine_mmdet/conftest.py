"""What the tests of this room share. Where MMDetection is not installed they are skipped: `make setup-mmdet`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="MMDetection is not installed: make setup-mmdet")

import torch

import rexdet
import rexdet.mmdet  # provides mmcv's operators and registers the backbone


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """(name) -> a classifier's file in its own layout, with statistics that are not those of a fresh network."""
    folder = tmp_path_factory.mktemp("weights")

    @lru_cache
    def write(name: str) -> Path:
        torch.manual_seed(0)
        model = rexdet.create_model(name)
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0.0, 0.05)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        path = folder / f"{name.replace('/', '_').replace(':', '_')}.pth"
        torch.save(model.state_dict(), path)
        return path

    return write
