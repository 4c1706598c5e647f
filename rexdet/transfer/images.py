"""Images to classify: what a split lists, one image of it, and a split decoded at one size."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from rexdet.bit_depth import as_rgb
from rexdet.errors import UserError
from rexdet.runs import DataSplit

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
# Decoded images of a split up to this size stay in memory; those of a larger one are decoded when they are asked for.
CACHED_BYTES = 1 << 30

# What Pillow's readers raise for damaged files of one format or another.
DAMAGED = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageFile(ABC):
    """One image of a split.

    name: what people are shown; unique within the set, the same on every machine.
    """

    name: str

    @property
    @abstractmethod
    def where(self) -> str:
        """The file that is meant, for messages."""

    @abstractmethod
    def read(self) -> bytes:
        """The bytes that the fingerprint is over. Raises UserError for a file that cannot be read."""

    @abstractmethod
    def pixels(self) -> Image.Image:
        """The picture, RGB, as large as it is stored. Raises UserError for what cannot be read as an image."""


@dataclass(frozen=True)
class StoredImage(ImageFile):
    """An image in a file of its own.

    A turning that EXIF asks for is not done (torchvision's sets do none either); what lies under transparency is seen.
    """

    name: str
    location: str

    @property
    def path(self) -> Path:
        """The file. Made when asked for: a hundred thousand Path objects take a second."""
        return Path(self.location)

    @property
    def where(self) -> str:
        return self.location

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror or error})", self.where, "repair or remove it") from error

    def pixels(self) -> Image.Image:
        return decode(self.read(), self.where)


@dataclass(frozen=True, eq=False)
class ArrayImage(ImageFile):
    """Row `row` of an array of images: pixels (N, H, W, 3) uint8 RGB, which all images of a split share."""

    name: str
    array: NDArray[np.uint8]
    row: int
    source: str = ""

    @property
    def where(self) -> str:
        return f"{self.source} row {self.row}" if self.source else self.name

    def read(self) -> bytes:
        return self.array[self.row].tobytes()

    def pixels(self) -> Image.Image:
        return Image.fromarray(self.array[self.row])


@dataclass(frozen=True, eq=False)
class Listing:
    """A split of a data set: which images, of which class. No picture of it is decoded.

    name: of the data set ("flowers102"). split: "train", "val", "train+val" or "test". labels: (N,) int64, places in
    `classes`. digests: SHA-256 of each image's bytes, hexadecimal. folder: where it was read. notes: what was mended or
    left out and how often, a line each.
    """

    name: str
    split: str
    files: tuple[ImageFile, ...]
    labels: Tensor
    classes: tuple[str, ...]
    digests: tuple[str, ...]
    folder: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names of the classes and every image's class, name and bytes, in this order."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for file, label, content in zip(self.files, self.labels.tolist(), self.digests, strict=True):
            digest.update(f"\n{label}\t{file.name}\t{content}".encode())
        return digest.hexdigest()

    def subset(self, indices: Iterable[int] | Tensor, split: str) -> Listing:
        """The images of these places, in this order, as a split of another name."""
        places = [int(index) for index in indices]
        return replace(
            self,
            split=split,
            files=tuple(self.files[place] for place in places),
            labels=self.labels[torch.tensor(places, dtype=torch.int64)],
            digests=tuple(self.digests[place] for place in places),
        )

    def joined(self, other: Listing, split: str = "train+val") -> Listing:
        """These images, then the other's. Raises ValueError where the classes differ."""
        if self.classes != other.classes:
            raise ValueError(f"{self.split} and {other.split} of {self.name} have different classes")
        return replace(
            self,
            split=split,
            files=self.files + other.files,
            labels=torch.cat([self.labels, other.labels]),
            digests=self.digests + other.digests,
            notes=self.notes + tuple(note for note in other.notes if note not in self.notes),
        )

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""
        return DataSplit(path=self.folder, fingerprint=self.fingerprint, images=len(self), classes=list(self.classes))


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: its images at one size, their labels and the names of the classes.

    files: the images, in the split's order. labels: (N,) int64, places in `classes`. size: side of the images in
    pixels, to which each is scaled whole, bilinear. fingerprint: of every file's class, name and bytes.
    cache: (N, 3, size, size) uint8 RGB, None where the images are too many to be kept. notes: what a reader of numbers
    over these images should know.
    """

    folder: str
    files: tuple[ImageFile, ...]
    labels: Tensor
    classes: tuple[str, ...]
    size: int
    fingerprint: str
    cache: Tensor | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, listing: Listing, size: int, *, cached_bytes: int = CACHED_BYTES, progress: bool = False) -> ImageSet:
        """A listing's images at one size.

        cached_bytes: a split whose decoded images are more is decoded image by image when asked for. Raises UserError
        for an image that cannot be read.
        """
        is_kept = 3 * size * size * len(listing) <= cached_bytes
        cache = torch.empty((len(listing), 3, size, size), dtype=torch.uint8) if is_kept else None
        if cache is not None:
            bar = tqdm(listing.files, desc=f"reading {listing.split}", unit="image", disable=not progress, leave=False)
            for index, file in enumerate(bar):
                cache[index] = scaled(file.pixels(), size)
        content = (listing.folder, listing.files, listing.labels, listing.classes)
        return cls(*content, size, listing.fingerprint, cache, listing.notes)

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Sequence[int] | Tensor) -> Tensor:
        """The images of these places: (B, 3, size, size) uint8 RGB. Raises UserError for a file that cannot be read."""
        if self.cache is not None:
            return self.cache[torch.as_tensor(indices)]
        return torch.stack([scaled(self.files[int(index)].pixels(), self.size) for index in indices])

    def names(self, indices: Sequence[int] | Tensor) -> list[str]:
        """Which files these places are, for a person."""
        return [self.files[int(index)].where for index in indices]

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""
        return DataSplit(path=self.folder, fingerprint=self.fingerprint, images=len(self), classes=list(self.classes))


def list_classes(folder: str | Path) -> list[str]:
    """The names of the classes of a split: its subfolders, sorted. Raises UserError where there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError("no such folder of images", str(folder), "give a folder with train/ and test/ in it")
    try:
        folders = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot be listed ({error.strerror or error})", str(folder)) from error
    classes = sorted(check_name(name, root) for name in folders)
    if not classes:
        raise UserError("holds no folder a class", str(folder), "put the images of each class into a folder of its own")
    return classes


def list_images(folder: Path, name: str) -> list[Path]:
    """The image files of class `name` of a folder of classes, by name. Raises UserError where there are none."""
    files = pictures_below(folder / name)
    if not files:
        raise UserError(f"class {name!r} has no images", str(folder), f"give {', '.join(SUFFIXES)} files")
    return files


def pictures_below(folder: Path) -> list[Path]:
    """Every file below a folder that is named as a picture, ordered by its parts.

    Hidden files and what hidden folders hold are left out. Links to folders are followed; a folder that several paths
    lead to counts once, so that a link to a folder above adds nothing.
    """
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in visited:
            folders.clear()
            continue
        visited.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, check_name(name, place)) for name in names if is_picture(name)]
    return sorted(found, key=lambda path: path.parts)


def is_picture(name: str) -> bool:
    """Whether a file is named as a picture, and is not hidden."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def check_name(name: str, folder: str | Path) -> str:
    """The name of a file or folder as it stands. Raises UserError where its bytes are no UTF-8, as records are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        told = name.encode(errors="backslashreplace").decode()
        raise UserError(f"has a name that is not UTF-8, {told}", str(folder), "rename it") from None
    return name


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
    files: list[ImageFile] = []
    labels: list[int] = []
    for name in found:
        paths = list_images(folder, name)
        files += [StoredImage(path.relative_to(folder).as_posix(), str(path)) for path in paths]
        labels += [names.index(name)] * len(paths)
    is_kept = 3 * size * size * len(files) <= cached_bytes
    # One hash over all bytes, unlike a listing's: the studies' finished cells are keyed by it.
    digest = hashlib.sha256()
    cache = torch.empty((len(files), 3, size, size), dtype=torch.uint8) if is_kept else None
    for index, file in enumerate(tqdm(files, desc=f"reading {split}", unit="image", disable=not progress, leave=False)):
        data = file.read()
        digest.update(f"{file.name}\n{len(data)}\n".encode())
        digest.update(data)
        if cache is not None:
            cache[index] = scaled(decode(data, file.where), size)
    return ImageSet(
        folder=str(folder),
        files=tuple(files),
        labels=torch.tensor(labels, dtype=torch.int64),
        classes=names,
        size=size,
        fingerprint=digest.hexdigest(),
        cache=cache,
    )


def decode(data: bytes, where: str) -> Image.Image:
    """The picture that these bytes hold, RGB. Raises UserError, with `where` in it, for anything else."""
    try:
        with Image.open(BytesIO(data)) as opened:
            return as_rgb(opened)
    except DAMAGED as error:
        raise UserError(damage(error), where, "repair or remove it") from error


def damage(error: Exception) -> str:
    """What Pillow's complaint (one of DAMAGED) says, without the address in memory that it puts into some."""
    reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
    return f"cannot be read as an image ({reason})"


def scaled(picture: Image.Image, size: int) -> Tensor:
    """A picture scaled whole to a square, bilinear: (3, size, size) uint8."""
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture, dtype=np.uint8).copy()).permute(2, 0, 1)
