"""A small folder of classes, and a small network for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rexdet.transfer.images import ImageSet, read_split
from rexdet.transfer.protocols import Protocol

# A colour a class; noise around it keeps the classes from being too easy.
COLOURS = {"blue": (60, 60, 180), "green": (60, 180, 60), "red": (180, 60, 60)}
SIZE = 12


def write_images(folder: Path, count: int, seed: int) -> None:
    """`count` PNG images a class under folder/CLASS."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.clip(random.normal(colour, 70, size=(SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03}.png")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ (20 images a class) and test/ (10)."""
    root = tmp_path_factory.mktemp("colours")
    write_images(root / "train", 20, seed=0)
    write_images(root / "test", 10, seed=1)
    return root


@pytest.fixture
def train_set(colours: Path) -> ImageSet:
    return read_split(colours, "train", SIZE)


@pytest.fixture
def test_set(colours: Path, train_set: ImageSet) -> ImageSet:
    return read_split(colours, "test", SIZE, classes=train_set.classes)


@pytest.fixture
def protocol() -> Protocol:
    """Half a minute of nothing: 24 steps of 10 images."""
    return Protocol.model_validate(
        {
            "name": "tiny",
            "image_size": SIZE,
            "steps": 24,
            "batch_size": 10,
            "learning_rate": 0.05,
            "nesterov": True,
            "weight_decay": 0.0005,
            "warm_up": 0.1,
            "schedule": {"kind": "cosine"},
            "augmentation": {"pad": 2, "flip": True},
        }
    )


@pytest.fixture
def make_network() -> Callable[..., nn.Module]:
    """Makes the same small network with batch norm and dropout each time, from a seed."""

    def make(seed: int = 0, classes: int = 3) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(8, classes),
        )

    return make
