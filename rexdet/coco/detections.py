"""Detections as columns, and the COCO results file that they are saved to and read from.

A results file is a JSON list with one object a detection: `image_id`, `category_id`, `bbox` ([x, y, width, height] in
pixels), `score` and, for masks, `segmentation` (run-length code). Numbers are written with as many digits as
it takes to read the same float64 back, so that a saved file scores exactly what the detections in memory score.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from rexdet.coco import results_file
from rexdet.coco.arrays import as_array
from rexdet.coco.columns import FARTHEST
from rexdet.coco.run_length import RunLengthCode, encode_masks
from rexdet.coco.schema import Category
from rexdet.errors import UserError
from rexdet.files import write_bytes_atomically


class Listed(Protocol):
    """An annotation file's ids, which those of detections are checked against; `CocoDataset` and `GroundTruth` do."""

    @property
    def image_ids(self) -> NDArray[np.int64]: ...

    @property
    def categories(self) -> Sequence[Category]: ...


@dataclass(frozen=True)
class Detections:
    """N detections of any number of images, one array a column; the order of rows breaks ties between equal scores.

    image_ids: int64 (N,), the annotation file's own image ids.
    boxes: float64 (N, 4), x, y, width, height in pixels of the image as its file declares it.
    scores: float64 (N,), higher is more certain; usually 0 to 1.
    category_ids: int64 (N,), the annotation file's own category ids.
    masks: N run-length codes, or None when these detections have boxes alone.

    Raises ValueError when the columns do not fit each other.
    """

    image_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    category_ids: NDArray[np.int64]
    masks: list[RunLengthCode] | None = None

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        lengths = {len(self.boxes), len(self.scores), len(self.category_ids), count}
        if self.masks is not None:
            lengths.add(len(self.masks))
        if len(lengths) != 1 or self.boxes.shape != (count, 4):
            raise ValueError(
                f"columns of detections do not fit: {count} image ids, boxes {self.boxes.shape}, "
                f"{len(self.scores)} scores, {len(self.category_ids)} category ids, "
                f"{'no' if self.masks is None else len(self.masks)} masks"
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def empty(cls) -> Detections:
        """No detections at all."""
        none = np.zeros(0, np.int64)
        return cls(none, np.zeros((0, 4)), np.zeros(0), none)

    @classmethod
    def from_image(
        cls, image_id: int, boxes_xyxy: Any, scores: Any, category_ids: Any, masks: Any | None = None
    ) -> Detections:
        """The detections of one image, from tensors (of any device and float type), arrays or lists.

        boxes_xyxy: (n, 4), x1, y1, x2, y2 in pixels. Width and height are computed in the type that is given (as
            detectron2 does), then widened to float64: the numbers are the ones that its own JSON would hold.
        scores: (n,). category_ids: (n,), the annotation file's ids, not the network's class indices.
        masks: (n, height, width), true inside, at the image's size; or a list of n run-length codes; or None.
        """
        corners = as_array(boxes_xyxy)
        if corners.size == 0:
            corners = corners.reshape(0, 4)
        boxes = corners.astype(np.float64)
        boxes[:, 2:] = corners[:, 2:] - corners[:, :2]
        return cls(
            np.full(len(boxes), image_id, np.int64),
            boxes,
            as_array(scores).astype(np.float64),
            as_array(category_ids).astype(np.int64),
            None if masks is None else encode_masks(masks),
        )

    @classmethod
    def concatenate(cls, parts: Iterable[Detections]) -> Detections:
        """All rows of `parts`, in their order. Raises ValueError when some parts have masks and others do not."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return cls.empty()
        masked = [part for part in filled if part.masks is not None]
        if masked and len(masked) != len(filled):
            raise ValueError("some of these detections have masks and others have none")
        return cls(
            np.concatenate([part.image_ids for part in filled]),
            np.concatenate([part.boxes for part in filled]),
            np.concatenate([part.scores for part in filled]),
            np.concatenate([part.category_ids for part in filled]),
            [mask for part in filled for mask in part.masks or ()] if masked else None,
        )

    @classmethod
    def merge(cls, shards: Sequence[Detections]) -> Detections:
        """The shards of several processes as one set in ascending order of image ids, whatever the shards' order.

        The rule: an image belongs to one shard. A sampler that pads its shards to equal length predicts some images
        twice; where two shards hold the same image with the very same rows, the copy is dropped. Where the rows
        differ, nobody can say which ones count: ValueError, with the image id. Rows of one image keep their order.
        """
        kept: list[Detections] = []
        seen: dict[int, Detections] = {}
        for shard in shards:
            for image_id, rows in shard._by_image():
                earlier = seen.get(image_id)
                if earlier is None:
                    seen[image_id] = rows
                    kept.append(rows)
                elif not earlier.same_as(rows):
                    raise ValueError(f"two processes hold different detections of image {image_id}")
        return cls.concatenate(sorted(kept, key=lambda rows: int(rows.image_ids[0])))

    def _by_image(self) -> Iterable[tuple[int, Detections]]:
        order = np.argsort(self.image_ids, kind="stable")
        ids, starts = np.unique(self.image_ids[order], return_index=True)
        # Without a single row, splitting would still give one empty part.
        parts = np.split(order, starts[1:]) if len(order) else []
        for image_id, rows in zip(ids.tolist(), parts, strict=True):
            yield image_id, self.take(rows)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The rows that are named by number or marked true, in that order."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Detections(
            self.image_ids[numbers],
            self.boxes[numbers],
            self.scores[numbers],
            self.category_ids[numbers],
            None if self.masks is None else [self.masks[row] for row in numbers.tolist()],
        )

    def same_as(self, other: Detections) -> bool:
        """Whether both hold the same rows in the same order, to the last digit."""
        return (
            np.array_equal(self.image_ids, other.image_ids)
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.category_ids, other.category_ids)
            and self.masks == other.masks
        )

    def check_numbers(self, where: str = "") -> None:
        """Raise UserError that names the first row whose score or box is NaN, infinite or beyond any picture."""
        for name, finite in (
            ("score", np.isfinite(self.scores)),
            # NaN is no less than anything; the area of a box beyond would be infinite.
            ("box", (np.abs(self.boxes) <= FARTHEST).all(axis=1)),
        ):
            if not finite.all():
                row = int(np.argmin(finite))
                value = self.scores[row] if name == "score" else self.boxes[row].tolist()
                raise UserError(
                    f"detection {row} (image {self.image_ids[row]}) has the {name} {value}",
                    where,
                    "predict again with finite weights",
                )

    def check_ids(self, dataset: Listed, where: str = "") -> None:
        """Raise UserError that names image and category ids which `dataset` does not list."""
        known_categories = np.array([category.id for category in dataset.categories], np.int64)
        for name, ids, known in (
            ("image", self.image_ids, np.asarray(dataset.image_ids)),
            ("category", self.category_ids, known_categories),
        ):
            unknown = np.isin(ids, known, invert=True)
            if unknown.any():
                named, lists = (results_file.listed(some.tolist()) for some in (np.unique(ids[unknown]), known))
                raise UserError(
                    f"{int(unknown.sum())} of {len(self)} detections name {name} ids that the annotation file does "
                    f"not list: {named} (it lists {lists})",
                    where,
                    "give the annotation file that these detections were made for",
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a COCO results file, whole or not at all. Raises UserError for NaN and infinity (not JSON)."""
        self.check_numbers(str(path))
        if not len(self):
            write_bytes_atomically(path, b"[]\n")
            return
        # One object a line. Columns are written whole and cut apart again: far faster than a dictionary a row.
        lines = [
            b'{"image_id": %d, "category_id": %d, "bbox": [%b], "score": %b%b}' % row
            for row in zip(
                self.image_ids.tolist(),
                self.category_ids.tolist(),
                orjson.dumps(self.boxes.tolist())[2:-2].split(b"],["),
                orjson.dumps(self.scores.tolist())[1:-1].split(b","),
                [b', "segmentation": ' + orjson.dumps(mask) for mask in self.masks or ()] or [b""] * len(self),
                strict=True,
            )
        ]
        write_bytes_atomically(path, b"[" + b",\n".join(lines) + b"]\n")


def read_detections(path: str | os.PathLike[str], dataset: Listed | None = None) -> Detections:
    """Read a COCO results file; with `dataset`, every image and category id must be one of its own.

    Entries may leave out `bbox` where they have a `segmentation`; the box is then the mask's. Raises UserError that
    names the file, the entry and what is wrong with it.
    """
    where = str(path)
    entries = results_file.load_entries(where)
    if not entries:
        return Detections.empty()
    masks = results_file.mask_column(entries, where)
    detections = Detections(
        results_file.integer_column(entries, "image_id", where),
        results_file.box_column(entries, masks, where),
        results_file.number_column(entries, "score", where),
        results_file.integer_column(entries, "category_id", where),
        masks,
    )
    detections.check_numbers(where)
    if dataset is not None:
        detections.check_ids(dataset, where)
    return detections
