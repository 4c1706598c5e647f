"""Reads every image of a split once: its hash, and whether it can be decoded. What was found is kept for the next run.

    <cache>/images/v1/<hash of the folder and the split>.json    of each file its size, times, SHA-256 and damage

A file whose size and times are as recorded is taken for the file that was read. One that changed within two seconds of
being read is read again next time: file systems that count in whole seconds could not tell a later change.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.transfer.images import DAMAGED, ArrayImage, ImageFile, StoredImage, damage

_SETTLED_NS = 2_000_000_000
_Known = dict[str, list[int | str | None]]
_Stamp = list[int] | None


@dataclass(frozen=True)
class Scanned:
    """digest: SHA-256 of the bytes, hexadecimal, "" where they cannot be read. problem: None, or what is wrong."""

    digest: str
    problem: str | None = None


def cache_folder(kind: str) -> Path:
    """REXDET_CACHE/KIND where that is set, else ~/.cache/rexdet/KIND (XDG_CACHE_HOME is respected)."""
    own = os.environ.get("REXDET_CACHE", "").strip()
    if own:
        return Path(own).expanduser() / kind
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "rexdet" / kind


def scan(files: Sequence[ImageFile], folder: str, split: str, *, progress: bool = False) -> list[Scanned]:
    """Hash and decode each image; those that are known from an earlier run are only looked at from outside.

    folder, split: under which the findings are kept. Raises nothing for a damaged file: it is told in its result.
    """
    key = hashlib.sha256(f"{folder}\n{split}".encode()).hexdigest()[:32]
    place = cache_folder("images") / "v1" / f"{key}.json"
    known = _load(place)
    results: list[Scanned | None] = [None] * len(files)
    # Images of another listing of the same folder (another fold) stay known.
    kept = dict(known)
    todo: list[tuple[int, _Stamp]] = []
    for index, file in enumerate(files):
        stamp = _stamp(file)
        record = known.get(file.name)
        if isinstance(stamp, Scanned):
            results[index] = stamp
        elif record is not None and record[:3] == stamp:
            results[index] = Scanned(str(record[3]), None if record[4] is None else str(record[4]))
        else:
            todo.append((index, stamp))
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(todo), desc=f"checking {split}", unit="image", disable=not progress, leave=False) as bar,
    ):
        started = time.time_ns()
        for (index, stamp), found in zip(todo, pool.map(lambda one: _read(files[one[0]]), todo), strict=True):
            results[index] = found
            # What could not even be read may be readable in a minute: a network's disk, a right that is given.
            if found.digest and stamp is not None and started - max(stamp[1:]) > _SETTLED_NS:
                kept[files[index].name] = [*stamp, found.digest, found.problem]
            bar.update()
    if kept != known:
        _save(place, folder, split, kept)
    return [found for found in results if found is not None]


def _stamp(file: ImageFile) -> _Stamp | Scanned:
    """Size and times of an image's file; None where it has none of its own; the finding where there is no such file."""
    if not isinstance(file, StoredImage):
        return None
    try:
        state = os.stat(file.location)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return Scanned("", "is missing" if missing else f"cannot be read ({error.strerror or error})")
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _read(file: ImageFile) -> Scanned:
    if isinstance(file, ArrayImage):
        return Scanned(hashlib.sha256(file.read()).hexdigest())
    try:
        data = file.read()
    except UserError as error:
        return Scanned("", error.what)
    return Scanned(hashlib.sha256(data).hexdigest(), _problem(data))


def _problem(data: bytes) -> str | None:
    """What is wrong with the bytes as an image. A JPEG is decoded to an eighth of its size, which reads all of it."""
    try:
        with Image.open(BytesIO(data)) as opened:
            opened.draft("RGB", (max(1, opened.width // 8), max(1, opened.height // 8)))
            opened.convert("RGB")
    except DAMAGED as error:
        return damage(error)
    return None


def _load(place: Path) -> _Known:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 5}


def _save(place: Path, folder: str, split: str, kept: _Known) -> None:
    try:
        write_json_atomically(place, {"folder": folder, "split": split, "files": kept}, indent=None)
    except OSError as error:
        warnings.warn(
            f"what was found of the images cannot be kept in {place.parent} ({error.strerror or error}); every run "
            "reads them anew. REXDET_CACHE names another folder",
            stacklevel=2,
        )
