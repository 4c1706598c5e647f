"""Picture files of every kind that people train on, in a folder, with the annotation file that declares their sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rexdet.coco.annotations import CocoDataset, read_annotations

WIDTH, HEIGHT = 120, 88
_ORIENTATION = 0x0112
# Turned by 90 degrees, as a telephone held upright writes it.
_UPRIGHT = 6


def paint(seed: int = 0) -> np.ndarray:
    """A picture with slopes, edges and a little noise: uint8 (HEIGHT, WIDTH, 3) RGB."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [
        90 + 60 * np.sin(x / 9 + c) + 50 * np.cos(y / (5 + 2 * c)) + 40 * (x + y > 90 + 9 * c) for c in range(3)
    ]
    noisy = np.stack(channels, axis=2) + generator.normal(0, 4, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _jpeg(path: Path, picture: Image.Image, *, orientation: int = 1, subsampling: int = 2) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    picture.save(path, quality=92, subsampling=subsampling, exif=exif)


def _transparent(rgb: np.ndarray) -> Image.Image:
    alpha = np.linspace(0, 255, WIDTH).round().astype(np.uint8)
    return Image.fromarray(np.dstack([rgb, np.broadcast_to(alpha, (HEIGHT, WIDTH))]))


def _palette(path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).quantize(64).save(path, transparency=0)


def _sixteen_bits(path: Path, rgb: np.ndarray) -> None:
    Image.fromarray((rgb[:, :, 1].astype(np.uint16) * 257).astype(np.uint16)).save(path)


# Kind -> (file name, whether its declared size is that of the picture once it is turned, how it is written).
KINDS: dict[str, tuple[str, bool, Callable[[Path, np.ndarray], None]]] = {
    "PNG": ("rgb.png", False, lambda path, rgb: Image.fromarray(rgb).save(path)),
    "JPEG": ("rgb.jpg", False, lambda path, rgb: _jpeg(path, Image.fromarray(rgb))),
    "JPEG, colours at full size": (
        "444.jpg",
        False,
        lambda path, rgb: _jpeg(path, Image.fromarray(rgb), subsampling=0),
    ),
    "grey JPEG": ("grey.jpg", False, lambda path, rgb: _jpeg(path, Image.fromarray(rgb).convert("L"))),
    "grey PNG": ("grey.png", False, lambda path, rgb: Image.fromarray(rgb).convert("L").save(path)),
    "16-bit grey PNG": ("grey16.png", False, _sixteen_bits),
    "EXIF, boxes turned": (
        "turned.jpg",
        True,
        lambda path, rgb: _jpeg(path, Image.fromarray(rgb), orientation=_UPRIGHT),
    ),
    "EXIF, boxes as stored": (
        "stored.jpg",
        False,
        lambda path, rgb: _jpeg(path, Image.fromarray(rgb), orientation=_UPRIGHT),
    ),
    "CMYK JPEG": ("cmyk.jpg", False, lambda path, rgb: _jpeg(path, Image.fromarray(rgb).convert("CMYK"))),
    "PNG with transparency": ("alpha.png", False, lambda path, rgb: _transparent(rgb).save(path)),
    "palette PNG with transparency": ("palette.png", False, _palette),
}


def write_kinds(folder: Path) -> CocoDataset:
    """Write a picture of each kind into `folder`; returns them as a data set, in the order of KINDS, an object each."""
    rgb = paint()
    images, annotations = [], []
    for number, (name, turned, write) in enumerate(KINDS.values(), start=1):
        write(folder / name, rgb)
        width, height = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [8, 8, 40, 40], "area": 1600, "iscrowd": 0}
        )
    path = folder / "kinds.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    path.write_text(json.dumps(content))
    dataset = read_annotations(path, folder, purpose="evaluate")
    dataset.raise_if_refused()
    return dataset
