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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.coco import index_cache, mend, schema, segmentation, source
from rexdet.coco.findings import Finding, in_order
from rexdet.coco.index_cache import IndexCache
from rexdet.coco.mend import View
from rexdet.coco.picture_headers import folder_state, read_header
from rexdet.coco.schema import Category, Table
from rexdet.errors import UserError

__all__ = ["Annotation", "Category", "CocoDataset", "Finding", "ImageEntry", "read_annotations"]

PURPOSES = ("train", "evaluate", "check")

SMALLEST_CACHED = 1_000_000
"""Bytes; a smaller annotation file is parsed in less time than a cache entry is worth."""


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image of a data set.

    file_name: as the annotation file writes it. path: the file, None where it is missing or no folder was given.
    path_below: the same below the picture root, with "/"; empty where there is no file.
    width, height: px, of the picture as its boxes see it; 0 where neither the file nor the image says.
    """

    id: int
    file_name: str
    path: Path | None
    width: int
    height: int
    path_below: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object of an image.

    bbox: x, y, width, height in px. area: px². iscrowd: 0 or 1.
    segmentation: a list of polygons (flat lists of x and y), or a run-length code {"size": [height, width],
    "counts": list or str}; None without a mask.
    """

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int
    segmentation: segmentation.Segmentation


class CocoDataset(Sequence[ImageEntry]):
    """An annotation file beside its images: a sequence of `ImageEntry`, in file order.

    Everything is held in NumPy columns (memory-mapped from the cache for files of any size), so that worker processes
    share one copy. `read_annotations` makes it.
    """

    def __init__(
        self,
        path: Path,
        images_folder: Path | None,
        purpose: str,
        fingerprint: str,
        categories: tuple[Category, ...],
        findings: tuple[Finding, ...],
        table: Table,
        view: View,
        stored: tuple[Path, Path] | None = None,
    ) -> None:
        self.path = path
        """The annotation file."""
        self.images_folder = images_folder
        """The picture root; None where none was given."""
        self.purpose = purpose
        self.fingerprint = fingerprint
        """SHA-256 of the annotation file, hex."""
        self.categories = categories
        """Sorted by id."""
        self.findings = findings
        """Refusals first."""
        self._table = table
        self._view = view
        self._stored = stored

    def __len__(self) -> int:
        return len(self._table.image_ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.image(row) for row in range(*index.indices(len(self)))]
        return self.image(index)

    def __repr__(self) -> str:
        return (
            f"CocoDataset({str(self.path)!r}, images={len(self)}, annotations={self.annotation_count}, "
            f"classes={len(self.categories)}, purpose={self.purpose!r})"
        )

    def __reduce__(self) -> Any:
        # A worker that is started anew maps the same cache files instead of being sent a copy of them.
        if self._stored is None:
            return super().__reduce__()
        return _reopen, (self.path, self.images_folder, self.purpose, self.fingerprint, self._stored)

    def raise_if_refused(self) -> None:
        """Raise UserError with the first refusal, and how many more there are; nothing happens without one."""
        refused = [finding for finding in self.findings if finding.action == "refuse"]
        if not refused:
            return
        command = f"tools/check_data.py --annotations {self.path}"
        if self.images_folder is not None:
            command += f" --images {self.images_folder}"
        more = f"and {len(refused) - 1} more: {command} lists them" if len(refused) > 1 else f"{command} tells more"
        raise UserError(refused[0].message, str(self.path), more)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names, sorted by category id."""
        return tuple(category.name for category in self.categories)

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """int64 (I,), in file order."""
        return self._table.image_ids

    @property
    def image_sizes(self) -> npt.NDArray[np.int64]:
        """int64 (I, 2): width and height in px, 0 where unknown."""
        return self._view.image_sizes

    @property
    def turned(self) -> npt.NDArray[np.bool_]:
        """bool (I,): EXIF turns the stored pixels to the declared size."""
        return self._view.turned

    @property
    def unreadable(self) -> npt.NDArray[np.bool_]:
        """bool (I,): the file's first bytes are no image's. Damage further inside shows when it is decoded."""
        return self._view.unreadable

    @property
    def annotation_count(self) -> int:
        """How many annotations the images have together, after mending where the purpose mends."""
        return len(self._view.rows)

    @property
    def annotation_starts(self) -> npt.NDArray[np.int64]:
        """int64 (I + 1,): image i has the annotations starts[i] to starts[i + 1] of the columns below."""
        return self._view.starts

    @property
    def annotation_ids(self) -> npt.NDArray[np.int64]:
        """int64 (K,), grouped by image."""
        return self._table.annotation_ids[self._view.rows]

    @property
    def category_ids(self) -> npt.NDArray[np.int64]:
        """int64 (K,), of the annotations, grouped by image."""
        return self._table.category_ids[self._view.rows]

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """float64 (K, 4): x, y, width, height in px, grouped by image."""
        return self._view.boxes

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """float64 (K,), px², grouped by image."""
        return self._view.areas

    @property
    def crowd(self) -> npt.NDArray[np.bool_]:
        """bool (K,), grouped by image."""
        return self._table.crowd[self._view.rows]

    @property
    def mask_count(self) -> int:
        """How many annotations have a mask."""
        return int(self._has_mask().sum())

    @property
    def run_length_rows(self) -> npt.NDArray[np.int64]:
        """int64: which of the K annotations have a run-length code as mask."""
        forms = self._table.forms[self._view.rows]
        return np.flatnonzero((forms == segmentation.RUNS) | (forms == segmentation.RUN_STRING))

    def _has_mask(self) -> npt.NDArray[np.bool_]:
        forms = self._table.forms[self._view.rows]
        polygons = np.isin(forms, (segmentation.POLYGONS, segmentation.FLAT, segmentation.PAIRS))
        return np.where(polygons, self._table.whole_polygons[self._view.rows] > 0, forms != segmentation.NONE)

    def image(self, index: int) -> ImageEntry:
        """The image at `index`. Raises IndexError beyond the end."""
        row = self._row(index)
        below = self._view.paths[row].decode("utf-8", "surrogateescape")
        width, height = self._view.image_sizes[row].tolist()
        return ImageEntry(
            id=int(self._table.image_ids[row]),
            file_name=self._table.names[row].decode("utf-8", "surrogatepass"),
            path=self.images_folder / below if below and self.images_folder is not None else None,
            width=width,
            height=height,
            path_below=below,
        )

    def annotations(self, index: int, *, masks: bool = True) -> list[Annotation]:
        """The annotations of the image at `index`; masks=False leaves their segmentations undecoded (None)."""
        row = self._row(index)
        start, end = self._view.starts[row : row + 2].tolist()
        rows = self._view.rows[start:end]
        table = self._table
        return [
            Annotation(number, category, (box[0], box[1], box[2], box[3]), area, int(crowd), mask)
            for number, category, box, area, crowd, mask in zip(
                table.annotation_ids[rows].tolist(),
                table.category_ids[rows].tolist(),
                self._view.boxes[start:end].tolist(),
                self._view.areas[start:end].tolist(),
                table.crowd[rows].tolist(),
                [self._mask(int(number)) if masks else None for number in rows],
                strict=True,
            )
        ]

    def _row(self, index: int) -> int:
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        return row

    def _mask(self, row: int) -> segmentation.Segmentation:
        try:
            return self._table.mask(row, drop_short=self.purpose != "evaluate")
        except ValueError as error:
            place = self._stored[0] if self._stored else self.path
            raise UserError("the cached masks are broken", str(place), "delete this folder") from error

    def raise_if_masks_missing(self) -> None:
        """Raise UserError unless every annotation that is trained on has a mask. For work on masks, not on boxes."""
        table, rows = self._table, self._view.rows
        missing = np.flatnonzero(~self._has_mask() & ~table.crowd[rows])
        if len(missing):
            first = int(table.annotation_ids[rows[missing[0]]])
            raise UserError(
                f"{len(missing)} of {len(rows)} annotations have no mask (first: annotation {first})",
                str(self.path),
                "train a detector of boxes, or add segmentations",
            )

    def to_coco(self) -> dict[str, Any]:
        """The data set as a plain dict in COCO's form: what `image` and `annotations` give, nothing else."""
        images, annotations = [], []
        for index in range(len(self)):
            image = self.image(index)
            images.append({"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height})
            annotations += [
                {
                    "id": item.id,
                    "image_id": image.id,
                    "category_id": item.category_id,
                    "bbox": list(item.bbox),
                    "area": item.area,
                    "iscrowd": item.iscrowd,
                    "segmentation": item.segmentation if item.segmentation is not None else [],
                }
                for item in self.annotations(index)
            ]
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        return {"images": images, "annotations": annotations, "categories": categories}


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


def _reopen(
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
