"""Which file of a folder each image entry means, never one outside that folder.

A file_name is a path below the picture root. What exporters write instead (Windows separators, absolute paths, paths
that climb out, names of another machine's folders, another case) is looked up by its base name inside the root, and
counts as mended. Names are judged as text: a symbolic link that lies inside the root is the user's own doing.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rexdet.errors import UserError

EXACT, BY_BASE_NAME, MISSING, AMBIGUOUS = range(4)


@dataclass(frozen=True, slots=True)
class Located:
    """Where image entries lie: `paths` relative to the root with "/" ("" if nowhere), `how` uint8 (I,) of the above.

    folders: every folder that holds one of the files, relative to the root.
    """

    paths: list[str]
    how: npt.NDArray[np.uint8]
    folders: tuple[str, ...]


def require_folder(root: Path) -> None:
    """Raise UserError unless `root` is a folder that can be read."""
    if not root.exists():
        raise UserError("there is no such folder of images", str(root))
    if not root.is_dir():
        raise UserError("is not a folder of images", str(root))
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"the folder of images cannot be read ({error.strerror})", str(root)) from error


def locate(root: Path, names: Sequence[str]) -> Located:
    """Find the file of each of `names` below `root`. Raises UserError where the root is no readable folder."""
    require_folder(root)
    listings: dict[str, set[str]] = {}
    paths: list[str] = []
    how = np.zeros(len(names), np.uint8)
    unresolved: list[int] = []
    for row, name in enumerate(names):
        path = _below(root, name)
        folder, base = posixpath.split(path)
        if path and folder not in listings:
            listings[folder] = _files_in(root / folder)
        if path and base in listings[folder]:
            paths.append(path)
        else:
            paths.append("")
            unresolved.append(row)
    if unresolved:
        _locate_by_base_name(root, names, unresolved, paths, how)
    folders = {posixpath.dirname(path) for path in paths if path}
    return Located(paths, how, tuple(sorted(folders)))


def _below(root: Path, name: str) -> str:
    """`name` as a normal path relative to `root`, "" where it points outside (judged as text)."""
    if os.path.isabs(name):
        try:
            name = Path(name).relative_to(root.absolute()).as_posix()
        except ValueError:
            return ""
    path = posixpath.normpath(name) if name else ""
    if path in ("", ".", "..") or path.startswith("../") or "\0" in path:
        return ""
    # A name that climbs and comes back (a/../../root/b) has been normalised to one that climbs; what is left inside
    # may still cross a link with "..", so that such names are only taken by their base name.
    return "" if ".." in name.split("/") else path


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except OSError:
        # No such folder, or none that may be read: its names are looked for elsewhere, or reported missing.
        return set()


def _locate_by_base_name(
    root: Path, names: Sequence[str], rows: list[int], paths: list[str], how: npt.NDArray[np.uint8]
) -> None:
    exact: dict[str, list[str]] = {}
    any_case: dict[str, list[str]] = {}
    for folder, _, files in os.walk(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for file in files:
            path = file if relative == "." else f"{relative}/{file}"
            exact.setdefault(file, []).append(path)
            any_case.setdefault(file.lower(), []).append(path)
    for row in rows:
        base = names[row].replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        found = exact.get(base) or any_case.get(base.lower()) or []
        if len(found) == 1:
            paths[row], how[row] = found[0], BY_BASE_NAME
        else:
            how[row] = AMBIGUOUS if found else MISSING
