"""A trained detector on pictures of one's own: drawings and COCO JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rexdet.coco.detections import Detections
from rexdet.coco.draw import Objects, draw_detections, write_png
from rexdet.coco.images import UnreadableImage, load_image
from rexdet.errors import UserError
from rexdet.files import write_json_atomically

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
COCO_FILE = "predictions.json"
RESULTS_FILE = "detections.json"


@dataclass(frozen=True)
class Found:
    """What a detector finds on a picture, in its own pixels.

    boxes: float (N, 4), corners x1 y1 x2 y2. scores: float (N,), 0 to 1. labels: int (N,), from 0.
    masks: bool (N, H, W), or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __getitem__(self, rows: Any) -> Found:
        masks = None if self.masks is None else self.masks[rows]
        return Found(self.boxes[rows], self.scores[rows], self.labels[rows], masks)

    def objects(self, names: Sequence[str]) -> Objects:
        """The same as something to draw. names: of the labels."""
        masks = None if self.masks is None else list(self.masks)
        return Objects(self.boxes, [names[label] for label in self.labels], self.scores.tolist(), masks)

    def detections(self, image_id: int, categories: Sequence[int | None]) -> Detections:
        """The same as detections of a picture. categories: the id of each label; what has none is left out."""
        kept = [row for row, label in enumerate(self.labels) if categories[label] is not None]
        if not kept:
            return Detections.empty()
        mine = self[kept]
        return Detections.from_image(
            image_id, mine.boxes, mine.scores, [categories[label] for label in mine.labels], mine.masks
        )


def check_threshold(score_threshold: float) -> None:
    """Raise UserError for a threshold that is none."""
    if not 0.0 <= score_threshold <= 1.0:
        raise UserError(f"--score-threshold is {score_threshold}", fix="give a number between 0 and 1")


def predict_files(
    source: str,
    output: Path,
    score_threshold: float,
    predict: Callable[[np.ndarray], Found],
    names: Sequence[str],
    ids: Sequence[int],
) -> int:
    """Detect on one picture or on every picture below a folder; write drawings and COCO JSON into `output`.

    predict: pixels, uint8 (H, W, 3) RGB -> what is found. names, ids: of the detector's labels.

    Written are detections of at least `score_threshold` (0 to 1): `pictures/*.png`, `predictions.json` (images,
    categories with the names that the checkpoint carries, annotations with a score) and `detections.json` (a COCO
    results list with the same image ids). Pictures that cannot be read are named and left out.

    Returns 0. Raises UserError: no pictures, or none that can be read.
    """
    files = list_pictures(Path(source))
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    images: list[dict[str, Any]] = []
    parts: list[Detections] = []
    unreadable = 0
    for file in tqdm(files, desc="predicting", unit="image", delay=5):
        try:
            picture = load_image(file)
        except UnreadableImage as error:
            print(f"left out: {error}")
            unreadable += 1
            continue
        found = predict(picture)
        found = found[found.scores >= score_threshold]
        image_id = len(images) + 1
        relative = file.relative_to(root).as_posix()
        images.append({"id": image_id, "file_name": relative, "height": picture.shape[0], "width": picture.shape[1]})
        parts.append(found.detections(image_id, ids))
        drawn = found.objects(names)
        name = relative.replace("/", "__")
        write_png(
            output / "pictures" / f"{Path(name).stem}.png",
            draw_detections(picture, drawn.boxes, drawn.labels, drawn.scores, drawn.masks),
        )
    if not images:
        raise UserError(f"none of the {len(files)} pictures can be read", where=source)
    detections = Detections.concatenate(parts)
    detections.save(output / RESULTS_FILE)
    write_json_atomically(output / COCO_FILE, _as_coco(images, detections, names, ids), indent=None)
    left_out = f", {unreadable} left out" if unreadable else ""
    print(f"{len(detections)} detections on {len(images)} pictures{left_out}")
    print(f"pictures: {output / 'pictures'}")
    print(f"COCO:     {output / COCO_FILE}")
    return 0


def list_pictures(source: Path) -> list[Path]:
    """The picture itself, or every picture below a folder, sorted. Raises UserError where there is none."""
    if source.is_file():
        return [source]
    if not source.exists():
        raise UserError("no such picture or folder", where=str(source))
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise UserError(f"no pictures here (looked for {', '.join(IMAGE_ENDINGS)})", where=str(source))
    return files


def _as_coco(
    images: list[dict[str, Any]], detections: Detections, names: Sequence[str], ids: Sequence[int]
) -> dict[str, Any]:
    annotations = []
    for row in range(len(detections)):
        x, y, width, height = (float(value) for value in detections.boxes[row])
        annotation: dict[str, Any] = {
            "id": row + 1,
            "image_id": int(detections.image_ids[row]),
            "category_id": int(detections.category_ids[row]),
            "bbox": [x, y, width, height],
            "area": width * height,
            "iscrowd": 0,
            "score": float(detections.scores[row]),
        }
        if detections.masks is not None:
            annotation["segmentation"] = dict(detections.masks[row])
        annotations.append(annotation)
    categories = [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]
    return {"images": images, "categories": categories, "annotations": annotations}
