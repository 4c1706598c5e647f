"""Image files as RGB arrays: one rule for every kind of file, the same in training, evaluation and pictures.

- Grey becomes three equal channels; 16-bit grey is scaled by 1/257 (65535 becomes 255), never cut off at white; other
  high ranges (32-bit integer or float) are scaled by their own largest value.
- CMYK in JPEG files holds the complement of the inks, as Adobe writes it and as Pillow and browsers read it with or
  without Adobe's marker.
- Transparency (RGBA, LA, palettes with transparent entries) is laid over white.
- EXIF: where a size is declared, the pixels are turned only when that makes them fit it. Without one, they are turned
  as EXIF says.
- A file that is cut off, empty, or no image at all raises `UnreadableImage`; nothing is ever filled with grey.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from rexdet.bit_depth import is_deep, to_eight_bits
from rexdet.errors import UserError

GROUND = 255
"""What shows through transparency: white, as most viewers and labelling tools show it."""


class UnreadableImage(UserError):  # noqa: N818 (the name that the other rooms were given)
    """An image file that cannot be decoded, or whose size is not the declared one. One line that names the file."""


class ImageSizeDiffers(UnreadableImage):
    """An image that can be decoded, but neither as stored nor turned by EXIF has the declared size."""


def load_image(path: str | os.PathLike[str], declared_size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image file to RGB.

    declared_size: (width, height) that the annotation file declares; None, or a 0 in it, where nothing is declared.

    Returns uint8 (H, W, 3), 0 to 255, writable and contiguous. Raises UnreadableImage (a UserError) naming the file.
    """
    path = Path(path)
    if declared_size is not None and 0 in declared_size:
        declared_size = None
    try:
        with warnings.catch_warnings():
            # Pillow warns of very large pictures and of odd EXIF blocks; both are decoded all the same.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                orientation = _orientation(picture)
                picture.load()
                turned = _turn(picture, orientation, declared_size)
                pixels = _to_rgb(turned)
    except FileNotFoundError:
        raise UnreadableImage("there is no such image file", str(path)) from None
    except Exception as error:
        # Pillow's decoders raise errors of many kinds (OSError, SyntaxError, ValueError, struct.error, …) for broken
        # files; each means that this file is no image, and the message keeps what was said.
        raise UnreadableImage(f"cannot be decoded as an image ({_reason(path, error)})", str(path)) from error
    if declared_size is not None and pixels.shape[1::-1] != tuple(declared_size):
        raise ImageSizeDiffers(
            f"the picture is {pixels.shape[1]}x{pixels.shape[0]}, declared is {declared_size[0]}x{declared_size[1]}",
            str(path),
            "tools/check_data.py lists such images",
        )
    return pixels


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(0x0112, 1)
    except Exception:
        # A broken EXIF block says nothing about the pixels, which may be whole.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(picture: Image.Image, orientation: int, declared_size: tuple[int, int] | None) -> Image.Image:
    if orientation == 1:
        return picture
    if declared_size is None:
        return ImageOps.exif_transpose(picture)
    upright = picture.size[::-1] if orientation >= 5 else picture.size
    fits_as_stored = picture.size == tuple(declared_size)
    if not fits_as_stored and upright == tuple(declared_size):
        return ImageOps.exif_transpose(picture)
    return picture


def _to_rgb(picture: Image.Image) -> npt.NDArray[np.uint8]:
    if is_deep(picture):
        return to_eight_bits(picture)
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (GROUND, GROUND, GROUND, 255))
        picture = Image.alpha_composite(ground, layered)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"), dtype=np.uint8)


def _reason(path: Path, error: Exception) -> str:
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as problem:
        return str(problem.strerror or problem)
    if not start:
        return "the file is empty"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "it is a web page, not an image"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not an image"
    said = " ".join(str(error).split()).replace(str(path), "the file").replace(repr(str(path)), "the file")
    return said or type(error).__name__
