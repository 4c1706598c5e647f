"""The annotations of a file in columns, with findings for what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco import columns, segmentation
from rexdet.coco.columns import Texts
from rexdet.coco.entries import ImageColumns, note_text_ids, objects_of, repeated
from rexdet.coco.findings import SHOWN, Findings
from rexdet.coco.mask_columns import read_masks
from rexdet.coco.source import MaskTexts
from rexdet.coco.table import Bools, Category, Ints, Table


def read_annotation_columns(
    entries: Sequence[Any],
    images: ImageColumns,
    categories: tuple[Category, ...],
    mask_texts: MaskTexts,
    findings: Findings,
) -> Table:
    """Put the annotations `entries` in columns beside their images.

    Raises `source.BrokenMaskError` where `mask_texts` holds something else than masks.
    """
    objects = objects_of(entries, "annotation", findings)
    ids = _annotation_ids(objects, findings)
    image_rows, of_known_image = _image_rows(objects, ids, images, findings)
    category_ids, of_known_category = _category_ids(objects, ids, image_rows, images, categories, findings)
    boxes, box_fits = _boxes(objects, ids, findings)
    crowd, crowd_fits = _crowd(objects, ids, findings)
    areas = _areas(objects, ids, findings)
    masks = read_masks([entry.get("segmentation") for entry in objects], mask_texts)
    _mask_findings(masks.forms, ids, findings)
    usable = of_known_image & of_known_category & box_fits & crowd_fits & (masks.forms != segmentation.INVALID)
    order = np.flatnonzero(usable)
    order = order[np.argsort(image_rows[order], kind="stable")]
    texts = Texts.pack([masks.texts[row] for row in order.tolist()])
    return Table(
        image_ids=images.ids,
        image_sizes=images.sizes,
        name_data=images.names.data,
        name_offsets=images.names.offsets,
        annotation_ids=ids[order],
        image_rows=image_rows[order].astype(np.int32),
        category_ids=category_ids[order],
        boxes=boxes[order],
        areas=areas[order],
        crowd=crowd[order],
        forms=masks.forms[order],
        mask_sizes=masks.sizes[order],
        extents=masks.extents[order],
        whole_polygons=masks.whole_polygons[order],
        short_polygons=masks.short_polygons[order],
        mask_data=texts.data,
        mask_offsets=texts.offsets,
    )


def number_annotations(entries: Sequence[dict[str, Any]]) -> list[int]:
    """The ids of annotations in their order, those without one numbered as `read_table` numbers them."""
    return _filled_in(*columns.whole_numbers([entry.get("id") for entry in entries])).tolist()


def _filled_in(ids: Ints, good: Bools) -> Ints:
    missing = np.flatnonzero(~good)
    filled = ids.copy()
    first = max(int(ids[good].max(initial=0)), 0) + 1
    if first + len(missing) > np.iinfo(np.int64).max:
        # No numbers are left above: those below that are free.
        filled[missing] = np.setdiff1d(np.arange(1, len(ids) + 1), ids[good])[: len(missing)]
    else:
        filled[missing] = np.arange(first, first + len(missing))
    return filled


def _annotation_ids(objects: list[dict[str, Any]], findings: Findings) -> Ints:
    raw = [entry.get("id") for entry in objects]
    ids, good = columns.whole_numbers(raw)
    absent = columns.absent(raw)
    findings.add(
        "refuse",
        "annotation-id-invalid",
        "annotations whose id is no whole number",
        [repr(raw[row])[:40] for row in np.flatnonzero(~good & ~absent)],
    )
    findings.add("refuse", "annotation-id-twice", "annotation ids used more than once", repeated(ids[good]))
    ids = _filled_in(ids, good)
    findings.add(
        "accept",
        "annotation-id-missing",
        "annotations without an id, numbered from this one on",
        ids[absent][:1],
        count=int(absent.sum()),
    )
    return ids


def _image_rows(
    objects: list[dict[str, Any]], ids: Ints, images: ImageColumns, findings: Findings
) -> tuple[Ints, Bools]:
    raw = [entry.get("image_id") for entry in objects]
    numbers, good = columns.whole_numbers(raw)
    note_text_ids(raw, "image ids of annotations", "annotation-image-id-is-text", findings)
    order = np.argsort(images.ids, kind="stable")
    ordered = images.ids[order]
    places = np.searchsorted(ordered, numbers)
    known = np.zeros(len(raw), bool)
    inside = places < len(ordered)
    known[inside] = ordered[places[inside]] == numbers[inside]
    known &= good
    rows = np.zeros(len(raw), np.int64)
    rows[known] = order[places[known]]
    unknown = np.flatnonzero(~known)
    findings.add(
        "refuse",
        "image-unknown",
        "annotations of images that the file does not list",
        ids[unknown],
        shown=[f"annotation {ids[row]} of image {str(raw[row])[:40]}" for row in unknown[:SHOWN]],
    )
    return rows, known


def _category_ids(
    objects: list[dict[str, Any]],
    ids: Ints,
    image_rows: Ints,
    images: ImageColumns,
    categories: tuple[Category, ...],
    findings: Findings,
) -> tuple[Ints, Bools]:
    raw = [entry.get("category_id") for entry in objects]
    numbers, good = columns.whole_numbers(raw)
    missing = np.flatnonzero(~good)
    findings.add(
        "refuse",
        "category-id-missing",
        "annotations without a category_id that is a whole number",
        ids[missing],
        shown=[f"annotation {number}" for number in ids[missing[:SHOWN]]],
    )
    listed = np.array([category.id for category in categories], np.int64)
    strangers = np.flatnonzero(good & ~np.isin(numbers, listed))
    uses: dict[int, int] = {}
    for number in numbers[strangers].tolist():
        uses[number] = uses.get(number, 0) + 1
    if len(strangers):
        row = int(strangers[0])
        name = images.names[int(image_rows[row])].decode("utf-8", "replace") if len(images.ids) else ""
        known = ", ".join(map(str, listed[:12])) + (", …" if len(listed) > 12 else "")
        spelled = ", ".join(f"{number} in {count}" for number, count in list(uses.items())[:5])
        findings.add(
            "refuse",
            "category-unknown",
            f"annotations with category ids that the file does not list ({spelled}; it lists {known})",
            ids[strangers],
            shown=[f"annotation {ids[row]} on {name}"] + [str(ids[row]) for row in strangers[1:SHOWN]],
        )
    return numbers, good & np.isin(numbers, listed)


def _boxes(objects: list[dict[str, Any]], ids: Ints, findings: Findings) -> tuple[npt.NDArray[np.float64], Bools]:
    raw = [entry.get("bbox") for entry in objects]
    boxes, good = columns.boxes(raw)
    where = _whereabouts(objects, ids)
    absent = columns.absent(raw)
    # NaN is no less than anything.
    finite = (np.abs(boxes) <= columns.FARTHEST).all(axis=1)
    negative = good & finite & (boxes[:, 2:] < 0).any(axis=1)
    for code, bad, clause in (
        ("box-missing", absent, "without a bbox"),
        ("box-invalid", ~absent & ~good, "whose bbox is not four numbers [x, y, width, height]"),
        ("box-not-finite", good & ~finite, "whose bbox has NaN, infinity or a number beyond 1e30 in it"),
        ("box-negative", negative, "whose bbox has a negative width or height"),
    ):
        rows = np.flatnonzero(bad)
        findings.add("refuse", code, f"annotations {clause}", ids[rows], shown=[where(row) for row in rows[:SHOWN]])
    return boxes, good & finite & ~negative


def _whereabouts(objects: list[dict[str, Any]], ids: Ints) -> Any:
    def where(row: int) -> str:
        return f"annotation {ids[row]} of image {str(objects[row].get('image_id'))[:40]}"

    return where


def _crowd(objects: list[dict[str, Any]], ids: Ints, findings: Findings) -> tuple[Bools, Bools]:
    raw = [entry.get("iscrowd") for entry in objects]
    absent = columns.absent(raw)
    if bool in set(map(type, raw)):
        raw = [int(value) if type(value) is bool else value for value in raw]
    numbers, good = columns.whole_numbers(raw)
    wrong = ~absent & (~good | ~np.isin(numbers, (0, 1)))
    findings.add("refuse", "iscrowd-invalid", "annotations with an iscrowd that is not 0 or 1", ids[wrong])
    findings.add("accept", "iscrowd-missing", "annotations without iscrowd, taken as 0", ids[absent])
    return (numbers == 1) & good, ~wrong


def _areas(objects: list[dict[str, Any]], ids: Ints, findings: Findings) -> npt.NDArray[np.float64]:
    raw = [entry.get("area") for entry in objects]
    areas = columns.real_numbers(raw)
    absent = columns.absent(raw)
    finite = np.abs(areas) <= columns.FARTHEST**2
    wrong = ~absent & (~finite | (areas < 0))
    findings.add("accept", "area-missing", "annotations without area, taken from the box", ids[absent])
    findings.add(
        "mend",
        "area-invalid",
        "annotations with an area that is no size, computed anew in training",
        ids[wrong],
    )
    areas[~finite] = np.nan
    return areas


def _mask_findings(forms: npt.NDArray[np.uint8], ids: Ints, findings: Findings) -> None:
    for form, action, code, clause in (
        (
            segmentation.INVALID,
            "refuse",
            "segmentation-invalid",
            "whose segmentation is neither polygons nor a run-length code",
        ),
        (
            segmentation.FLAT,
            "mend",
            "segmentation-flat",
            "whose segmentation is one flat list of numbers, read as one polygon",
        ),
        (
            segmentation.PAIRS,
            "mend",
            "segmentation-point-pairs",
            "whose segmentation is a list of [x, y] pairs, read as one polygon",
        ),
    ):
        findings.add(action, code, f"annotations {clause}", ids[forms == form])
