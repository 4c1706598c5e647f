"""Small data sets in COCO form, made on the spot: two noise pictures of 64x48 px and what a test says about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.coco.annotations import CocoDataset, read_annotations


class SmallSet:
    """A data set of two images (ids 1 and 2, 64x48) and one class (id 1, "cat") that a test changes and opens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.file = folder / "annotations.json"
        self.images.mkdir()
        self.content: dict[str, Any] = {
            "images": [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in (1, 2)],
            "annotations": [self.annotation(1), self.annotation(2, image_id=2)],
            "categories": [{"id": 1, "name": "cat"}],
        }
        for number in (1, 2):
            self.picture(f"{number}.jpg", seed=number)

    @staticmethod
    def annotation(number: int, **changes: Any) -> dict[str, Any]:
        """A sound annotation on image 1, with changes; a value of ... leaves the key out."""
        entry = {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "segmentation": [],
        }
        return {key: value for key, value in (entry | changes).items() if value is not ...}

    def picture(self, name: str, size: tuple[int, int] = (64, 48), *, seed: int = 0, orientation: int = 1) -> Path:
        """Write a picture of noise; `orientation` goes into its EXIF block."""
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        exif = Image.Exif()
        if orientation != 1:
            exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif)
        return path

    def write(self, text: str | bytes | None = None) -> Path:
        """Write the annotation file: the content, or `text` as it is."""
        if text is None:
            self.file.write_text(json.dumps(self.content))
        elif isinstance(text, str):
            self.file.write_text(text)
        else:
            self.file.write_bytes(text)
        return self.file

    def open(self, purpose: str = "train", **options: Any) -> CocoDataset:
        """Write the content and read it."""
        return read_annotations(self.write(), self.images, purpose=purpose, **options)

    def codes(self, purpose: str = "train") -> dict[str, tuple[str, int]]:
        """What is found: code -> (action, count), without the mention that there are no masks."""
        found = {finding.code: (finding.action, finding.count) for finding in self.open(purpose).findings}
        found.pop("segmentation-missing", None)
        return found


@pytest.fixture
def small_set(tmp_path: Path) -> SmallSet:
    """A sound data set of two images, to be spoilt."""
    return SmallSet(tmp_path)


@pytest.fixture
def new_small_set(tmp_path: Path) -> Callable[[str], SmallSet]:
    """Makes further small sets in folders of their own."""

    def make(name: str) -> SmallSet:
        (tmp_path / name).mkdir()
        return SmallSet(tmp_path / name)

    return make
