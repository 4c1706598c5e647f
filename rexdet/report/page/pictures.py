"""Example pictures of what detectors get wrong: false and missed objects of every class, small enough for a page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rexdet.coco.images import UnreadableImage, load_image
from rexdet.coco.marks import draw_box, on_canvas
from rexdet.coco.matched import Matched
from rexdet.report.records.saved import Saved
from rexdet.report.tables.entries import entry_name

SCORE = 0.5
SIDE = 320
MOST_A_RUN = 60
_QUALITY = 72
KINDS = ("right", "false", "missed")
# Told apart by hue and by line: a missed object's box is dashed.
_COLOURS = {"right": (60, 180, 75), "false": (230, 60, 70), "missed": (255, 190, 0)}


@dataclass(frozen=True)
class Box:
    """kind: of KINDS. box: x0, y0, x1, y1 in pixels of the picture. score: None for a missed object."""

    kind: str
    name: str
    box: NDArray[np.float64]
    score: float | None


@dataclass(frozen=True)
class Example:
    """A picture of one run. row: whose it is, for people. data: a JPEG as a data address. marks: (class, kind) of its
    boxes. told: them in words.
    """

    row: str
    title: str
    data: str
    marks: tuple[tuple[str, str], ...]
    told: str
    size: tuple[int, int]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What there is on it, in the order of KINDS."""
        return tuple(kind for kind in KINDS if any(kind == found for _, found in self.marks))

    @property
    def classes(self) -> tuple[str, ...]:
        """Of what, sorted."""
        return tuple(sorted({name for name, _ in self.marks}))


def examples(saved: Sequence[Saved], most_bytes: int) -> tuple[list[Example], list[str]]:
    """Pictures of each run in turn until the room is used; and why some runs have none."""
    notes: list[str] = []
    sources = []
    for one, name in zip(saved, told_apart(saved), strict=True):
        folder = one.images
        if folder is None:
            notes.append(f"pictures of {one.run.record.name} are not shown: their folder is not here")
            continue
        sources.append(_of_run(one, name, folder, notes))
    found: list[Example] = []
    used = 0
    while sources:
        for source in list(sources):
            example = next(source, None)
            if example is None:
                sources.remove(source)
                continue
            if used + len(example.data) > most_bytes:
                notes.append(f"{len(found)} pictures take the room that --pictures gives")
                return found, notes
            found.append(example)
            used += len(example.data)
    return found, notes


def told_apart(saved: Sequence[Saved]) -> list[str]:
    """A name for each run: its row's, with the setting where the row has several."""
    names = [entry_name(one.group) for one in saved]
    counts = Counter(names)
    return [
        f"{name}, {one.setting.title}" if counts[name] > 1 else name for name, one in zip(names, saved, strict=True)
    ]


def boxes_of(matched: Matched) -> dict[int, list[Box]]:
    """Image row -> right and false detections of at least SCORE and missed objects, at IoU 0.5; crowds left out."""
    truth = matched.truth
    names = [category.name for category in truth.categories]
    right = np.zeros(len(matched.scores), np.bool_)
    ignored = np.zeros(len(matched.scores), np.bool_)
    right[matched.matches.position] = matched.matches.right[:, 0, 0]
    ignored[matched.matches.position] = matched.matches.ignored[:, 0, 0]
    sure = matched.scores >= SCORE
    taken = np.zeros(len(truth), np.bool_)
    found = matched.matches.annotation[:, 0]
    counts = (found >= 0) & sure[matched.matches.position]
    taken[found[counts]] = True
    boxes: dict[int, list[Box]] = {}
    for place in np.flatnonzero(sure & ~ignored).tolist():
        corners = _corners(matched.detections.boxes[matched.grouped.rows[place]])
        kind = "right" if right[place] else "false"
        box = Box(kind, names[matched.category[place]], corners, float(matched.scores[place]))
        boxes.setdefault(int(matched.image[place]), []).append(box)
    for place in np.flatnonzero(~taken & ~truth.crowd).tolist():
        name = names[truth.annotation_category[place]]
        box = Box("missed", name, _corners(truth.boxes[place]), None)
        boxes.setdefault(int(truth.annotation_image[place]), []).append(box)
    return boxes


def choose(boxes: dict[int, list[Box]], most: int = MOST_A_RUN) -> list[int]:
    """Image rows so that every class shows false and missed objects early: each class and kind in turn, then the rest.

    The order is the same every time.
    """
    wanted: dict[tuple[str, str], list[int]] = {}
    for image in sorted(boxes):
        for box in boxes[image]:
            if box.kind != "right":
                wanted.setdefault((box.name, box.kind), []).append(image)
    chosen: dict[int, None] = {}
    queues = [iter(images) for _, images in sorted(wanted.items())]
    while queues and len(chosen) < most:
        for queue in list(queues):
            following = next((image for image in queue if image not in chosen), None)
            if following is None:
                queues.remove(queue)
            elif len(chosen) < most:
                chosen[following] = None
    # A run without errors has something to show, too.
    rest = (image for image in sorted(boxes) if image not in chosen)
    return [*chosen, *(image for image, _ in zip(rest, range(most - len(chosen)), strict=False))][:most]


def _of_run(saved: Saved, name: str, folder: Path, notes: list[str]) -> Iterator[Example]:
    matched = saved.matched
    boxes = boxes_of(matched)
    rows = {int(image_id): place for place, image_id in enumerate(saved.dataset.image_ids.tolist())}
    for image in choose(boxes):
        entry = saved.dataset.image(rows[int(matched.truth.image_ids[image])])
        try:
            picture = load_image(folder / entry.file_name, (entry.width, entry.height))
        except UnreadableImage as error:
            notes.append(f"a picture is not shown: {error}")
            continue
        drawn = _draw(Image.fromarray(picture), boxes[image])
        yield Example(
            row=name,
            title=Path(entry.file_name).name,
            data=_as_address(drawn),
            marks=tuple(sorted({(box.name, box.kind) for box in boxes[image]})),
            told="; ".join(_told(box) for box in boxes[image]),
            size=drawn.size,
        )


def _draw(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    factor = SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    canvas = picture.resize(size, Image.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(canvas)
    scale = np.array([size[0] / picture.width, size[1] / picture.height] * 2)
    for box in sorted(boxes, key=lambda box: KINDS.index(box.kind)):
        corners = on_canvas(box.box * scale, 1, size)
        draw_box(drawing, corners, _COLOURS[box.kind], 3, dashed=box.kind == "missed")
    return canvas


def _as_address(picture: Image.Image) -> str:
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def _corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


def _told(box: Box) -> str:
    return f"{box.kind}: {box.name}" + ("" if box.score is None else f" {box.score:.2f}")
