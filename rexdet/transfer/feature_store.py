"""Features on the disk: written whole or not at all, part by part, so that a stopped extraction goes on.

<folder>/<key>.npy                 all of them, (N, D) float32, opened memory-mapped
<folder>/<key>.parts/00007.npy     while it runs: those of a block of images, by whichever process computed them
<folder>/<key>.lock                held by the run that computes them; another that needs the same waits for it
"""

from __future__ import annotations

import io
import logging
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from rexdet.disk import refusals_told
from rexdet.files import atomic_path, write_bytes_atomically

logger = logging.getLogger(__name__)
Features = NDArray[np.float32]


class FeatureStore:
    """The features of one key in one folder.

    length: images. block: images a part. Every writing method raises UserError where the disk is full or the folder
    cannot be written to; what was there before stays as it was.
    """

    def __init__(self, folder: Path, key: str, length: int, block: int) -> None:
        self.folder, self.length, self.block = folder, length, block
        self.path = folder / f"{key}.npy"
        self.parts = folder / f"{key}.parts"

    def __len__(self) -> int:
        """How many parts there are to be."""
        return -(-self.length // self.block)

    def places(self, part: int) -> range:
        """The images of a part."""
        return range(part * self.block, min((part + 1) * self.block, self.length))

    def load(self) -> Features | None:
        """All features, memory-mapped (what is written into them stays in this process); None where they are not there.

        A file that is no array of this length is taken for none, and said so: it is computed anew.
        """
        return _open(self.path, self.length)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the key: two runs that need the same features compute them once, and take no part from each other."""
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"{self.path.stem}.lock")
            try:
                lock.acquire(timeout=1)
            except Timeout:
                logger.info("%s: another run computes these features; this one waits for it", self.path)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def has(self, part: int) -> bool:
        """This part is on the disk, whole."""
        return _open(self._part(part), len(self.places(part))) is not None

    def save(self, part: int, features: Features) -> None:
        """Keep the features of a part: (images of it, D) float32."""
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(features, dtype=np.float32), allow_pickle=False)
        with _told(self.folder):
            write_bytes_atomically(self._part(part), stream.getvalue())

    def join(self) -> Features:
        """Put all parts into one file, remove them, and open it."""
        # Written, not mapped: a full disk is an error here, and would be the end of the process there.
        with _told(self.folder), atomic_path(self.path) as temporary, open(temporary, "wb") as stream:
            for part in range(len(self)):
                features = _open(self._part(part), len(self.places(part)))
                if features is None:
                    raise RuntimeError(f"{self._part(part)} has gone while it was needed")
                if part == 0:
                    shape = (self.length, features.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(np.ascontiguousarray(features, dtype="<f4").tobytes())
            stream.flush()
        shutil.rmtree(self.parts, ignore_errors=True)
        joined = self.load()
        if joined is None:
            raise RuntimeError(f"{self.path} cannot be read back")
        return joined

    def _part(self, part: int) -> Path:
        return self.parts / f"{part:05d}.npy"


def _open(path: Path, length: int) -> Features | None:
    try:
        features = np.load(path, mmap_mode="c", allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s: cannot be read (%s); it is computed anew", path, error)
        return None
    if not isinstance(features, np.ndarray) or features.dtype != np.float32 or features.ndim != 2:
        logger.warning("%s: holds no features; it is computed anew", path)
        return None
    if len(features) != length:
        logger.warning("%s: has %d rows for %d images; it is computed anew", path, len(features), length)
        return None
    return cast(Features, features)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    fix = "make room, or name another folder (REXDET_CACHE); what was computed so far is kept"
    with refusals_told("the features cannot be kept there", folder, fix):
        yield
