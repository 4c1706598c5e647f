"""How a picture reaches the size of a network's input when nothing about it is random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rexdet.transfer.images import CACHED_BYTES, Listing
from rexdet.weights.pixels import Preprocessing

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Of the shorter side before the middle is cut out, where a checkpoint does not say so: 256 for 224.
_USUAL = 256 / 224


@dataclass(frozen=True)
class Framing:
    """kind: "centre" scales the shorter side to `resize` and cuts the middle `crop` x `crop` out; "whole" scales the
    whole picture to `crop` x `crop`, whatever its shape. Sides in pixels. interpolation: of the scaling.
    """

    kind: Literal["centre", "whole"]
    resize: int
    crop: int
    interpolation: str = "bilinear"

    def as_mapping(self) -> dict[str, Any]:
        """Plain values: what a key hangs on."""
        return asdict(self)

    def __str__(self) -> str:
        if self.kind == "whole":
            return f"whole to {self.crop} px, {self.interpolation}"
        return f"shorter side to {self.resize}, middle {self.crop} px, {self.interpolation}"


def framing_of(
    pixels: Preprocessing, kind: Literal["centre", "whole"] = "centre", size: int = 0, interpolation: str = ""
) -> Framing:
    """The framing that a checkpoint's pixels ask for.

    size: side of the input, 0 for the checkpoint's own; at another size the shorter side keeps its proportion to the
    crop. interpolation: "" for the checkpoint's.
    """
    crop = size or pixels.crop or 224
    share = pixels.resize / pixels.crop if pixels.resize and pixels.crop else _USUAL
    return Framing(kind, max(crop, round(crop * share)), crop, interpolation or pixels.interpolation)


def frame(picture: Image.Image, framing: Framing) -> Tensor:
    """A picture (RGB) as the network sees it before its mean is subtracted: (3, crop, crop) uint8."""
    resampling, crop = RESAMPLING[framing.interpolation], framing.crop
    if framing.kind == "whole":
        if picture.size != (crop, crop):
            picture = picture.resize((crop, crop), resampling)
    else:
        width, height = picture.size
        shorter = min(width, height)
        size = (framing.resize * width // shorter, framing.resize * height // shorter)
        if size != picture.size:
            picture = picture.resize(size, resampling)
        # As torchvision's centre crop rounds.
        left, top = (round((length - crop) / 2.0) for length in picture.size)
        picture = picture.crop((left, top, left + crop, top + crop))
    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)


class FramedImages:
    """The images of a listing as they are evaluated: framed, kept in memory where they are few enough.

    `images` gives (B, crop, crop) uint8 RGB by place. labels: (N,) int64.
    """

    def __init__(self, listing: Listing, framing: Framing, *, kept: int = CACHED_BYTES, progress: bool = False) -> None:
        """kept: most bytes of framed images in memory. Raises UserError for an image that cannot be read."""
        self.listing, self.framing = listing, framing
        self.labels, self.classes, self.fingerprint = listing.labels, listing.classes, listing.fingerprint
        self.notes = listing.notes
        self._all: Tensor | None = None
        if 3 * framing.crop**2 * len(listing) <= kept:
            self._all = torch.empty((len(listing), 3, framing.crop, framing.crop), dtype=torch.uint8)
            bar = tqdm(listing.files, desc=f"reading {listing.split}", unit="image", disable=not progress, leave=False)
            for place, file in enumerate(bar):
                self._all[place] = frame(file.pixels(), framing)

    def __len__(self) -> int:
        return len(self.listing)

    def images(self, places: Sequence[int] | Tensor) -> Tensor:
        """The images of these places: (B, 3, crop, crop) uint8 RGB."""
        if self._all is not None:
            return self._all[torch.as_tensor(places)]
        return torch.stack([frame(self.listing.files[int(place)].pixels(), self.framing) for place in places])

    def batch(self, samples: Sequence[tuple[int, int]], seed: int) -> Tensor:
        """The images of (epoch, index) pairs, for training without random parts; the epoch changes nothing."""
        return self.images([index for _, index in samples])

    def names(self, places: Sequence[int] | Tensor) -> list[str]:
        """Which files these places are, for a person."""
        return [self.listing.files[int(place)].where for place in places]

    def described(self) -> Any:
        """The split as a run's record tells of it."""
        return self.listing.described()
