"""Random parts of images, cut from a store of decoded ones: a function of seed, epoch and index alone.

Decoding JPEG files costs more than training a small network on them, and a random part differs every time. So each
image is decoded once, its shorter side scaled down to a bound, and kept as bytes in a file that is mapped into memory.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rexdet.disk import refusals_told
from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.processes import barrier, is_main
from rexdet.runs import DataSplit
from rexdet.transfer.images import ImageFile, Listing
from rexdet.transfer.protocols import RandomResizedCrop
from rexdet.transfer.scan import cache_folder

logger = logging.getLogger(__name__)

# Separates these numbers from the others that are drawn from the same seed (rexdet.runs.state, augment.py, splits.py).
_CROPS = 23
# As torchvision: so many tries at a part that lies within the image, then its middle.
_TRIES = 10
_WORDS = 2 * _TRIES + 2
# Another form of the store is another file.
_VERSION = 2
_AT_ONCE = 256
INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class DecodedStore:
    """The images of a listing, decoded: their bytes, (height, width) of each as int64 (N, 2), and where each begins."""

    data: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]

    def image(self, index: int) -> NDArray[np.uint8]:
        """One image, (H, W, 3) uint8 RGB; nothing is copied."""
        height, width = self.sizes[index]
        start = self.starts[index]
        return self.data[start : start + 3 * height * width].reshape(height, width, 3)


def open_store(listing: Listing, side: int, *, folder: Path | None = None, progress: bool = False) -> DecodedStore:
    """The store of a listing, made where it is not there yet; keyed by the listing's content and the bound.

    side: most pixels of the shorter side; smaller images stay as they are. folder: None for the cache of this user.
    Called by every process; the first one writes. Raises UserError: an image that cannot be read, no space left.
    """
    folder = folder or cache_folder("decoded")
    key = hashlib.sha256(f"{_VERSION} {listing.fingerprint} {side}".encode()).hexdigest()[:24]
    data, sizes = folder / f"{key}.bytes", folder / f"{key}.sizes.npy"
    if is_main() and _read(data, sizes, len(listing)) is None:
        _write(listing, side, data, sizes, progress)
    barrier()
    shapes = _read(data, sizes, len(listing))
    if shapes is None:
        raise UserError("has gone or was changed while it was needed", str(data), "start again: it is made anew")
    lengths = 3 * shapes[:, 0] * shapes[:, 1]
    return DecodedStore(np.memmap(data, dtype=np.uint8, mode="r"), shapes, np.cumsum(lengths) - lengths)


def _read(data: Path, sizes: Path, length: int) -> NDArray[np.int64] | None:
    """The sizes of the images, (N, 2); None where the store is not there, or damaged, so that it is made anew."""
    try:
        shapes = np.load(sizes, allow_pickle=False)
        stored = data.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s: cannot be read (%s); it is made anew", sizes, error)
        return None
    is_list = isinstance(shapes, np.ndarray) and shapes.dtype == np.int64 and shapes.shape == (length, 2)
    if not is_list or stored != int((3 * shapes[:, 0] * shapes[:, 1]).sum()):
        logger.warning("%s: is not as long as its list of images says; it is made anew", data)
        return None
    return shapes


def _write(listing: Listing, side: int, data: Path, sizes: Path, progress: bool) -> None:
    shapes = np.empty((len(listing), 2), dtype=np.int64)
    what = f"the decoded images of {listing.name} {listing.split} cannot be kept here"
    with refusals_told(what, data.parent, "make room, or set REXDET_CACHE to another folder"):
        with atomic_path(data) as temporary, open(temporary, "wb") as stream:
            for index, pixels in enumerate(_decoded(listing.files, side, f"decoding {listing.split}", progress)):
                shapes[index] = pixels.shape[:2]
                stream.write(pixels.tobytes())
        # Last: where it is, the other is whole.
        with atomic_path(sizes) as temporary, open(temporary, "wb") as stream:
            np.save(stream, shapes)


def _decoded(files: Sequence[ImageFile], side: int, title: str, progress: bool) -> Iterator[NDArray[np.uint8]]:
    def decode(file: ImageFile) -> NDArray[np.uint8]:
        picture = file.pixels()
        shorter = min(picture.size)
        if shorter > side:
            width, height = (max(1, round(length * side / shorter)) for length in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture, dtype=np.uint8)

    bar = tqdm(total=len(files), desc=title, unit="image", disable=not progress, leave=False)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _AT_ONCE):
            for pixels in pool.map(decode, files[start : start + _AT_ONCE]):
                bar.update()
                yield pixels


class CroppedImages:
    """The images of a listing as training sees them: a random part of each, at one size.

    `batch` gives (B, 3, size, size) uint8 RGB for (epoch, index) pairs. labels: (N,) int64.
    """

    def __init__(
        self, listing: Listing, store: DecodedStore, crop: RandomResizedCrop, *, size: int, interpolation: str
    ) -> None:
        self.listing, self.store, self.crop, self.size = listing, store, crop, size
        self.labels, self.classes, self.fingerprint = listing.labels, listing.classes, listing.fingerprint
        self.resampling = INTERPOLATION[interpolation]
        self._drawn: dict[tuple[int, int], NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.listing)

    def batch(self, samples: Sequence[tuple[int, int]], seed: int) -> Tensor:
        """The parts of these images that the seed draws in these epochs: (B, 3, size, size) uint8, channels last."""
        values = np.empty((len(samples), self.size, self.size, 3), dtype=np.uint8)
        for place, (epoch, index) in enumerate(samples):
            image = self.store.image(index)
            top, left, height, width = self.box(seed, epoch, index)
            part = Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width]))
            if part.size != (self.size, self.size):
                part = part.resize((self.size, self.size), self.resampling)
            values[place] = np.asarray(part)
        return torch.from_numpy(values).permute(0, 3, 1, 2)

    def box(self, seed: int, epoch: int, index: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the part of an image in an epoch, in pixels of the store."""
        height, width = (int(length) for length in self.store.sizes[index])
        return draw_box(self._numbers(seed, epoch)[index], height, width, self.crop)

    def names(self, indices: Sequence[int] | Tensor) -> list[str]:
        """Which files these places are, for a person."""
        return [self.listing.files[int(index)].where for index in indices]

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""
        return self.listing.described()

    def _numbers(self, seed: int, epoch: int) -> NDArray[np.float64]:
        """Uniform numbers of an epoch, float64 (N, 22) in 0 to 1; NumPy promises these bits for all its versions."""
        key = (seed, epoch)
        numbers = self._drawn.get(key)
        if numbers is None:
            bits = np.random.PCG64(np.random.SeedSequence([seed, _CROPS, epoch]))
            words = bits.random_raw(len(self) * _WORDS).reshape(len(self), _WORDS)
            numbers = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
            # A batch reaches over the end of one epoch at most; workers read a few batches ahead.
            kept = {known: drawn for known, drawn in self._drawn.items() if known[0] == seed and known[1] >= epoch - 1}
            self._drawn = {**kept, key: numbers}
        return numbers


def draw_box(
    numbers: NDArray[np.float64], height: int, width: int, crop: RandomResizedCrop
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random part, from 22 uniform numbers.

    Area and the logarithm of the ratio are uniform; a part that does not fit is drawn again, up to 10 times; then it is
    the largest middle part whose ratio is allowed.
    """
    low, high = (math.log(bound) for bound in crop.ratio)
    for attempt in range(_TRIES):
        area = height * width * (crop.scale[0] + numbers[2 * attempt] * (crop.scale[1] - crop.scale[0]))
        ratio = math.exp(low + numbers[2 * attempt + 1] * (high - low))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(numbers[-2] * (height - down + 1))
            left = int(numbers[-1] * (width - across + 1))
            return top, left, down, across
    across, down = width, height
    if width / height < crop.ratio[0]:
        down = max(1, round(width / crop.ratio[0]))
    elif width / height > crop.ratio[1]:
        across = max(1, round(height * crop.ratio[1]))
    return (height - down) // 2, (width - across) // 2, down, across
