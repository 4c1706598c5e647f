"""Files that are either written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to; it takes the place of `path` when the block ends well.

    The data is on the disk before the name changes, so that a reader (or a machine that loses power) sees the old
    file or the new one, never a part. When the block raises, the temporary file is removed and `path` stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all.

    Bytes of a file's name that are no letters (surrogates in `text`) become backslash escapes, as in what is printed.
    """
    write_bytes_atomically(path, text.encode(errors="backslashreplace"))


def write_json_atomically(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Write `value` to `path` as JSON, whole or not at all. NaN and infinity are refused (they are not JSON)."""
    write_text_atomically(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def _umask() -> int:
    # Python has no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
