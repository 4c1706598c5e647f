"""What a disk refuses, told in one line: it is full, or takes nothing at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rexdet.errors import UserError

REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
# torch and safetensors write by themselves, and say in their own words what the disk has told them.
_WRITERS = ("PytorchStreamWriter", "SafetensorError")


@contextmanager
def refusals_told(what: str, where: str | os.PathLike[str], fix: str) -> Iterator[None]:
    """Turn what a disk refuses into a UserError: "WHAT (No space left on device)". Any other error is let through."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise UserError(f"{what} ({error.strerror})", os.fspath(where), fix) from error
    except Exception as error:
        if type(error).__name__ not in _WRITERS and not any(writer in str(error) for writer in _WRITERS):
            raise
        raise UserError(f"{what} ({' '.join(str(error).split())[:120]})", os.fspath(where), fix) from error
