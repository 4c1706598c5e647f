"""Ground truth and detections, matched once: what the 12 numbers, resamples of the images and error tables rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.detections import Detections
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matching import GroupedDetections, Matches, group_detections, match, outside_ranges
from rexdet.coco.overlap import box_overlaps, mask_areas, mask_overlaps
from rexdet.errors import UserError

IOU_TYPES = ("bbox", "segm")


@dataclass(frozen=True, eq=False)
class Matched:
    """N detections beside the ground truth; D of them are scored (at most 100 an image and class); A area ranges.

    truth, detections, iou_type ("bbox" or "segm"): what was matched. grouped: the order of the D.
    image, category: int64 (D,), rows of `truth.image_ids` and of `truth.categories`; scores: float64 (D,).
    outside: bool (D, A), the detection's own area lies outside the range. matches: what the D found.
    ignored: bool (G, A), annotations that do not count: crowds, and those outside the range.
    """

    truth: GroundTruth
    detections: Detections
    iou_type: str
    grouped: GroupedDetections
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    scores: NDArray[np.float64]
    outside: NDArray[np.bool_]
    matches: Matches
    ignored: NDArray[np.bool_]


def match_once(truth: GroundTruth, detections: Detections, iou_type: str = "bbox", where: str = "") -> Matched:
    """Match detections with annotated images, all area ranges and thresholds at once.

    iou_type: "bbox" or "segm". For masks, a detection's area range is decided by its mask's area. where: the file that
    the detections come from, for messages.

    Raises UserError for ids that the annotation file does not list, non-finite numbers, and missing masks.
    """
    if iou_type not in IOU_TYPES:
        raise UserError(f"iou type {iou_type!r} is neither bbox nor segm")
    detections.check_numbers(where)
    detections.check_ids(truth, where)
    if iou_type == "segm" and len(detections) and detections.masks is None:
        raise UserError("these detections have no masks", where, "evaluate boxes (bbox)")

    # Both id lists are ascending, and known to hold every id.
    image = np.searchsorted(truth.image_ids, detections.image_ids).astype(np.int64)
    category = np.searchsorted(truth.category_ids, detections.category_ids).astype(np.int64)
    grouped = group_detections(image, category, detections.scores, len(truth.image_ids))
    ignored = outside_ranges(truth.areas) | truth.crowd[:, None]
    matches = match(
        grouped,
        truth.annotation_category * len(truth.image_ids) + truth.annotation_image,
        truth.crowd,
        ignored,
        lambda rows, annotations: overlaps(detections, truth, iou_type, rows, annotations),
    )
    return Matched(
        truth=truth,
        detections=detections,
        iou_type=iou_type,
        grouped=grouped,
        image=image[grouped.rows],
        category=category[grouped.rows],
        scores=detections.scores[grouped.rows],
        outside=outside_ranges(_areas(detections, iou_type)[grouped.rows]),
        matches=matches,
        ignored=ignored,
    )


def overlaps(
    detections: Detections,
    truth: GroundTruth,
    iou_type: str,
    rows: NDArray[np.intp],
    annotations: NDArray[np.intp],
) -> NDArray[np.float64]:
    """(P,) rows of detections, (P,) rows of annotations -> (P,) overlaps; for masks in the order of `mask_overlaps`."""
    if iou_type == "bbox":
        return box_overlaps(detections.boxes[rows], truth.boxes[annotations], truth.crowd[annotations])
    return mask_overlaps(detections.masks or [], truth.masks, truth.crowd, rows, annotations)


def _areas(detections: Detections, iou_type: str) -> NDArray[np.float64]:
    if iou_type == "bbox" or detections.masks is None:
        return detections.boxes[:, 2] * detections.boxes[:, 3]
    return mask_areas(detections.masks)
