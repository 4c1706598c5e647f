"""Pictures of more than 8 bits a sample as 8-bit RGB: one rule wherever a picture is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def is_deep(picture: Image.Image) -> bool:
    """Whether a sample of the picture has more than 8 bits, so that Pillow's own conversion would cut it off at 255."""
    return picture.mode in (*_SIXTEEN_BITS, "I", "F")


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB, 8 bits a sample; transparency is dropped. Raises what Pillow raises for a damaged file."""
    return Image.fromarray(to_eight_bits(picture)) if is_deep(picture) else picture.convert("RGB")


def to_eight_bits(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """A deep grey picture as RGB: uint8 (H, W, 3), 0 to 255, three equal channels.

    16 bits are scaled by 1/257 (65535 becomes 255). Integers and floats of no fixed range: up to 255 as they are
    (floats up to 1 by 255), up to 65535 as 16 bits, else by the largest.
    """
    values = np.asarray(picture).astype(np.float64)
    grey = values / 257.0 if picture.mode in _SIXTEEN_BITS else _scale_by_range(values)
    channel = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return np.repeat(channel[:, :, None], 3, axis=2)


def _scale_by_range(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(finite.max(initial=0.0))
    if largest <= 255:
        return finite * 255 if 0 < largest <= 1 and bool((finite % 1 != 0).any()) else finite
    return finite / 257.0 if largest <= 65535 else finite * (255.0 / largest)
