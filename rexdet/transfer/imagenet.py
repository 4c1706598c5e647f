"""Accuracy of a classifier on any folder of ImageNet's form: the check before anyone blames a detector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from rexdet.bit_depth import as_rgb
from rexdet.errors import UserError
from rexdet.transfer.augment import Normaliser
from rexdet.transfer.evaluate import evaluation_mode
from rexdet.weights.pixels import Preprocessing

CLASSES = 1000
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SYNSET = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"\d{1,4}")
_NUMBERED_FILE = re.compile(r"(\d{1,4})_")
_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# The 97.5% point of the normal distribution.
_Z = 1.959963984540054
_FORM = "folders named by synset (n01440764) or class number, or files that begin with the number: 0007_anything.jpg"


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the number of its ImageNet-1k class, 0 to 999."""

    path: Path
    label: int


@dataclass(frozen=True)
class Share:
    """A share of `count` among `total`, with its 95% interval after Wilson (1927), each 0 to 1."""

    count: int
    total: int

    @property
    def value(self) -> float:
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds within which the share of all such pictures lies with 95% confidence; of use for small sets, too."""
        n, share = self.total, self.value
        centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class Accuracy:
    """How often the right class was the first, and among the first five."""

    top1: Share
    top5: Share


@lru_cache(maxsize=1)
def synsets() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 classes in the order of their numbers."""
    text = resources.files("rexdet.transfer").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    return tuple(line.split("\t")[1] for line in text.splitlines()[1:])


def read_imagenet_folder(folder: str | Path, limit: int = 0) -> list[LabelledPicture]:
    """The pictures of a folder with their classes, sorted; the file's or its folder's name tells the class.

    limit: at most so many, spread evenly over them all; 0: all.
    Raises UserError for a folder of another form, and for a class that ImageNet-1k does not have.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError("no such folder", where=str(root), fix=f"give a folder with {_FORM}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    pictures = list(_in_folders(root, folders) if folders else _in_names(root))
    if not pictures:
        raise UserError("holds no pictures", where=str(root), fix=f"give a folder with {_FORM}")
    pictures.sort(key=lambda picture: (picture.label, picture.path.name))
    if limit and limit < len(pictures):
        pictures = [pictures[position * len(pictures) // limit] for position in range(limit)]
    return pictures


def _in_folders(root: Path, folders: Sequence[Path]) -> Iterator[LabelledPicture]:
    names = [path.name for path in folders]
    if all(_SYNSET.fullmatch(name) for name in names):
        numbers = {synset: number for number, synset in enumerate(synsets())}
    elif all(_NUMBER.fullmatch(name) for name in names):
        numbers = {name: int(name) for name in names}
    else:
        odd = next(name for name in names if not _SYNSET.fullmatch(name) and not _NUMBER.fullmatch(name))
        raise UserError(f"has a folder {odd!r}, which names no class", where=str(root), fix=f"it takes {_FORM}")
    for folder in folders:
        if folder.name not in numbers:
            raise UserError(f"{folder.name} is none of ImageNet-1k's classes", where=str(folder))
        label = _checked(numbers[folder.name], folder)
        yield from (LabelledPicture(path, label) for path in sorted(folder.iterdir()) if _is_picture(path))


def _in_names(root: Path) -> Iterator[LabelledPicture]:
    for path in sorted(root.iterdir()):
        if not _is_picture(path):
            continue
        match = _NUMBERED_FILE.match(path.name)
        if match is None:
            raise UserError(f"{path.name} does not begin with its class", where=str(root), fix=f"it takes {_FORM}")
        yield LabelledPicture(path, _checked(int(match[1]), path))


def _checked(label: int, where: Path) -> int:
    if label >= CLASSES:
        raise UserError(f"class {label}: they are counted from 0 to {CLASSES - 1}", where=str(where))
    return label


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_ENDINGS and path.is_file()


def prepare_picture(path: Path, pixels: Preprocessing) -> Tensor:
    """A picture as a network's publisher prepares it for testing: (3, crop, crop) uint8, RGB.

    The shorter side is resized to `pixels.resize`, then the middle is cut out. Raises UserError for a file that is no
    whole picture.
    """
    try:
        with Image.open(path) as opened:
            picture = as_rgb(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot be decoded ({error})", where=str(path), fix="mend it or take it out") from error
    width, height = picture.size
    side = max(pixels.resize or min(width, height), pixels.crop)
    shorter = min(width, height)
    size = (side * width // shorter, side * height // shorter)
    if size != picture.size:
        picture = picture.resize(size, _INTERPOLATION[pixels.interpolation])
    crop = pixels.crop or side
    left, top = (round((length - crop) / 2.0) for length in picture.size)
    values = np.array(picture.crop((left, top, left + crop, top + crop)))
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def evaluate_imagenet(
    network: nn.Module,
    pictures: Sequence[LabelledPicture],
    pixels: Preprocessing,
    *,
    batch: int = 32,
    progress: bool = False,
) -> Accuracy:
    """Classify every picture in evaluation mode, prepared and normalised as `pixels` say.

    network: (B, 3, H, W) float32 -> (B, 1000) logits, on the CPU or on CUDA. Its mode is restored.
    Raises UserError for a network of another class count, and for a picture that cannot be decoded: an accuracy over a
    part of a test set is none.
    """
    device = next(network.parameters()).device
    normalise = Normaliser(pixels)
    first = fifth = 0
    bar = tqdm(total=len(pictures), unit="picture", disable=None if progress else True)
    with bar, torch.inference_mode(), evaluation_mode(network):
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            images = torch.stack([prepare_picture(picture.path, pixels) for picture in part])
            logits = network(normalise(images).to(device)).float().cpu()
            if logits.shape[1:] != (CLASSES,):
                raise UserError(
                    f"the network tells {logits.shape[1]} classes apart, and ImageNet-1k has {CLASSES}",
                    fix="give weights that were trained on ImageNet-1k",
                )
            labels = torch.tensor([picture.label for picture in part])[:, None]
            hits = logits.topk(5, dim=1).indices == labels
            first += int(hits[:, 0].sum())
            fifth += int(hits.any(dim=1).sum())
            bar.update(len(part))
    return Accuracy(Share(first, len(pictures)), Share(fifth, len(pictures)))
