"""COCO annotation files: read, checked, mended, and indexed for many processes.

    dataset = read_annotations("instances_train2017.json", "train2017")
    dataset.raise_if_refused()
    dataset.image(0), dataset.annotations(0)

docs/data.md has the table of what is accepted, mended, skipped and refused.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rexdet.coco import index_cache, mend, schema, source
from rexdet.coco.dataset import Annotation, CocoDataset, ImageEntry
from rexdet.coco.findings import Finding, in_order
from rexdet.coco.index_cache import IndexCache
from rexdet.coco.mend import View
from rexdet.coco.picture_headers import folder_state, read_header
from rexdet.coco.schema import Category, Table

__all__ = ["Annotation", "Category", "CocoDataset", "Finding", "ImageEntry", "read_annotations"]

PURPOSES = ("train", "evaluate", "check")

SMALLEST_CACHED = 1_000_000
"""Bytes; a smaller annotation file is parsed in less time than a cache entry is worth."""


def read_annotations(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    purpose: str = "train",
    cache: str | os.PathLike[str] | bool | None = None,
) -> CocoDataset:
    """Open a COCO annotation file (JSON, or the same with gzip), with the folder of its images where there is one.

    purpose: "train" mends what can be mended; "evaluate" gives the ground truth as it stands, a missing area or
        iscrowd filled in; "check" mends as "train" does and looks at every image file anew.
    cache: the folder that keeps the columns of large files; None for `index_cache.default_folder()`, False for none.

    Every finding is in `.findings`, refusals too: call `.raise_if_refused()` before working with the data. Raises
    UserError for a file that cannot be read at all (absent, not JSON, no COCO instances file).
    """
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}: one of {', '.join(PURPOSES)}")
    path = Path(annotations)
    root = None if images is None else Path(images)
    store = _cache_for(path, cache)
    opened = _open_table(path, store)
    viewed = _open_view(opened, root, purpose, store)
    return CocoDataset(
        path,
        root,
        purpose,
        opened.fingerprint,
        opened.categories,
        _all_findings(path, opened.findings, viewed.findings),
        opened.table,
        viewed.view,
        (opened.place, viewed.place) if opened.place is not None and viewed.place is not None else None,
    )


def _cache_for(path: Path, cache: str | os.PathLike[str] | bool | None) -> IndexCache | None:
    if cache is False:
        return None
    try:
        if cache in (None, True) and path.stat().st_size < SMALLEST_CACHED:
            return None
    except OSError:
        # Reading the file says what is wrong with it.
        return None
    return IndexCache(index_cache.default_folder() if cache in (None, True) else Path(str(cache)))


@dataclass(frozen=True, slots=True)
class _OpenTable:
    """A table with what is known about it; `place` is its cache entry, None where it lives in memory alone."""

    table: Table
    categories: tuple[Category, ...]
    findings: tuple[Finding, ...]
    fingerprint: str
    place: Path | None


def _open_table(path: Path, store: IndexCache | None) -> _OpenTable:
    if store is None:
        data, _ = source.read_bytes(path)
        return _parse_table(data, path, source.digest(data), None)
    known = store.known_digest(path)
    cached = _cached_table(store, known) if known is not None else None
    if cached is not None:
        return cached
    opened = time.time_ns()
    data, state = source.read_bytes(path)
    fingerprint = source.digest(data)
    store.remember_digest(path, state, fingerprint, opened)
    return _cached_table(store, fingerprint) or _parse_table(data, path, fingerprint, store)


def _cached_table(store: IndexCache, fingerprint: str) -> _OpenTable | None:
    place = store.place("tables", fingerprint)
    entry = index_cache.load_entry(place)
    if entry is None:
        return None
    arrays, facts = entry
    categories = tuple(Category(number, name) for number, name in facts["categories"])
    return _OpenTable(Table(**arrays), categories, _findings_of(facts), fingerprint, place)


def _parse_table(data: bytes, path: Path, fingerprint: str, store: IndexCache | None) -> _OpenTable:
    collecting = gc.isenabled()
    # Millions of containers that are all alive: the collector would walk through them again and again for nothing.
    gc.disable()
    try:
        try:
            table, categories, findings = schema.read_table(*source.parse(data, path))
        except source.BrokenMaskError:
            table, categories, findings = schema.read_table(*source.parse(data, path, set_masks_aside=False))
    finally:
        if collecting:
            gc.enable()
    if store is not None:
        facts = {
            "categories": [[category.id, category.name] for category in categories],
            "findings": [finding.as_json() for finding in findings],
        }
        if store.store("tables", fingerprint, table.arrays(), facts) is not None:
            # The mapped columns take the place of those in memory, so that processes started from here share them.
            cached = _cached_table(store, fingerprint)
            if cached is not None:
                return cached
    return _OpenTable(table, categories, findings, fingerprint, None)


@dataclass(frozen=True, slots=True)
class _OpenView:
    view: View
    findings: tuple[Finding, ...]
    place: Path | None


def _open_view(opened: _OpenTable, root: Path | None, purpose: str, store: IndexCache | None) -> _OpenView:
    key = hashlib.sha256(
        "\0".join((opened.fingerprint, str(root.absolute()) if root else "", purpose)).encode(
            "utf-8", "surrogateescape"
        )
    ).hexdigest()[:32]
    if store is not None and purpose != "check":
        cached = _cached_view(store.place("views", key), root)
        if cached is not None:
            return cached
    view, findings, folders = mend.build_view(opened.table, opened.categories, root, purpose)
    if store is None or opened.place is None:
        return _OpenView(view, findings, None)
    facts = {
        "findings": [finding.as_json() for finding in findings],
        "folders": folder_state(root, folders) if root is not None else {},
    }
    place = store.store("views", key, view.arrays(), facts)
    return (_mapped_view(place) if place is not None else None) or _OpenView(view, findings, None)


def _cached_view(place: Path, root: Path | None) -> _OpenView | None:
    """The view kept at `place`, unless its images may have changed since: a folder's time moves with its entries."""
    try:
        facts = json.loads((place / "facts.json").read_text())
        folders = facts["folders"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if root is not None and (not folders or folder_state(root, list(folders)) != folders):
        return None
    if any(finding["code"] in _HEALED_OUTSIDE for finding in facts["findings"]):
        return None
    cached = _mapped_view(place)
    if cached is None or root is None:
        return cached
    # A file that is replaced in place leaves its folder's time alone: those that were unreadable are tried again.
    paths = cached.view.paths
    for row in np.flatnonzero(cached.view.unreadable).tolist():
        if read_header(str(root / os.fsdecode(paths[row])))[0]:
            return None
    return cached


_HEALED_OUTSIDE = frozenset({"image-missing", "image-ambiguous", "image-size-differs"})
"""Findings that somebody may mend without touching the folders that were looked at: such views are made anew."""


def _mapped_view(place: Path) -> _OpenView | None:
    entry = index_cache.load_entry(place)
    if entry is None:
        return None
    arrays, facts = entry
    return _OpenView(View(**arrays), _findings_of(facts), place)


def _findings_of(facts: dict[str, Any]) -> tuple[Finding, ...]:
    return tuple(Finding(**{**finding, "first": tuple(finding["first"])}) for finding in facts["findings"])


def reopen(
    path: Path, images_folder: Path | None, purpose: str, fingerprint: str, stored: tuple[Path, Path]
) -> CocoDataset:
    """Map a data set's cache entries again, in another process; read the file where they are gone."""
    table, view = index_cache.load_entry(stored[0]), _mapped_view(stored[1])
    if table is None or view is None:
        return read_annotations(path, images_folder, purpose=purpose)
    arrays, facts = table
    categories = tuple(Category(number, name) for number, name in facts["categories"])
    findings = _all_findings(path, _findings_of(facts), view.findings)
    return CocoDataset(
        path, images_folder, purpose, fingerprint, categories, findings, Table(**arrays), view.view, stored
    )


def _all_findings(path: Path, *parts: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return in_order(replace(finding, file=str(path)) for part in parts for finding in part)
