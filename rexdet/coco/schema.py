"""From the parsed JSON of an annotation file to a table of NumPy columns, with findings for what does not fit.

Only the file itself is looked at here; what depends on the image files or on what the data is for is `mend`'s part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rexdet.coco import columns, segmentation
from rexdet.coco.columns import Texts
from rexdet.coco.findings import SHOWN, Finding, Findings
from rexdet.coco.mask_columns import read_masks
from rexdet.coco.source import MaskTexts

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Category:
    """A class: its id in the annotation file and its name."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """An annotation file in columns: I images in file order, N annotations grouped by image, in file order within one.

    Entries that cannot be put in a row (an annotation of an unknown image, say) are left out; a finding refuses them.
    """

    image_ids: Ints  # (I,)
    image_sizes: Ints  # (I, 2) width, height; 0 where the file does not say
    name_data: npt.NDArray[np.uint8]  # file names in UTF-8, one after the other
    name_offsets: Ints  # (I + 1,)
    annotation_ids: Ints  # (N,)
    image_rows: npt.NDArray[np.int32]  # (N,) row of the annotation's image
    category_ids: Ints  # (N,)
    boxes: npt.NDArray[np.float64]  # (N, 4) x, y, width, height in px
    areas: npt.NDArray[np.float64]  # (N,) px²; NaN where the file has none
    crowd: Bools  # (N,)
    forms: npt.NDArray[np.uint8]  # (N,) one of segmentation's forms
    mask_sizes: npt.NDArray[np.int32]  # (N, 2) height, width of run-length codes; 0 elsewhere
    extents: npt.NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 of the polygons; NaN without, or not measured
    whole_polygons: npt.NDArray[np.int32]  # (N,) polygons
    short_polygons: npt.NDArray[np.int32]  # (N,) polygons that are none
    mask_data: npt.NDArray[np.uint8]  # segmentations as JSON, one after the other
    mask_offsets: Ints  # (N + 1,)

    @property
    def names(self) -> Texts:
        """The images' file names as the file writes them, UTF-8."""
        return Texts(self.name_data, self.name_offsets)

    @property
    def masks(self) -> Texts:
        """The annotations' segmentations as JSON text; empty where there is none."""
        return Texts(self.mask_data, self.mask_offsets)

    def mask(self, row: int, *, drop_short: bool) -> segmentation.Segmentation:
        """The segmentation of the annotation in `row`; drop_short as in `segmentation.decode`.

        Raises ValueError where the text is no JSON: the cache that keeps it is damaged.
        """
        form = int(self.forms[row])
        if form == segmentation.NONE:
            return None
        return segmentation.decode(orjson.loads(self.masks[row]), form, drop_short=drop_short)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def read_table(content: dict[str, Any], masks: MaskTexts) -> tuple[Table, tuple[Category, ...], tuple[Finding, ...]]:
    """Turn a parsed COCO file into a `Table`, its classes sorted by id, and what was noticed on the way.

    Raises `source.BrokenMaskError` where `masks` holds something else than masks.
    """
    findings = Findings()
    categories = _read_categories(content["categories"], findings)
    images = _read_images(content["images"], findings)
    table = _read_annotations(content["annotations"], images, categories, masks, findings)
    return table, categories, findings.as_tuple()


@dataclass(frozen=True, slots=True)
class _Images:
    ids: Ints
    sizes: Ints
    names: Texts


def _objects(entries: Sequence[Any], kind: str, findings: Findings) -> list[dict[str, Any]]:
    if set(map(type, entries)) <= {dict}:
        return list(entries)
    odd = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    findings.add("refuse", f"{kind}-not-an-object", f"{kind} entries that are no JSON objects, by position", odd)
    return [entry for entry in entries if isinstance(entry, dict)]


def _repeated(values: Ints) -> list[int]:
    unique, counts = np.unique(values, return_counts=True)
    return [int(value) for value in unique[counts > 1]]


def _read_categories(entries: Sequence[Any], findings: Findings) -> tuple[Category, ...]:
    objects = _objects(entries, "category", findings)
    ids, good = columns.whole_numbers([entry.get("id") for entry in objects])
    findings.add(
        "refuse",
        "category-id-invalid",
        "categories whose id is no whole number",
        [repr(objects[row].get("id"))[:40] for row in np.flatnonzero(~good)],
    )
    names = [entry.get("name") for entry in objects]
    texts = [str(name).strip() if isinstance(name, (str, int, float)) else "" for name in names]
    nameless = [int(number) for number, text, fine in zip(ids, texts, good, strict=True) if fine and not text]
    findings.add("refuse", "category-name-missing", "categories without a name, by id", nameless)
    categories = [
        Category(int(number), text) for number, text, fine in zip(ids, texts, good, strict=True) if fine and text
    ]
    findings.add(
        "refuse",
        "category-id-twice",
        "category ids used more than once",
        _repeated(np.array([category.id for category in categories], np.int64)),
    )
    spelled = [category.name for category in categories]
    findings.add(
        "refuse",
        "category-name-twice",
        "category names used more than once, while classes are matched by name",
        sorted({name for name in spelled if spelled.count(name) > 1}),
    )
    if not categories and not findings.as_tuple():
        findings.add("refuse", "no-categories", "empty lists", ["categories"])
    return tuple(sorted(categories, key=lambda category: category.id))


def _read_images(entries: Sequence[Any], findings: Findings) -> _Images:
    objects = _objects(entries, "image", findings)
    raw = [entry.get("id") for entry in objects]
    ids, good = columns.whole_numbers(raw)
    findings.add(
        "refuse",
        "image-id-invalid",
        "images whose id is no whole number",
        [repr(raw[row])[:40] for row in np.flatnonzero(~good)],
    )
    objects = [entry for entry, fine in zip(objects, good.tolist(), strict=True) if fine]
    ids = ids[good]
    _note_text_ids(
        [value for value, fine in zip(raw, good.tolist(), strict=True) if fine],
        "image ids",
        "image-id-is-text",
        findings,
    )
    findings.add("refuse", "image-id-twice", "image ids used more than once", _repeated(ids))
    names = [entry.get("file_name") for entry in objects]
    named = np.fromiter((isinstance(name, str) and bool(name.strip()) for name in names), bool, len(names))
    findings.add("refuse", "file-name-missing", "images without a file_name, by id", ids[~named])
    texts = [name if isinstance(name, str) else "" for name in names]
    _refuse_repeated_names(texts, ids, findings)
    sizes = _read_sizes(objects, ids, findings)
    if not len(ids):
        findings.add("refuse", "no-images", "empty lists", ["images"])
    return _Images(ids, sizes, Texts.pack([text.encode("utf-8", "surrogatepass") for text in texts]))


def _note_text_ids(values: Sequence[Any], name: str, code: str, findings: Findings) -> None:
    if str not in set(map(type, values)):
        return
    texts = [value for value in values if isinstance(value, str)]
    findings.add("accept", code, f"{name} written as text, read as numbers", texts)


def _refuse_repeated_names(names: Sequence[str], ids: Ints, findings: Findings) -> None:
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    twice = [
        f"{name} of images {seen[name]} and {number}"
        for name, number in zip(names, ids.tolist(), strict=True)
        if name and seen.setdefault(name, number) != number
    ]
    findings.add("refuse", "file-name-twice", "file names used by more than one image", twice)


def _read_sizes(objects: list[dict[str, Any]], ids: Ints, findings: Findings) -> Ints:
    sizes = np.zeros((len(objects), 2), np.int64)
    bad = np.zeros(len(objects), bool)
    for side, key in enumerate(("width", "height")):
        values = [entry.get(key) for entry in objects]
        numbers, good = columns.whole_numbers(values)
        absent = columns.absent(values)
        bad |= ~absent & (~good | (numbers <= 0) | (numbers > 1_000_000))
        sizes[:, side] = numbers
    findings.add("refuse", "image-size-invalid", "images with a width or height that is no size, by id", ids[bad])
    sizes[bad | (sizes == 0).any(axis=1)] = 0
    return sizes


def _read_annotations(
    entries: Sequence[Any],
    images: _Images,
    categories: tuple[Category, ...],
    mask_texts: MaskTexts,
    findings: Findings,
) -> Table:
    objects = _objects(entries, "annotation", findings)
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
    filled[missing] = np.arange(len(missing)) + max(int(ids[good].max(initial=0)), 0) + 1
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
    findings.add("refuse", "annotation-id-twice", "annotation ids used more than once", _repeated(ids[good]))
    ids = _filled_in(ids, good)
    findings.add(
        "accept",
        "annotation-id-missing",
        "annotations without an id, numbered from this one on",
        ids[absent][:1],
        count=int(absent.sum()),
    )
    return ids


def _image_rows(objects: list[dict[str, Any]], ids: Ints, images: _Images, findings: Findings) -> tuple[Ints, Bools]:
    raw = [entry.get("image_id") for entry in objects]
    numbers, good = columns.whole_numbers(raw)
    _note_text_ids(raw, "image ids of annotations", "annotation-image-id-is-text", findings)
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
    images: _Images,
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
    finite = np.isfinite(boxes).all(axis=1)
    negative = good & finite & (boxes[:, 2:] < 0).any(axis=1)
    for code, bad, clause in (
        ("box-missing", absent, "without a bbox"),
        ("box-invalid", ~absent & ~good, "whose bbox is not four numbers [x, y, width, height]"),
        ("box-not-finite", good & ~finite, "whose bbox has NaN or infinity in it"),
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
    wrong = ~absent & (~np.isfinite(areas) | (areas < 0))
    findings.add("accept", "area-missing", "annotations without area, taken from the box", ids[absent])
    findings.add(
        "mend",
        "area-invalid",
        "annotations with an area that is no size, computed anew in training",
        ids[wrong],
    )
    areas[~np.isfinite(areas)] = np.nan
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
