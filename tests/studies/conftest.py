"""A folder of classes, a protocol of a few steps, and the cells of a study on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexdet.transfer.protocols import Protocol, read_protocol


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with three classes of noisy colours, 16 pixels."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for name, colour in (("blue", (60, 60, 180)), ("green", (60, 180, 60)), ("red", (180, 60, 60))):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(random.normal(colour, 80, size=(16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index:03}.png")
    return root


@pytest.fixture
def protocol() -> Protocol:
    return read_protocol("cifar_short").changed(steps=3, image_size=16, batch_size=8)
