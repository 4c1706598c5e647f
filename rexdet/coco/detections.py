"""Detections as columns, and the COCO results file that they are saved to and read from.

A results file is a JSON list with one object a detection: `image_id`, `category_id`, `bbox` ([x, y, width, height] in
pixels), `score` and, for masks, `segmentation` (run-length code). Numbers are written with as many digits as
it takes to read the same float64 back, so that a saved file scores exactly what the detections in memory score.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rexdet.errors import UserError
from rexdet.files import write_text_atomically

RunLengthCode = dict[str, Any]
"""A mask: {"size": [height, width], "counts": str}, COCO's compressed run-length code (column-major)."""


class KnownIds(Protocol):
    """What the ids of detections are checked against; a `CocoDataset` is one."""

    @property
    def image_ids(self) -> NDArray[np.int64]: ...

    @property
    def categories(self) -> Sequence[Any]: ...


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
        corners = _as_array(boxes_xyxy)
        if corners.size == 0:
            corners = corners.reshape(0, 4)
        boxes = corners.astype(np.float64)
        boxes[:, 2:] = corners[:, 2:] - corners[:, :2]
        return cls(
            np.full(len(boxes), image_id, np.int64),
            boxes,
            _as_array(scores).astype(np.float64),
            _as_array(category_ids).astype(np.int64),
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
        for image_id, rows in zip(ids.tolist(), np.split(order, starts[1:]), strict=True):
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
        """Raise UserError that names the first row whose score or box is NaN or infinite."""
        for name, finite in (
            ("score", np.isfinite(self.scores)),
            ("box", np.isfinite(self.boxes).all(axis=1)),
        ):
            if not finite.all():
                row = int(np.argmin(finite))
                value = self.scores[row] if name == "score" else self.boxes[row].tolist()
                raise UserError(
                    f"detection {row} (image {self.image_ids[row]}) has the {name} {value}",
                    where,
                    "predict again with finite weights",
                )

    def check_ids(self, dataset: KnownIds, where: str = "") -> None:
        """Raise UserError that names image and category ids which `dataset` does not list."""
        known_categories = np.array([category.id for category in dataset.categories], np.int64)
        for name, ids, known in (
            ("image", self.image_ids, np.asarray(dataset.image_ids)),
            ("category", self.category_ids, known_categories),
        ):
            unknown = np.isin(ids, known, invert=True)
            if unknown.any():
                raise UserError(
                    f"{int(unknown.sum())} of {len(self)} detections name {name} ids that the annotation file does "
                    f"not list: {_listed(np.unique(ids[unknown]).tolist())} (it lists {_listed(known.tolist())})",
                    where,
                    "give the annotation file that these detections were made for",
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a COCO results file, whole or not at all. Raises UserError for NaN and infinity (not JSON)."""
        self.check_numbers(str(path))
        if self.masks is None:
            endings: Iterable[str] = ("}" for _ in range(len(self)))
        else:
            endings = (f', "segmentation": {json.dumps(mask)}}}' for mask in self.masks)
        columns = zip(
            self.image_ids.tolist(),
            self.category_ids.tolist(),
            self.boxes.tolist(),
            self.scores.tolist(),
            endings,
            strict=True,
        )
        lines = [
            f'{{"image_id": {image_id}, "category_id": {category_id}, "bbox": {box!r}, "score": {score!r}{ending}'
            for image_id, category_id, box, score, ending in columns
        ]
        write_text_atomically(path, "[" + ",\n".join(lines) + "]\n")


def read_detections(path: str | os.PathLike[str], dataset: KnownIds | None = None) -> Detections:
    """Read a COCO results file; with `dataset`, every image and category id must be one of its own.

    Entries may leave out `bbox` where they have a `segmentation`; the box is then the mask's. Raises UserError that
    names the file, the entry and what is wrong with it.
    """
    where = str(path)
    entries = _load_json_list(where)
    if not entries:
        return Detections.empty()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"entry {number} is not an object but {_shown(entry)}", where)
    image_ids = _integer_column(entries, "image_id", where)
    category_ids = _integer_column(entries, "category_id", where)
    scores = _number_column(entries, "score", where)
    masks = _mask_column(entries, where)
    detections = Detections(image_ids, _box_column(entries, masks, where), scores, category_ids, masks)
    detections.check_numbers(where)
    if dataset is not None:
        detections.check_ids(dataset, where)
    return detections


def encode_masks(masks: Any) -> list[RunLengthCode]:
    """Run-length codes of (n, height, width) masks, true inside; codes that are given already are passed on."""
    if isinstance(masks, list | tuple) and (not masks or isinstance(masks[0], dict)):
        return [_as_text(mask) for mask in masks]
    from pycocotools import mask as mask_tools

    pixels = _as_array(masks)
    if len(pixels) == 0:
        return []
    columns = np.asfortranarray(pixels.astype(np.uint8).transpose(1, 2, 0))
    return [_as_text(mask) for mask in mask_tools.encode(columns)]


def _as_text(mask: RunLengthCode) -> RunLengthCode:
    counts = mask["counts"]
    return {
        "size": [int(side) for side in mask["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _as_array(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor; this room does not import torch to ask for its class
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such type
            values = values.float()
        return values.numpy()
    return np.asarray(values)


def _load_json_list(where: str) -> list[Any]:
    try:
        with open(where, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise UserError("no such file", where) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", where) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            where,
            "it may be an unfinished copy",
        ) from error
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        raise UserError(
            "is an annotation file, not detections",
            where,
            "give the results file (a list of objects with image_id, category_id, bbox, score)",
        )
    if not isinstance(content, list):
        raise UserError(f"holds {_shown(content)} where a list of detections is meant", where)
    return content


def _column(entries: list[dict[str, Any]], key: str, where: str) -> list[Any]:
    try:
        return [entry[key] for entry in entries]
    except KeyError:
        number = next(number for number, entry in enumerate(entries) if key not in entry)
        raise UserError(f"entry {number} has no {key!r}", where) from None


def _integer_column(entries: list[dict[str, Any]], key: str, where: str) -> NDArray[np.int64]:
    values = _column(entries, key, where)
    if set(map(type, values)) == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError as error:
            raise UserError(f"a {key!r} needs more than 64 bits", where) from error
    # 7.0 is the same number as 7 (some writers know floats alone); "7" and true are not numbers.
    wrong = [v for v in values if type(v) is not int and not (type(v) is float and v.is_integer())]
    if wrong:
        distinct = list(dict.fromkeys(_shown(value) for value in wrong))
        raise UserError(
            f"{key} must be a whole number, but {len(wrong)} of {len(values)} entries have {_listed(distinct)}",
            where,
            "write ids as the annotation file does, without quotes",
        )
    return np.array([int(value) for value in values], np.int64)


def _number_column(entries: list[dict[str, Any]], key: str, where: str) -> NDArray[np.float64]:
    values = _column(entries, key, where)
    if not set(map(type, values)) <= {int, float}:
        number = next(n for n, value in enumerate(values) if type(value) not in (int, float))
        raise UserError(f"{key} of entry {number} is {_shown(values[number])}, not a number", where)
    return np.array(values, np.float64)


def _box_column(entries: list[dict[str, Any]], masks: list[RunLengthCode] | None, where: str) -> NDArray[np.float64]:
    without = [number for number, entry in enumerate(entries) if "bbox" not in entry]
    if masks is None:
        boxes = _column(entries, "bbox", where)
    else:
        from pycocotools import mask as mask_tools

        boxes = [entry.get("bbox") for entry in entries]
        for number in without:
            boxes[number] = mask_tools.toBbox(masks[number]).tolist()
    for number, box in enumerate(boxes):
        if (
            not isinstance(box, list)
            or len(box) != 4
            or not all(type(side) is float or type(side) is int for side in box)
        ):
            raise UserError(f"bbox of entry {number} is {_shown(box)}, not four numbers (x, y, width, height)", where)
    return np.array(boxes, np.float64)


def _mask_column(entries: list[dict[str, Any]], where: str) -> list[RunLengthCode] | None:
    having = sum("segmentation" in entry for entry in entries)
    if having == 0:
        return None
    masks = []
    for number, mask in enumerate(_column(entries, "segmentation", where)):
        size = mask.get("size") if isinstance(mask, dict) else None
        counts = mask.get("counts") if isinstance(mask, dict) else None
        if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, str | list):
            raise UserError(
                f"segmentation of entry {number} is {_shown(mask)}, not a run-length code "
                '({"size": [height, width], "counts": "..."})',
                where,
            )
        if isinstance(counts, list):
            from pycocotools import mask as mask_tools

            mask = mask_tools.frPyObjects(mask, *size)
        masks.append(_as_text(mask))
    return masks


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(values: Sequence[Any], most: int = 8) -> str:
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
