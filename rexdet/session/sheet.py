"""A training batch drawn on one sheet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from rexdet.coco.draw import draw_detections, write_png

COLUMNS = 2
MOST = 8


def write_sheet(path: str | os.PathLike[str], pictures: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str]]]) -> None:
    """Draw pictures of one size side by side: (pixels, uint8 (H, W, 3) RGB; boxes, (N, 4) corners; their labels)."""
    drawn = [draw_detections(np.ascontiguousarray(pixels), boxes, list(labels)) for pixels, boxes, labels in pictures]
    write_png(path, _tiled(drawn))


def _tiled(pictures: list[np.ndarray]) -> np.ndarray:
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows * height, min(COLUMNS, len(pictures)) * width, 3), np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return sheet
