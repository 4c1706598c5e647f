"""The 12 COCO numbers, for boxes and masks: pycocotools' numbers, some hundred times as fast.

Ground truth and detections are scored as they stand. Only a missing `iscrowd` (0) or `area` (width times height of
the box) is filled in; what cleaning the file would mend is counted and said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.accumulate import DETECTION_LIMITS, Curves, accumulate
from rexdet.coco.annotations import CocoDataset
from rexdet.coco.detections import Detections, read_detections
from rexdet.coco.ground_truth import GroundTruth, read_ground_truth
from rexdet.coco.matched import match_once
from rexdet.coco.matching import AREA_RANGES, GroupedDetections, Matches
from rexdet.errors import UserError

# Key -> (precision or recall, row of the IoU threshold or None for their mean, area range, detection limit).
_NUMBERS: dict[str, tuple[str, int | None, str, int]] = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0, "all", 100),
    "AP75": ("precision", 5, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}
KEYS = tuple(_NUMBERS)
"""The 12 keys, in COCO's order."""

# The axes of `_values` before the classes: thresholds, and for precision also recall.
_ALL_BUT_CLASSES: dict[str, tuple[int, ...]] = {
    key: (0,) if kind == "recall" or threshold is not None else (0, 1)
    for key, (kind, threshold, _, _) in _NUMBERS.items()
}

FALSE_POSITIVE_SCORES = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class ClassEvaluation:
    """One class. id: None for a class that the annotation file does not list.

    objects: annotations that count; crowds: crowd regions; both independent of the detections.
    numbers: the 12 keys, 0 to 1, None where nothing of that area range (or of that class) is annotated.
    """

    id: int | None
    name: str
    objects: int
    crowds: int
    detections: int
    numbers: dict[str, float | None]

    @property
    def has_ground_truth(self) -> bool:
        """Whether the class counts in the means."""
        return self.objects > 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    numbers: the 12 keys of `KEYS`, 0 to 1; None where no annotation lies in the area range (never -1).
    per_class: every class that the annotation file lists, ascending by id, then any other that was named. Classes
        without ground truth are listed, and count in no mean.
    counts: `images`, `images_without_objects`, `objects`, `crowds`, none of which depends on the detections;
        `detections`, `detections_beyond_100` (an image and class: not scored), and for masks `masks_of_another_size`.
    unevaluated_image_ids: images that could not be predicted. They stay in the denominator: their objects count as
        missed.
    filled_in, mendable: what the annotation file lacks and what cleaning it would mend (finding -> how many); it is
        scored as it stands.
    curves: precision and recall, class by class.
    """

    iou_type: str
    numbers: dict[str, float | None]
    per_class: tuple[ClassEvaluation, ...]
    counts: dict[str, int]
    unevaluated_image_ids: tuple[int, ...]
    filled_in: dict[str, int]
    mendable: dict[str, int]
    curves: Curves
    _unmatched_scores: NDArray[np.float64]

    @property
    def partial(self) -> bool:
        """Whether some image could not be predicted, so that the numbers are a lower bound."""
        return bool(self.unevaluated_image_ids)

    @cached_property
    def false_positives_per_image(self) -> dict[float, float]:
        """At each score of `FALSE_POSITIVE_SCORES`: detections with that score or more an image that match nothing.

        "Match" is at IoU 0.5, crowds included. It is the only number there is when the images show no object at all.
        """
        images = self.counts["images"]
        return {
            score: float(np.count_nonzero(self._unmatched_scores >= score)) / images if images else 0.0
            for score in FALSE_POSITIVE_SCORES
        }

    def table(self, *, per_class: bool = False) -> str:
        """The numbers in percent (a dash where there is no ground truth) and the counts, as text."""
        from rexdet.coco.evaluation_text import evaluation_table

        return evaluation_table(self, per_class=per_class)

    def as_json(self, *, per_class: bool = False) -> dict[str, Any]:
        """The 12 numbers (0 to 1, None where empty) at the top level; the rest under `counts`, `partial` and so on."""
        from rexdet.coco.evaluation_text import evaluation_json

        return evaluation_json(self, per_class=per_class)


def evaluate(
    dataset: GroundTruth | CocoDataset | dict[str, Any] | str | os.PathLike[str],
    detections: Detections | str | os.PathLike[str],
    iou_type: str = "bbox",
    *,
    unevaluated_image_ids: Iterable[int] = (),
    other_class_names: Iterable[str] = (),
) -> Evaluation:
    """Score detections against annotated images.

    dataset: a `CocoDataset` read with `purpose="evaluate"`, a `GroundTruth` (cheapest when the same images are scored
        again and again), the path of an annotation file, or its content as a dictionary.
    detections: `Detections`, or the path of a COCO results file.
    iou_type: "bbox" or "segm". For masks, a detection's area range is decided by its mask's area.
    unevaluated_image_ids: images that could not be predicted; the result is marked partial.
    other_class_names: classes of the detector that the annotation file lacks (`match_categories` finds them). They are
        listed as classes without ground truth.

    Raises UserError for ids that the annotation file does not list, non-finite numbers, and missing masks.
    """
    truth = read_ground_truth(dataset)
    where = ""
    if not isinstance(detections, Detections):
        where = str(detections)
        detections = read_detections(detections)
    matched = match_once(truth, detections, iou_type, where)
    grouped = matched.grouped
    positives = _count_positives(truth.annotation_category, matched.ignored, len(truth.categories))
    curves = accumulate(grouped, matched.category, matched.scores, matched.outside, matched.matches, positives)
    return Evaluation(
        iou_type=iou_type,
        numbers=_numbers(curves),
        per_class=_per_class(truth, curves, detections, other_class_names),
        counts=_counts(truth, detections, grouped) | _misfits(truth, detections, iou_type),
        unevaluated_image_ids=_listed_images(truth, unevaluated_image_ids),
        filled_in=dict(truth.filled_in),
        mendable=dict(truth.mendable),
        curves=curves,
        _unmatched_scores=_unmatched_scores(matched.scores, matched.matches),
    )


def _listed_images(truth: GroundTruth, image_ids: Iterable[int]) -> tuple[int, ...]:
    distinct = sorted({int(image_id) for image_id in image_ids})
    unknown = sorted(set(distinct).difference(truth.image_ids.tolist()))
    if unknown:
        raise UserError(f"the annotation file lists no image {unknown[0]}", truth.source)
    return tuple(distinct)


def _count_positives(
    annotation_category: NDArray[np.int64], ignored: NDArray[np.bool_], classes: int
) -> NDArray[np.int64]:
    """Annotations that count, (K, A)."""
    return np.stack([np.bincount(annotation_category[~column], minlength=classes) for column in ignored.T], axis=1)


def _values(curves: Curves, key: str) -> NDArray[np.float64]:
    """What one of the 12 numbers is the mean of: (..., K), NaN for a class without ground truth in that range."""
    kind, threshold, area, limit = _NUMBERS[key]
    column = list(AREA_RANGES).index(area)
    if kind == "precision":
        values = curves.precision[..., column]
    else:
        values = curves.recall[..., column, DETECTION_LIMITS.index(limit)]
    return values if threshold is None else values[threshold]


def _numbers(curves: Curves) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for key in KEYS:
        values = _values(curves, key)
        values = values[~np.isnan(values)]
        numbers[key] = float(values.mean()) if len(values) else None
    return numbers


def _per_class(
    truth: GroundTruth, curves: Curves, detections: Detections, others: Iterable[str]
) -> tuple[ClassEvaluation, ...]:
    classes = len(truth.categories)
    crowds = np.bincount(truth.annotation_category[truth.crowd], minlength=classes)
    detected = np.bincount(np.searchsorted(truth.category_ids, detections.category_ids), minlength=classes)
    # A class has a whole curve or none, so that its means need no sifting.
    means = {key: _values(curves, key).mean(axis=_ALL_BUT_CLASSES[key]).tolist() for key in KEYS}
    listed = [
        ClassEvaluation(
            entry.id,
            entry.name,
            int(curves.positives[row, 0]),
            int(crowds[row]),
            int(detected[row]),
            {key: None if np.isnan(means[key][row]) else means[key][row] for key in KEYS},
        )
        for row, entry in enumerate(truth.categories)
    ]
    names = {entry.name for entry in listed}
    unlisted = [ClassEvaluation(None, name, 0, 0, 0, dict.fromkeys(KEYS)) for name in others if name not in names]
    return (*listed, *unlisted)


def _counts(truth: GroundTruth, detections: Detections, grouped: GroupedDetections) -> dict[str, int]:
    crowds = int(truth.crowd.sum())
    with_objects = len(np.unique(truth.annotation_image[~truth.crowd]))
    return {
        "images": len(truth.image_ids),
        "images_without_objects": len(truth.image_ids) - with_objects,
        "objects": len(truth) - crowds,
        "crowds": crowds,
        "detections": len(detections),
        "detections_beyond_100": len(detections) - len(grouped.rows),
    }


def _misfits(truth: GroundTruth, detections: Detections, iou_type: str) -> dict[str, int]:
    """How many detected masks have another size than their image, so that they match nothing."""
    if iou_type == "bbox" or not detections.masks:
        return {}
    image = np.searchsorted(truth.image_ids, detections.image_ids)
    sizes, expected = np.array([mask["size"] for mask in detections.masks]), truth.image_sizes[image]
    return {"masks_of_another_size": int(((sizes != expected) & (expected > 0)).any(axis=1).sum())}


def _unmatched_scores(scores: NDArray[np.float64], matches: Matches) -> NDArray[np.float64]:
    """Scores of the detections that took no annotation, crowds included, at IoU 0.5."""
    unmatched = np.ones(len(scores), np.bool_)
    unmatched[matches.position] = ~(matches.right | matches.ignored)[:, 0, 0]
    return scores[unmatched]
