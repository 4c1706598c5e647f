"""Columns of annotation files kept between runs as memory-mapped .npy files, shared by all processes that open them.

    <cache>/v2/files/<hash of the path>.json   size and times of a file when it was read, and its SHA-256
    <cache>/v2/tables/<SHA-256 of the file>/   the file's columns; two copies of one file share them
    <cache>/v2/views/<hash>/                   the same beside one folder of images, for one purpose

A file whose size, times and inode are as recorded is taken for the file that was read; any other is read and hashed
again, and finds its columns by its content. A file that changed within the clock's grain of the moment it was read is
always hashed again. Entries are written beside their place and renamed, so that several processes may work at once;
an entry that is broken (missing or short files, wrong checksums) is thrown away and made anew. The checksum of the mask
text, by far the largest column, is not verified on opening; each mask is parsed when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rexdet.files import write_json_atomically

FORMAT = "v2"
KEPT_ENTRIES = 24
"""How many tables and how many views stay; those longest unused go first."""

_UNVERIFIED = frozenset({"mask_data"})

Arrays = dict[str, npt.NDArray[Any]]


def default_folder() -> Path:
    """REXDET_CACHE/annotations where that is set, else ~/.cache/rexdet/annotations (XDG_CACHE_HOME is respected)."""
    own = os.environ.get("REXDET_CACHE", "").strip()
    if own:
        return Path(own).expanduser() / "annotations"
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "rexdet" / "annotations"


class IndexCache:
    """One cache folder. Every failure to write is a warning, never an error: the cache only saves time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FORMAT

    def known_digest(self, path: Path) -> str | None:
        """The SHA-256 recorded for `path`, or None where the file has changed since, may have, or was never read."""
        try:
            record = json.loads(self._record_of(path).read_text())
            if not isinstance(record, dict) or record.get("state") != _state(os.stat(path)):
                return None
            return str(record["sha256"]) if record["settled"] else None
        except (OSError, ValueError, KeyError):
            return None

    def remember_digest(self, path: Path, state: os.stat_result, digest: str, opened_ns: int) -> None:
        """Record that `path`, in the state it had when it was opened at `opened_ns`, has this SHA-256."""
        # File systems that count in whole seconds need a longer look than those that count in nanoseconds.
        grain = 2_000_000_000 if state.st_mtime_ns % 1_000_000_000 == 0 else 50_000_000
        settled = opened_ns - max(state.st_mtime_ns, state.st_ctime_ns) > grain
        record = {"path": str(path), "state": _state(state), "settled": settled, "sha256": digest}
        try:
            write_json_atomically(self._record_of(path), record)
        except OSError as error:
            _warn(self.folder, error)

    def _record_of(self, path: Path) -> Path:
        return self.folder / "files" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json"

    def place(self, kind: str, key: str) -> Path:
        """Where the entry `key` of `kind` ("tables" or "views") lies, whether or not it is there."""
        return self.folder / kind / key

    def store(self, kind: str, key: str, arrays: Arrays, facts: dict[str, Any]) -> Path | None:
        """Write an entry, whole or not at all; returns its place, or None where the cache cannot be written."""
        place = self.place(kind, key)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".partial-"))
            try:
                _write_entry(temporary, arrays, facts)
                _put_in_place(temporary, place)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            _prune(place.parent, place)
        except OSError as error:
            _warn(self.folder, error)
            return None
        return place


def load_entry(place: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """The arrays (memory-mapped, read-only) and facts of an entry; None where it is absent or broken (then removed)."""
    if not place.is_dir():
        return None
    looked_at = _inode(place)
    try:
        facts = json.loads((place / "facts.json").read_text())
        arrays = {name: _load_array(place, name, about) for name, about in facts.pop("arrays").items()}
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Another process may have put its own there meanwhile: then that is why files were missing, and it stays.
        if _inode(place) == looked_at:
            shutil.rmtree(place, ignore_errors=True)
        return None
    return arrays, facts


def _inode(place: Path) -> int | None:
    """Which folder lies there; None for none."""
    try:
        return place.stat().st_ino
    except OSError:
        return None


def _load_array(place: Path, name: str, about: dict[str, Any]) -> npt.NDArray[Any]:
    shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
    if 0 in shape:
        return np.zeros(shape, dtype)
    array = np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is not as it was written")
    if name not in _UNVERIFIED and _checksum(array) != about["crc32"]:
        raise ValueError(f"{name} has another checksum than when it was written")
    return array


def _write_entry(folder: Path, arrays: Arrays, facts: dict[str, Any]) -> None:
    about = {}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
        crc32 = None if name in _UNVERIFIED else _checksum(array)
        about[name] = {"shape": list(array.shape), "dtype": array.dtype.str, "crc32": crc32}
    (folder / "facts.json").write_text(json.dumps({**facts, "arrays": about}))


def _checksum(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(array.data.cast("B")) if array.size else 0


def _put_in_place(temporary: Path, place: Path) -> None:
    temporary.chmod(0o755)
    try:
        os.rename(temporary, place)
    except OSError:
        # A folder with content is there: another process was faster with the same entry, or this one is newer.
        doomed = Path(tempfile.mkdtemp(dir=place.parent, prefix=".partial-"))
        try:
            os.rename(place, doomed / "old")
            os.rename(temporary, place)
        finally:
            # Also where a third process took the entry away in between.
            shutil.rmtree(doomed, ignore_errors=True)


def _prune(folder: Path, newest: Path) -> None:
    now = time.time()
    entries = []
    for entry in folder.iterdir():
        try:
            used = entry.stat().st_mtime
        except OSError:
            continue
        if entry.name.startswith(".partial-"):
            # What a killed process left behind; younger ones may be somebody's work.
            if now - used > 86_400:
                shutil.rmtree(entry, ignore_errors=True)
        elif entry != newest:
            entries.append((used, entry))
    for _, entry in sorted(entries, reverse=True)[KEPT_ENTRIES - 1 :]:
        shutil.rmtree(entry, ignore_errors=True)


def _state(state: os.stat_result) -> list[int]:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _warn(folder: Path, error: OSError) -> None:
    warnings.warn(
        f"the cache of annotation files in {folder} cannot be written ({error.strerror or error}); every run reads "
        "its annotation files anew. REXDET_CACHE names another folder",
        stacklevel=4,
    )
