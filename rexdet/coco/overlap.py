"""Intersection over union of pairs of boxes and of pairs of masks, with pycocotools' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def box_overlaps(
    detections: NDArray[np.float64], annotations: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(P, 4), (P, 4) boxes as x, y, width, height and (P,) crowd flags -> (P,) overlaps, 0 where boxes only touch.

    The operations and their order are those of maskApi.c (bbIou), so that the last digit agrees. For a crowd the
    union is the detection alone.
    """
    dx, dy, dw, dh = detections.T
    gx, gy, gw, gh = annotations.T
    width = np.minimum(dw + dx, gw + gx) - np.maximum(dx, gx)
    height = np.minimum(dh + dy, gh + gy) - np.maximum(dy, gy)
    touching = (width > 0) & (height > 0)
    intersection = width * height
    detection_area = dw * dh
    union = np.where(crowd, detection_area, detection_area + gw * gh - intersection)
    return np.divide(intersection, union, out=np.zeros(len(union)), where=touching)


def mask_areas(masks: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """(N,) areas in pixels of N run-length codes."""
    from pycocotools import mask as mask_tools

    # pycocotools counts the masks of one call in eight bits and raises OverflowError above 255.
    parts = [mask_tools.area(list(masks[begin : begin + 255])) for begin in range(0, len(masks), 255)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def mask_overlaps(
    detections: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    crowd: NDArray[np.bool_],
    detection_rows: NDArray[np.intp],
    annotation_rows: NDArray[np.intp],
) -> NDArray[np.float64]:
    """(P,) overlaps of the pairs of run-length codes that the (P,) rows name.

    Pairs arrive sorted by detection, those of one image and class adjacent, each detection with all annotations of
    its group: each such block is one call of pycocotools' C code. Masks of different size give -1 (no match).
    """
    from pycocotools import mask as mask_tools

    overlaps = np.empty(len(detection_rows))
    if not len(detection_rows):
        return overlaps
    # Detections of one group name the same first annotation; the next group names another.
    starts_detection = np.ones(len(detection_rows), np.bool_)
    starts_detection[1:] = detection_rows[1:] != detection_rows[:-1]
    heads = np.flatnonzero(starts_detection)
    first_annotation = annotation_rows[heads]
    starts_block = np.ones(len(heads), np.bool_)
    starts_block[1:] = first_annotation[1:] != first_annotation[:-1]
    blocks = heads[starts_block]
    for begin, end in zip(blocks.tolist(), [*blocks[1:].tolist(), len(detection_rows)], strict=True):
        rows = detection_rows[begin:end]
        those = [detections[row] for row in rows[starts_detection[begin:end]].tolist()]
        columns = annotation_rows[begin : begin + (end - begin) // len(those)]
        block = mask_tools.iou(
            those,
            [annotations[column] for column in columns.tolist()],
            crowd[columns].astype(np.uint8).tolist(),
        )
        overlaps[begin:end] = block.reshape(-1)
    return overlaps
