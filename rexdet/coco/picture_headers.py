"""Size and EXIF orientation of image files from their first bytes, for many thousands of files in seconds.

JPEG and PNG are read here (the JPEG marker segments of ITU-T T.81 annex B, the PNG IHDR chunk, EXIF 2.3's orientation
tag 0x0112); every other kind is left to Pillow, which also decides about files that this reader does not follow.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

_CHUNK = 128
_WAIT = 100e-6
"""Seconds a file from which the disk, and not the processor, is what is waited for."""

_FIRST_READ = 2048
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
UNREADABLE = 0
"""The width and height of a file whose header cannot be read."""


def read_header(path: str) -> tuple[int, int, int]:
    """(width, height, EXIF orientation 1 to 8) as the pixels are stored; (0, 0, 1) where no image can be recognised."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return UNREADABLE, UNREADABLE, 1
    try:
        start = os.read(handle, _FIRST_READ)
        if start[:2] == b"\xff\xd8":
            facts = _read_jpeg(handle, start)
            if facts is not None:
                return facts
        elif start[:8] == b"\x89PNG\r\n\x1a\n" and start[12:16] == b"IHDR" and b"eXIf" not in start:
            width, height = struct.unpack(">II", start[16:24])
            return (width, height, 1) if width and height else (UNREADABLE, UNREADABLE, 1)
    except (OSError, struct.error, IndexError):
        pass
    finally:
        os.close(handle)
    return _read_with_pillow(path)


def _read_jpeg(handle: int, start: bytes) -> tuple[int, int, int] | None:
    position, orientation = 2, 1
    for _ in range(500):
        segment = _bytes_at(handle, start, position, 10)
        if len(segment) < 10 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:
            position += 1
            continue
        length = (segment[2] << 8) | segment[3]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", segment[5:9])
            # A height of 0 is told later in the file, by a DNL segment: a case for Pillow.
            return (width, height, orientation) if width and height else None
        if marker == 0xE1 and segment[4:8] == b"Exif":
            orientation = _orientation(_bytes_at(handle, start, position + 10, min(length - 8, 4096)))
        if marker in (0xD9, 0xDA) or length < 2:
            return None
        position += 2 + length
    return None


def _bytes_at(handle: int, start: bytes, position: int, length: int) -> bytes:
    if position + length <= len(start):
        return start[position : position + length]
    return os.pread(handle, length, position)


def _orientation(tiff: bytes) -> int:
    """The orientation in a TIFF block of EXIF data; 1 where there is none."""
    if tiff[:2] not in (b"II", b"MM") or len(tiff) < 10:
        return 1
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == 0x0112 and kind == 3:
            return value if 1 <= value <= 8 else 1
    return 1


def _read_with_pillow(path: str) -> tuple[int, int, int]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            orientation = int(picture.getexif().get(0x0112, 1) or 1)
            return picture.width, picture.height, orientation if 1 <= orientation <= 8 else 1
    except Exception:
        # Pillow's readers raise many kinds of errors on broken files; each of them means the same thing here, and
        # the file is reported by its name.
        return UNREADABLE, UNREADABLE, 1


def read_headers(root: Path, paths: Sequence[str]) -> npt.NDArray[np.int32]:
    """int32 (I, 3) of width, height and orientation of the files `paths` below `root`; zeros where a path is "".

    Where the disk lets a file wait, threads wait for it side by side; what lies in memory is read faster by one. A
    progress bar comes up when it takes longer than five seconds.
    """
    facts = np.zeros((len(paths), 3), np.int32)
    prefix = f"{root}{os.sep}"

    def fill(start: int) -> int:
        rows = range(start, min(start + _CHUNK, len(paths)))
        for row in rows:
            if paths[row]:
                facts[row] = read_header(prefix + paths[row])
        return len(rows)

    from tqdm import tqdm

    with tqdm(total=len(paths), desc="image headers", unit="file", delay=5.0, disable=None) as bar:
        start = 0
        waiting = False
        while start < len(paths) and not waiting:
            begun = time.perf_counter()
            bar.update(fill(start))
            start += _CHUNK
            waiting = time.perf_counter() - begun > _CHUNK * _WAIT
        if start < len(paths):
            with ThreadPoolExecutor(max_workers=8) as pool:
                for done in pool.map(fill, range(start, len(paths), _CHUNK)):
                    bar.update(done)
    return facts


def folder_state(root: Path, folders: Sequence[str]) -> dict[str, int] | None:
    """When the content of each folder last changed, in nanoseconds; None when that cannot be told for certain.

    A folder that changed within the clock's grain of now may change again without its time moving.
    """
    state: dict[str, int] = {}
    for folder in folders:
        try:
            changed = os.stat(root / folder).st_mtime_ns
        except OSError:
            return None
        if time.time_ns() - changed < 2_000_000_000:
            return None
        state[folder] = changed
    return state
