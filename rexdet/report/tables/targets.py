"""Whether files can be written where they are asked for: known before minutes of computing, not after."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from rexdet.errors import UserError
from rexdet.report.records.reading import shown

# What a file that is written whole is called until it takes its place.
_TEMPORARY = ".{name}.12345678.partial"


def named_folder(name: str, option: str) -> Path:
    """The folder of this name. Raises UserError for an empty one: what a script has of a variable that it never set, by
    which all files would lie where it runs. option: what named it.
    """
    if not name:
        raise UserError(f"{option} is empty", fix='name a folder, "." for this one')
    return Path(name)


def check_file(path: Path, option: str) -> None:
    """Raise UserError where no file can be written at `path`; option: what named it. Nothing is made."""
    where = f"{option} {shown(path)}"
    found = _look(path, where)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise UserError("is a folder, and this writes a file", where, "name a file")
    if found is not None and not stat.S_ISREG(found.st_mode):
        # It would be replaced by a file.
        raise UserError("is no regular file", where, "name a file")
    _look(path.with_name(_TEMPORARY.format(name=path.name)), where)
    _check_folder(path.parent, where)


def check_folder(path: Path, option: str) -> None:
    """Raise UserError where no folder can be made, or written to, at `path`; option: what named it. Nothing is made."""
    where = f"{option} {shown(path)}"
    found = _look(path, where)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise UserError("is a file, and this writes into a folder", where, "name a folder")
    _check_folder(path, where)


def _check_folder(path: Path, where: str) -> None:
    """The folder, or the nearest above that exists, must be one that may be written to."""
    for folder in (path, *path.absolute().parents):
        found = _look(folder, where)
        if found is None:
            continue
        if not stat.S_ISDIR(found.st_mode):
            raise UserError(f"{folder} is a file, and nothing lies below one", where)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"the folder {folder} may not be written to", where)
        _try(folder, where)
        return


def _try(folder: Path, where: str) -> None:
    """Open a file that has no name, or loses it at once: permissions say nothing about what is no disk, as /proc."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"no file can be made in {folder} ({error.strerror or error})", where) from None


def _look(path: Path, where: str) -> os.stat_result | None:
    """What is there, None where nothing is."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where) from None
