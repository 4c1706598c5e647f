"""The two mini-batches that a search looks at: random ones, or pictures of a folder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rexdet.bit_depth import as_rgb
from rexdet.errors import UserError

BATCH_SIZE = 64
# ImageNet's channel means and standard deviations, RGB, values from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_SMALLEST_SHARE = 0.35
# What Pillow's readers raise, by the format and by how it is broken.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def random_batches(classes: int, size: int, seed: int, batch_size: int = BATCH_SIZE) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches without end: images (N, 3, size, size) of N(0, 1), labels (N,) drawn evenly from the classes."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        images = torch.randn(batch_size, 3, size, size, generator=generator)
        yield images, torch.randint(classes, (batch_size,), generator=generator)


def list_pictures(folder: str | Path) -> list[tuple[Path, int]]:
    """(picture, label) of a folder of classes, sorted.

    A class is a subfolder; its label is its number where all are called by numbers, else its place in the sorted names.
    Without subfolders, every picture's name begins with its label: `0123_anything.jpg`.
    Raises UserError where there are no pictures, and for a name without a label.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError("no such folder of pictures", str(folder), "give a folder with a subfolder a class")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if classes:
        numbered = all(path.name.isdecimal() for path in classes)
        labels = [int(path.name) if numbered else index for index, path in enumerate(classes)]
        found = [
            (picture, label)
            for path, label in zip(classes, labels, strict=True)
            for picture in _pictures(path.rglob("*"))
        ]
    else:
        found = [(picture, _label_of(picture)) for picture in _pictures(root.iterdir())]
    if not found:
        raise UserError("holds no pictures", str(folder), f"give a folder of {', '.join(SUFFIXES)} files by class")
    return found


def folder_batches(
    folder: str | Path, size: int, seed: int, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches of the pictures of `list_pictures`, in a random order of `seed`, none twice; whole ones alone.

    images (N, 3, size, size): a random crop of 35 to 100% of the area, resized, ImageNet's mean and standard deviation
    taken out. Raises UserError where there are not two mini-batches, and for a picture that cannot be read.
    """
    pictures = list_pictures(folder)
    if len(pictures) < 2 * batch_size:
        raise UserError(
            f"holds {len(pictures)} pictures, and a search looks at {2 * batch_size}", str(folder), "give more pictures"
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(pictures))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        chosen = [pictures[index] for index in order[start : start + batch_size]]
        images = torch.stack([_read(path, size, random) for path, _ in chosen])
        yield images, torch.tensor([label for _, label in chosen])


def _pictures(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _label_of(picture: Path) -> int:
    number = picture.name.partition("_")[0]
    if not number.isdecimal():
        raise UserError(
            "a picture without a class", str(picture), "put it into a folder a class, or name it 0123_*.jpg"
        )
    return int(number)


def _read(path: Path, size: int, random: np.random.Generator) -> Tensor:
    try:
        with Image.open(path) as opened:
            picture = as_rgb(opened)
    except _UNREADABLE as error:
        raise UserError(f"cannot be read ({error})", str(path), "remove it") from error
    share = float(np.sqrt(random.uniform(_SMALLEST_SHARE, 1.0)))
    wide, high = max(int(picture.width * share), 1), max(int(picture.height * share), 1)
    left = int(random.integers(picture.width - wide + 1))
    top = int(random.integers(picture.height - high + 1))
    cut = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high))
    pixels = torch.from_numpy(np.asarray(cut, dtype=np.float32) / 255).permute(2, 0, 1)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
