"""Images won and lost as contact sheets: ground truth, run A and run B beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rexdet.coco.draw import Objects, Picture, class_colours, draw_detections, write_png
from rexdet.coco.images import UnreadableImage, load_image
from rexdet.coco.marks import INK, PAPER, Colour, headline, load_font
from rexdet.report.comparison.compared_runs import Compared
from rexdet.report.comparison.paired import Comparison, ImageRow

MOST_PICTURES = 100
PANEL = 360
_GAP, _BAR = 8, 26
_TEXT = 14


def write_sheets(
    compared: Compared, comparison: Comparison, folder: Path, *, most: int = 12, score_threshold: float = 0.3
) -> dict[str, Path]:
    """Write `won.png` and `lost.png`: the images with the largest differences, a row each.

    most: images a sheet, 0 for no sheet. score_threshold: the least score that is drawn. Of an image that cannot be
    read the boxes are drawn on an empty ground, and the title says so. Returns the files: "won", "lost".
    """
    colours = class_colours([category.name for category in compared.truth.categories])
    index = {int(number): row for row, number in enumerate(compared.dataset.image_ids.tolist())}
    files = {}
    for name, images in (("won", comparison.won), ("lost", comparison.lost)):
        rows = [
            _row(compared, comparison.iou_type, row, index[row.image_id], colours, score_threshold)
            for row in images[:most]
        ]
        if rows:
            verb = "better" if name == "won" else "worse"
            title = f"B does {verb} on {len(images):,} of {comparison.images:,} images; the first {len(rows)}"
            files[name] = folder / f"{name}.png"
            write_png(files[name], _sheet(title, score_threshold, rows))
    return files


def _row(
    compared: Compared, iou_type: str, row: ImageRow, index: int, colours: Mapping[str, Colour], score_threshold: float
) -> tuple[str, list[Picture]]:
    """A title, and three pictures of one size."""
    entry = compared.dataset.image(index)
    title = f"{row.file_name}: AP of this image {100 * row.one:.1f} → {100 * row.other:.1f}"
    height, width = (entry.height or 480), (entry.width or 640)
    try:
        picture = load_image(entry.path, (entry.width, entry.height)) if entry.path is not None else None
    except UnreadableImage:
        picture = None
    if picture is None:
        title += " (its file cannot be read)"
        picture = np.full((height, width, 3), 128, np.uint8)
    parts = [_truth(compared, iou_type, row.image_id)]
    parts += [
        _found(compared, run_index, iou_type, row.image_id, picture).above(score_threshold) for run_index in (0, 1)
    ]
    return title, [
        draw_detections(
            picture,
            part.boxes,
            part.labels,
            part.scores,
            _fitting(part, picture),
            crowd=part.crowd,
            colours=colours,
        )
        for part in parts
    ]


def _fitting(part: Objects, picture: Picture) -> list[np.ndarray] | None:
    """Masks where all have the picture's size; others cannot be laid over it."""
    masks = list(part.masks or ())
    return masks if masks and all(mask.shape == picture.shape[:2] for mask in masks) else None


def _truth(compared: Compared, iou_type: str, image_id: int) -> Objects:
    truth = compared.truth
    rows = np.flatnonzero(truth.image_ids[truth.annotation_image] == image_id)
    return Objects(
        _corners(truth.boxes[rows]),
        [truth.categories[category].name for category in truth.annotation_category[rows].tolist()],
        masks=_decoded([truth.masks[row] for row in rows.tolist()]) if iou_type == "segm" else None,
        crowd=truth.crowd[rows].tolist(),
    )


def _found(compared: Compared, run_index: int, iou_type: str, image_id: int, picture: Picture) -> Objects:
    names = {category.id: category.name for category in compared.truth.categories}
    detections = (compared.one, compared.other)[run_index].detections
    mine = detections.take(detections.image_ids == image_id)
    mine = mine.take(np.argsort(mine.scores, kind="stable"))  # the most certain on top
    masks = _decoded(mine.masks or []) if iou_type == "segm" else None
    return Objects(
        _corners(mine.boxes), [names[number] for number in mine.category_ids.tolist()], mine.scores.tolist(), masks
    )


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _decoded(codes: Sequence[Mapping[str, object]]) -> list[np.ndarray]:
    from pycocotools import mask as mask_tools

    return [mask_tools.decode(code).astype(bool) for code in codes]


def _sheet(title: str, score_threshold: float, rows: Sequence[tuple[str, Sequence[Picture]]]) -> Picture:
    """Rows of three panels, each under its name, one row below the other."""
    panels = [[Image.fromarray(picture) for picture in pictures] for _, pictures in rows]
    sizes = [(PANEL, max(1, round(PANEL * row[0].height / row[0].width))) for row in panels]
    width = 3 * PANEL + 4 * _GAP
    height = 2 * _BAR + sum(_BAR + size[1] + _GAP for size in sizes)
    canvas = Image.new("RGB", (width, height), INK)
    drawing = ImageDraw.Draw(canvas)
    headline(drawing, title, _GAP, 0, width - 2 * _GAP, _BAR, load_font(_TEXT + 2))
    least = f"score ≥ {score_threshold:g}"
    for column, name in enumerate(("ground truth", f"A, {least}", f"B, {least}")):
        headline(drawing, name, _GAP + column * (PANEL + _GAP), _BAR, PANEL, _BAR, load_font(_TEXT))
    top = 2 * _BAR
    for (caption, _), pictures, size in zip(rows, panels, sizes, strict=True):
        drawing.line((0, top, width, top), fill=PAPER)
        headline(drawing, caption, _GAP, top, width - 2 * _GAP, _BAR, load_font(_TEXT))
        for column, picture in enumerate(pictures):
            place = (_GAP + column * (PANEL + _GAP), top + _BAR)
            canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), place)
        top += _BAR + size[1] + _GAP
    return np.asarray(canvas)
