"""Pictures of boxes, masks and class names: detections, ground truth beside predictions, a sheet of crops a class."""

from __future__ import annotations

import colorsys
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from rexdet.coco.marks import INK, PAPER, Colour, draw_box, draw_label, headline, load_font, on_canvas, shortened
from rexdet.files import write_bytes_atomically

if TYPE_CHECKING:
    from rexdet.coco.annotations import CocoDataset

Picture = NDArray[np.uint8]

# A picture whose longer side is shorter than this is enlarged, so that names can be read beside small objects.
LEAST_SIDE = 512
_TILE = 224
_TILES_A_ROW = 4
_MASK_OPACITY = 0.35


@dataclass(frozen=True)
class Objects:
    """What is drawn on one picture.

    boxes: (N, 4) x0, y0, x1, y1 in pixels. labels: N class names. scores: N numbers, or None for ground truth.
    masks: N arrays (H, W) bool, or None. crowd: N flags, or None where none is a crowd; their boxes are dashed.
    """

    boxes: ArrayLike
    labels: Sequence[str]
    scores: Sequence[float] | None = None
    masks: Sequence[NDArray[np.bool_]] | None = None
    crowd: Sequence[bool] | None = None

    def above(self, score: float) -> Objects:
        """Those whose score is at least `score`."""
        if self.scores is None:
            return self
        kept = [index for index, value in enumerate(self.scores) if value >= score]
        return Objects(
            np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)[kept],
            [self.labels[index] for index in kept],
            [self.scores[index] for index in kept],
            None if self.masks is None else [self.masks[index] for index in kept],
            None if self.crowd is None else [self.crowd[index] for index in kept],
        )


def class_colours(names: Sequence[str]) -> dict[str, Colour]:
    """A colour for each class of a data set, far from those of its neighbours in the list and the same every time."""
    # Steps of the golden ratio spread any number of hues evenly; two levels of brightness tell near ones apart.
    return {
        name: _from_hue((0.02 + 0.618034 * position) % 1.0, light=position % 2 == 0)
        for position, name in enumerate(names)
    }


def _colour_of_name(name: str) -> Colour:
    digest = hashlib.sha256(name.encode()).digest()
    return _from_hue(digest[0] / 256, light=digest[1] % 2 == 0)


def _from_hue(hue: float, *, light: bool) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65 if light else 0.95, 1.0 if light else 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image_rgb: Picture,
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    scores: Sequence[float] | None = None,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    *,
    crowd: Sequence[bool] | None = None,
    colours: Mapping[str, Colour] | None = None,
) -> Picture:
    """Draw boxes with their class names on a copy of a picture.

    image_rgb: (H, W, 3) uint8. boxes_xyxy: (N, 4) in its pixels. labels: N class names. scores: N numbers shown behind
        the names. masks: N arrays (H, W) bool, shown as a tint. crowd: N flags; crowds have dashed boxes.
    colours: by class name, as class_colours gives them; None, and for names that it lacks: from the name itself.

    Returns (s*H, s*W, 3) uint8 RGB; the whole number s is above 1 where the picture is small (LEAST_SIDE). Names stay
    inside the picture and out of each other's way where there is room. Raises ValueError where counts do not agree.
    """
    boxes = _checked_boxes(boxes_xyxy, labels=labels, scores=scores, masks=masks, crowd=crowd)
    factor = enlargement(image_rgb)
    palette = [(colours or {}).get(label) or _colour_of_name(label) for label in labels]
    pixels = _tinted(image_rgb, masks, palette)
    height, width = pixels.shape[:2]
    canvas = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 350))
    flags = [False] * len(labels) if crowd is None else list(crowd)
    placed = [on_canvas(box, factor, canvas.size) for box in boxes]
    for corners, colour, is_crowd in zip(placed, palette, flags, strict=True):
        draw_box(drawing, corners, colour, line, dashed=bool(is_crowd))
    names_font = load_font(max(13, round(max(canvas.size) / 40)))
    taken: list[tuple[int, int, int, int]] = []
    for index, corners in enumerate(placed):
        text = labels[index] + (" (crowd)" if flags[index] else "")
        number = "" if scores is None else f" {scores[index]:.2f}"
        taken.append(draw_label(drawing, corners, text, number, palette[index], names_font, canvas.size, taken))
    return np.asarray(canvas)


def side_by_side(
    image_rgb: Picture,
    truth: Objects,
    predictions: Objects,
    *,
    score_threshold: float = 0.5,
    title: str = "",
    colours: Mapping[str, Colour] | None = None,
) -> Picture:
    """Ground truth on the left, predictions of at least `score_threshold` on the right, each under its headline.

    image_rgb: (H, W, 3) uint8; boxes and masks in its pixels. title: stands above both, the file's name for instance.
    colours: as for draw_detections. Returns uint8 RGB.
    """
    shown = predictions.above(score_threshold)
    crowds = sum(map(bool, truth.crowd or ()))
    left_text = f"ground truth: {_count(len(truth.labels) - crowds, 'object')}"
    if crowds:
        left_text += f", {_count(crowds, 'crowd')}"
    right_text = f"predictions, score ≥ {score_threshold:g}: {_count(len(shown.labels), 'object')}"
    panels = [
        draw_detections(image_rgb, part.boxes, part.labels, part.scores, part.masks, crowd=part.crowd, colours=colours)
        for part in (truth, shown)
    ]
    height, width = panels[0].shape[:2]
    gap = max(6, width // 80)
    size = max(14, width // 32)
    bar = size * 2
    top = bar * (2 if title else 1)
    canvas = Image.new("RGB", (2 * width + 3 * gap, height + top + gap), INK)
    drawing = ImageDraw.Draw(canvas)
    if title:
        headline(drawing, title, gap, 0, 2 * width + gap, bar, load_font(size))
    for column, (panel, text) in enumerate(zip(panels, (left_text, right_text), strict=True)):
        x = gap + column * (width + gap)
        headline(drawing, text, x, top - bar, width, bar, load_font(size))
        canvas.paste(Image.fromarray(panel), (x, top))
    return np.asarray(canvas)


def class_sheets(dataset: CocoDataset, folder: str | os.PathLike[str], per_class: int = 12) -> list[Path]:
    """Write one sheet of annotated examples for each class of a data set; returns the PNG files, in class order.

    dataset: as rexdet.coco.annotations.read_annotations gives it, with its images folder. folder: where the sheets go.
    per_class: examples a sheet at most, from different images where there are enough; always the same ones.
    An image that cannot be read is a tile that says so.
    """
    colours = class_colours(dataset.class_names)
    examples = _choose_examples(dataset, per_class)
    files = []
    for category in dataset.categories:
        tiles = [
            _example_tile(dataset, index, annotation, category.name, colours[category.name])
            for index, annotation in examples[category.id]
        ]
        sheet = _sheet(f"{category.name} (id {category.id})", tiles, colours[category.name])
        safe_name = re.sub(r"[^\w.-]+", "_", category.name).strip("._") or "class"
        path = Path(folder) / f"{category.id:04d}_{safe_name[:60]}.png"
        write_png(path, sheet)
        files.append(path)
    return files


def write_png(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    # Less than half the time of Pillow's usual level, for a sixth more bytes.
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    write_bytes_atomically(path, buffer.getvalue())


def enlargement(image_rgb: Picture) -> int:
    """The whole number by which draw_detections enlarges a picture."""
    return max(1, -(-LEAST_SIDE // max(image_rgb.shape[:2])))


def _checked_boxes(boxes_xyxy: ArrayLike, **columns: Sequence[Any] | None) -> NDArray[np.float64]:
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    for name, column in columns.items():
        if column is not None and len(column) != len(boxes):
            raise ValueError(f"{len(boxes)} boxes, but {len(column)} {name}")
    if not np.isfinite(boxes).all():
        raise ValueError("a box has a coordinate that is not a finite number")
    return boxes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tinted(image: Picture, masks: Sequence[NDArray[np.bool_]] | None, palette: Sequence[Colour]) -> Picture:
    if not masks:
        return np.ascontiguousarray(image)
    blended = image.astype(np.float32)
    for mask, colour in zip(masks, palette, strict=True):
        inside = np.asarray(mask, dtype=bool)
        if inside.shape != image.shape[:2]:
            raise ValueError(f"a mask of shape {inside.shape} on a picture of shape {image.shape[:2]}")
        blended[inside] += _MASK_OPACITY * (np.asarray(colour, dtype=np.float32) - blended[inside])
    return (blended + 0.5).astype(np.uint8)


def _choose_examples(dataset: CocoDataset, per_class: int) -> dict[int, list[tuple[int, Any]]]:
    """(image index, annotation) pairs of each category id: images in a fixed shuffled order, crowds left out."""
    chosen: dict[int, list[tuple[int, Any]]] = {category.id: [] for category in dataset.categories}
    spare: dict[int, list[tuple[int, Any]]] = {category.id: [] for category in dataset.categories}
    for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
        if all(len(examples) >= per_class for examples in chosen.values()):
            break
        seen: set[int] = set()
        for annotation in dataset.annotations(index):
            category_id = annotation.category_id
            if annotation.iscrowd or category_id not in chosen:
                continue
            target = spare if category_id in seen else chosen
            seen.add(category_id)
            if len(target[category_id]) < per_class:
                target[category_id].append((index, annotation))
    return {key: (examples + spare[key])[:per_class] for key, examples in chosen.items()}


def _example_tile(
    dataset: CocoDataset, index: int, annotation: Any, name: str, colour: Colour
) -> tuple[Image.Image, str]:
    """A square cut-out around an object, with its box, and the words below it."""
    from rexdet.coco.images import UnreadableImage, load_image

    entry = dataset.image(index)
    x, y, width, height = annotation.bbox
    caption = f"image {entry.id}, {width:.0f} × {height:.0f} px"
    tile = Image.new("RGB", (_TILE, _TILE), INK)
    try:
        if entry.path is None:
            raise UnreadableImage("missing", entry.file_name)
        picture = Image.fromarray(load_image(entry.path, (entry.width, entry.height)))
    except UnreadableImage:
        ImageDraw.Draw(tile).text((_TILE / 2, _TILE / 2), "cannot be read", fill=PAPER, font=load_font(16), anchor="mm")
        return tile, caption
    side = max(width, height, 8.0) * 1.6
    scale = _TILE / side
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    # Outside of the picture the transform gives black, and the tile's own colour shows where nothing was painted.
    tile = picture.transform(
        (_TILE, _TILE),
        Image.Transform.AFFINE,
        (1 / scale, 0, left, 0, 1 / scale, top),
        resample=Image.Resampling.BICUBIC,
        fillcolor=INK,
    )
    box = np.array([x - left, y - top, x + width - left, y + height - top]) * scale
    draw_box(ImageDraw.Draw(tile), on_canvas(box, 1, tile.size), colour, 2, dashed=False)
    return tile, caption


def _sheet(title: str, tiles: Sequence[tuple[Image.Image, str]], colour: Colour) -> Picture:
    gap, caption_height, bar = 8, 24, 44
    rows = max(1, -(-len(tiles) // _TILES_A_ROW))
    width = _TILES_A_ROW * (_TILE + gap) + gap
    canvas = Image.new("RGB", (width, bar + rows * (_TILE + caption_height + gap)), PAPER)
    drawing = ImageDraw.Draw(canvas)
    drawing.rectangle((0, 0, width, bar - gap), fill=INK)
    drawing.rectangle((gap, gap, gap + bar - 3 * gap, bar - 2 * gap), fill=colour)
    headline(drawing, title, bar, 0, width - bar - gap, bar - gap, load_font(20))
    if not tiles:
        drawing.text((gap, bar + gap), "no annotated object", fill=INK, font=load_font(16), anchor="lt")
    for position, (tile, caption) in enumerate(tiles):
        x = gap + position % _TILES_A_ROW * (_TILE + gap)
        y = bar + position // _TILES_A_ROW * (_TILE + caption_height + gap)
        canvas.paste(tile, (x, y))
        text = shortened(caption, "", load_font(14), _TILE)
        drawing.text((x, y + _TILE + caption_height / 2), text, fill=INK, font=load_font(14), anchor="lm")
    return np.asarray(canvas)
