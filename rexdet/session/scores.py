"""What an evaluation leaves: the 12 numbers, the detections file, pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rexdet.coco.annotations import CocoDataset, ImageEntry
from rexdet.coco.detections import Detections
from rexdet.coco.draw import Objects, side_by_side, write_png
from rexdet.coco.evaluate import Evaluation, evaluate
from rexdet.coco.images import UnreadableImage
from rexdet.processes import gather, is_main
from rexdet.session.data import load_entry
from rexdet.session.say import say

DETECTIONS_FILE = "detections.json"
PICTURES = 8
PICTURE_SCORE = 0.5


@dataclass(frozen=True)
class Scores:
    """The evaluations of one set of detections; empty in all processes but the main one."""

    bbox: Evaluation | None = None
    segm: Evaluation | None = None
    unreadable: tuple[str, ...] = ()

    def _groups(self) -> dict[str, Evaluation]:
        return {name: value for name, value in (("bbox", self.bbox), ("segm", self.segm)) if value is not None}

    def parts(self) -> dict[str, Any]:
        """The fields of a record that these scores fill."""
        groups = self._groups()
        return {
            "metrics": {name: dict(value.numbers) for name, value in groups.items()},
            "per_class": {
                name: {row.name: {"AP": row.numbers["AP"], "AP50": row.numbers["AP50"]} for row in value.per_class}
                for name, value in groups.items()
            },
            "partial": list(self.unreadable),
        }

    def files(self) -> dict[str, str]:
        """Role -> name of the files that an evaluation writes into the run's folder."""
        return {"detections": DETECTIONS_FILE, "pictures": "pictures"}

    def table(self) -> str:
        """The 12 numbers as text, a table for boxes and one for masks."""
        tables = [f"{name}\n{value.table()}" for name, value in self._groups().items()]
        if self.unreadable:
            tables.append(f"partial: {len(self.unreadable)} pictures could not be read and count as missed")
        return "\n".join(tables)


def tell_scores(scores: Scores, folder: Path) -> None:
    """Say the numbers, and where a run's pictures and its record lie; the main process alone has them."""
    if not is_main():
        return
    say(scores.table())
    say(f"pictures: {folder / 'pictures'}")
    say(f"record:   {folder / 'record.json'}")


def merged(parts: list[Detections], unreadable: Mapping[int, str]) -> tuple[Detections, dict[int, str]]:
    """This process's detections and unreadable pictures (image id -> reason), with those of all other processes.

    On the main process; the others get nothing.
    """
    shards = gather((Detections.concatenate(parts), dict(unreadable)))
    if not shards:
        return Detections.empty(), {}
    together = Detections.merge([detections for detections, _ in shards])
    return together, {image: reason for _, reasons in shards for image, reason in reasons.items()}


def score(
    dataset: CocoDataset,
    detections: Detections,
    unreadable: Mapping[int, str],
    folder: Path,
    *,
    use_masks: bool,
) -> Scores:
    """Save the detections and score what was saved, so that scoring the file again gives the same numbers."""
    if not is_main():
        return Scores()
    path = folder / DETECTIONS_FILE
    detections.save(path)
    return Scores(
        bbox=evaluate(dataset, path, "bbox", unevaluated_image_ids=unreadable),
        segm=evaluate(dataset, path, "segm", unevaluated_image_ids=unreadable) if use_masks else None,
        unreadable=tuple(unreadable.values()),
    )


def write_pictures(
    dataset: CocoDataset | None, folder: Path, predict: Callable[[np.ndarray, ImageEntry], Objects]
) -> None:
    """Draw ground truth beside predictions for some pictures of a data set, into `pictures/` of the run's folder.

    predict: (pixels, uint8 (H, W, 3) RGB; the picture's entry) -> what the model finds on it.
    """
    if not is_main() or dataset is None:
        return
    target = folder / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    for index in _worth_seeing(dataset):
        entry = dataset.image(index)
        try:
            picture = load_entry(entry)
        except UnreadableImage:
            # Listed in the record already, as a picture that the numbers miss.
            continue
        drawn = side_by_side(
            picture,
            _truth(dataset, index),
            predict(picture, entry),
            score_threshold=PICTURE_SCORE,
            title=Path(entry.file_name).name,
        )
        write_png(target / f"{Path(entry.file_name).stem}.png", drawn)


def _worth_seeing(dataset: CocoDataset) -> list[int]:
    """Pictures spread over the data set, those with objects first."""
    counts = np.diff(dataset.annotation_starts)
    with_objects = np.flatnonzero(counts > 0)
    candidates = with_objects if len(with_objects) else np.arange(len(dataset))
    if len(candidates) <= PICTURES:
        return [int(index) for index in candidates]
    return [int(candidates[round(place)]) for place in np.linspace(0, len(candidates) - 1, PICTURES)]


def _truth(dataset: CocoDataset, index: int) -> Objects:
    names = {category.id: category.name for category in dataset.categories}
    annotations = dataset.annotations(index)
    boxes = np.array([annotation.bbox for annotation in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Objects(
        boxes,
        [names[annotation.category_id] for annotation in annotations],
        crowd=[bool(annotation.iscrowd) for annotation in annotations],
    )
