"""From the parsed JSON of an annotation file to a table of NumPy columns, with findings for what does not fit.

Only the file itself is looked at here; what depends on the image files or on what the data is for is `mend`'s part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rexdet.coco import columns
from rexdet.coco.annotation_columns import read_annotation_columns
from rexdet.coco.columns import Texts
from rexdet.coco.entries import ImageColumns, note_text_ids, objects_of, repeated
from rexdet.coco.findings import Finding, Findings
from rexdet.coco.source import MaskTexts
from rexdet.coco.table import Category, Ints, Table

__all__ = ["Category", "Table", "read_table"]

_HALF_LETTER = re.compile("[\ud800-\udfff]")


def read_table(content: dict[str, Any], masks: MaskTexts) -> tuple[Table, tuple[Category, ...], tuple[Finding, ...]]:
    """Turn a parsed COCO file into a `Table`, its classes sorted by id, and what was noticed on the way.

    Raises `source.BrokenMaskError` where `masks` holds something else than masks.
    """
    findings = Findings()
    categories = _read_categories(content["categories"], findings)
    images = _read_images(content["images"], findings)
    table = read_annotation_columns(content["annotations"], images, categories, masks, findings)
    return table, categories, findings.as_tuple()


def _read_categories(entries: Sequence[Any], findings: Findings) -> tuple[Category, ...]:
    objects = objects_of(entries, "category", findings)
    ids, good = columns.whole_numbers([entry.get("id") for entry in objects])
    findings.add(
        "refuse",
        "category-id-invalid",
        "categories whose id is no whole number",
        [repr(objects[row].get("id"))[:40] for row in np.flatnonzero(~good)],
    )
    names = [entry.get("name") for entry in objects]
    texts = list(map(_class_name, names))
    nameless = [int(number) for number, text, fine in zip(ids, texts, good, strict=True) if fine and not text]
    findings.add("refuse", "category-name-missing", "categories without a name that is text, by id", nameless)
    categories = [
        Category(int(number), text) for number, text, fine in zip(ids, texts, good, strict=True) if fine and text
    ]
    findings.add(
        "refuse",
        "category-id-twice",
        "category ids used more than once",
        repeated(np.array([category.id for category in categories], np.int64)),
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


def _class_name(name: Any) -> str:
    """The name of a class; "" for what is none, half a letter (a lone "\\ud800") included: no file takes that."""
    text = str(name).strip() if isinstance(name, (str, int, float)) else ""
    return "" if _HALF_LETTER.search(text) else text


def _read_images(entries: Sequence[Any], findings: Findings) -> ImageColumns:
    objects = objects_of(entries, "image", findings)
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
    note_text_ids(
        [value for value, fine in zip(raw, good.tolist(), strict=True) if fine],
        "image ids",
        "image-id-is-text",
        findings,
    )
    findings.add("refuse", "image-id-twice", "image ids used more than once", repeated(ids))
    names = [entry.get("file_name") for entry in objects]
    named = np.fromiter((isinstance(name, str) and bool(name.strip()) for name in names), bool, len(names))
    findings.add("refuse", "file-name-missing", "images without a file_name, by id", ids[~named])
    texts = [name if isinstance(name, str) else "" for name in names]
    _refuse_repeated_names(texts, ids, findings)
    sizes = _read_sizes(objects, ids, findings)
    if not len(ids):
        findings.add("refuse", "no-images", "empty lists", ["images"])
    return ImageColumns(ids, sizes, Texts.pack([text.encode("utf-8", "surrogatepass") for text in texts]))


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
        bad |= ~absent & (~good | (numbers <= 0) | (numbers > columns.LARGEST_PICTURE))
        sizes[:, side] = numbers
    findings.add("refuse", "image-size-invalid", "images with a width or height that is no size, by id", ids[bad])
    sizes[bad | (sizes == 0).any(axis=1)] = 0
    return sizes
