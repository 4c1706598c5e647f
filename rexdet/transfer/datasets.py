"""Images to classify: folders of classes, decoded once and kept as bytes where they fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.runs import DataSplit

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Decoded images of a split up to this size stay in memory; those of a larger one are decoded when they are asked for.
CACHED_BYTES = 1 << 30


@dataclass(frozen=True)
class ImageSet:
    """One split: its images at one size, their labels and the names of the classes.

    paths: files, sorted by class and name. labels: (N,) int64, places in `classes`. size: side of the images in pixels.
    fingerprint: SHA-256 over every file's class, name and bytes. cache: (N, 3, size, size) uint8 RGB, None where the
    images are too many to be kept.
    """

    folder: str
    paths: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    size: int
    fingerprint: str
    cache: Tensor | None

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """The images of these places: (B, 3, size, size) uint8 RGB. Raises UserError for a file that cannot be read."""
        if self.cache is not None:
            return self.cache[torch.as_tensor(indices)]
        return torch.stack(
            [_decode(self.paths[int(index)].read_bytes(), self.paths[int(index)], self.size) for index in indices]
        )

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""
        return DataSplit(path=self.folder, fingerprint=self.fingerprint, images=len(self), classes=list(self.classes))


def list_classes(folder: str | Path) -> list[str]:
    """The names of the classes of a split: its subfolders, sorted. Raises UserError where there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError("no such folder of images", str(folder), "give a folder with train/ and test/ in it")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError("holds no folder a class", str(folder), "put the images of each class into a folder of its own")
    return classes


def read_split(
    root: str | Path,
    split: str,
    size: int,
    *,
    classes: Sequence[str] | None = None,
    cached_bytes: int = CACHED_BYTES,
    progress: bool = False,
) -> ImageSet:
    """Read ROOT/SPLIT, a folder of classes, with every image scaled whole to (size, size), bilinear.

    classes: those of the training split, by which the labels count; None for the split's own.
    cached_bytes: a split whose decoded images are more is decoded image by image when asked for.

    Raises UserError: no such split, a class without images, a class that the training split does not have, a file that
    cannot be read as an image.
    """
    folder = Path(root) / split
    found = list_classes(folder)
    names = tuple(found if classes is None else classes)
    foreign = [name for name in found if name not in names]
    if foreign:
        raise UserError(f"class {foreign[0]!r} is not a class of the training images", str(folder))
    paths: list[Path] = []
    labels: list[int] = []
    for name in found:
        files = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"class {name!r} has no images", str(folder), f"give {', '.join(SUFFIXES)} files")
        paths += files
        labels += [names.index(name)] * len(files)
    is_kept = 3 * size * size * len(paths) <= cached_bytes
    digest = hashlib.sha256()
    cache = torch.empty((len(paths), 3, size, size), dtype=torch.uint8) if is_kept else None
    for index, path in enumerate(tqdm(paths, desc=f"reading {split}", unit="image", disable=not progress, leave=False)):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\n{len(data)}\n".encode())
        digest.update(data)
        if cache is not None:
            cache[index] = _decode(data, path, size)
    return ImageSet(
        folder=str(folder),
        paths=tuple(paths),
        labels=torch.tensor(labels, dtype=torch.int64),
        classes=names,
        size=size,
        fingerprint=digest.hexdigest(),
        cache=cache,
    )


def _decode(data: bytes, path: Path, size: int) -> Tensor:
    from io import BytesIO

    try:
        with Image.open(BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"cannot be read as an image ({error})", str(path), "repair or remove it") from error
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture, dtype=np.uint8).copy()).permute(2, 0, 1)
