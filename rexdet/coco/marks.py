"""The marks that pictures are made of: boxes, names, headlines. Whole pixels of a Pillow canvas throughout."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont, features

from rexdet.errors import UserError

Colour = tuple[int, int, int]
Corners = tuple[int, int, int, int]

INK: Colour = (24, 26, 30)
PAPER: Colour = (245, 245, 245)
_DASH = 7


def on_canvas(box: NDArray[np.float64], factor: int, size: tuple[int, int]) -> Corners:
    """A box in pixels of the canvas, cut at its border, at least one pixel wide and high."""
    limits = (size[0] - 1, size[1] - 1)
    x0, y0 = (int(np.clip(round(box[axis] * factor), 0, limits[axis])) for axis in (0, 1))
    x1, y1 = (int(np.clip(round(box[axis + 2] * factor) - 1, (x0, y0)[axis], limits[axis])) for axis in (0, 1))
    return x0, y0, x1, y1


def draw_box(drawing: ImageDraw.ImageDraw, corners: Corners, colour: Colour, line: int, *, dashed: bool) -> None:
    # A dark line around and inside the coloured one keeps it visible on ground of its own colour.
    x0, y0, x1, y1 = corners
    if not dashed:
        drawing.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=INK, width=line + 2)
        drawing.rectangle(corners, outline=colour, width=line)
        return
    step = _DASH * line
    for start in range(x0, x1, 2 * step):
        for y in (y0, y1 - line + 1):
            _draw_dash(drawing, (start, y, min(start + step, x1), y + line - 1), colour)
    for start in range(y0, y1, 2 * step):
        for x in (x0, x1 - line + 1):
            _draw_dash(drawing, (x, start, x + line - 1, min(start + step, y1)), colour)


def _draw_dash(drawing: ImageDraw.ImageDraw, dash: Corners, colour: Colour) -> None:
    x0, y0, x1, y1 = dash
    drawing.rectangle((x0 - 1, y0 - 1, max(x0, x1) + 1, max(y0, y1) + 1), fill=INK)
    drawing.rectangle((x0, y0, max(x0, x1), max(y0, y1)), fill=colour)


def draw_label(
    drawing: ImageDraw.ImageDraw,
    corners: Corners,
    name: str,
    number: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: Sequence[Corners],
) -> Corners:
    """Write a name at a box, inside the picture and off the names that stand already; returns the place it took."""
    pad = max(2, round(font.size / 6))
    text = shortened(name, number, font, size[0] - 2 * pad)
    width = min(size[0], round(font.getlength(text)) + 2 * pad)
    ascent, descent = font.getmetrics()
    height = min(size[1], ascent + descent + pad)
    x0, y0, x1, y1 = corners
    candidates = [
        (x, y)
        for x in (x0, x1 - width + 1)
        for y in (y0 - height, y1 + 1, y0, y1 - height + 1)
        if 0 <= y <= size[1] - height
    ] or [(x0, y0)]
    places = []
    for x, y in candidates:
        left = int(np.clip(x, 0, size[0] - width))
        top = int(np.clip(y, 0, size[1] - height))
        places.append((left, top, left + width - 1, top + height - 1))
    place = min(places, key=lambda candidate: sum(_shared_area(candidate, other) for other in taken))
    drawing.rectangle(place, fill=colour, outline=INK)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120
    middle = (place[1] + place[3] + 1) / 2
    drawing.text((place[0] + pad, middle), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font, anchor="lm")
    return place


def _shared_area(first: Corners, second: Corners) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    return max(0, width) * max(0, height)


def shortened(name: str, number: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The name, cut where it must be, and the number behind it, which is never cut."""
    text = name + number
    while name and font.getlength(text) > room:
        name = name[:-1]
        text = f"{name.rstrip()}…{number}"
    return text


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all pictures: matplotlib's DejaVu Sans, which knows more scripts, or else Pillow's own.

    Raises UserError where Pillow was built without FreeType.
    """
    if not features.check("freetype2"):
        raise UserError(
            "this Pillow was built without FreeType and cannot write names on pictures", fix="install Pillow from PyPI"
        )
    # Found without importing matplotlib, which takes longer than the drawing.
    package = importlib.util.find_spec("matplotlib")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def headline(
    drawing: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int, height: int, font: ImageFont.FreeTypeFont
) -> None:
    short = shortened(text, "", font, width)
    drawing.text((x, y + height / 2), short, fill=PAPER, font=font, anchor="lm")
