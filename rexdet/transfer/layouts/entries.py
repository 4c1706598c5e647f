"""What the readers of layouts give, and how they read lists: text, JSON, MATLAB files. No picture is opened here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from rexdet.errors import UserError
from rexdet.transfer.images import ImageFile


@dataclass(frozen=True)
class Entries:
    """A split as its list has it: images, the name of each one's class, and all classes in the official order."""

    files: tuple[ImageFile, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def key(self) -> str:
        """SHA-256 over every image's class and name, hexadecimal; no image is read."""
        lines = (f"{label}\t{file.name}" for label, file in zip(self.labels, self.files, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Layout:
    """How a data set lies on the disk.

    folders: names that its folder goes by below the data root, the first as torchvision has it. train, test: what must
    lie in there for the split to be read ("a|b": either). read: gives the entries of a split ("train", "val", "test")
    of the set's folder; called for "test" only when the seal opens. md5: of official files, hexadecimal, by the split
    ("train", "test") with which they are checked. hints: of a missing file, what people have in its place.
    is_drawn: the test split is what is left of one list, so that its length is known before it is opened.
    hash_first: hashes are checked before anything is read, not after the counts.
    """

    folders: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Callable[[Path, str], Entries]
    md5: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    is_drawn: bool = False
    hash_first: bool = False

    def places(self, root: Path) -> list[Path]:
        """Where the set may lie below the data root; the root itself first."""
        return [root, *(root / name for name in self.folders)]

    def missing(self, place: Path, split: str) -> str | None:
        """The first thing that the split needs and that is not there; nothing is read."""
        needed = self.test if split == "test" else self.train
        return next((name for name in needed if not any((place / one).exists() for one in name.split("|"))), None)

    def hint(self, missing: str) -> str:
        """What there is to say of a missing file, in parentheses."""
        return f" ({self.hints[missing]})" if missing in self.hints else ""

    def nearest(self, root: Path) -> Path:
        """The folder that holds most of what it must, or that is named as the set's, for messages."""
        places = self.places(root)
        scores = [(sum((place / name).exists() for name in self.train), place.is_dir()) for place in places[1:]]
        return max(zip(scores, places[1:], strict=True), key=lambda pair: pair[0])[1] if scores else root


def read_lines(path: Path) -> list[str]:
    """The lines of a list that say something: no empty ones, no comments (#). Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("the list of a split is missing", str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read as a list ({error})", str(path), "fetch it again") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("the list of a split is missing", str(path)) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read as JSON ({error})", str(path), "fetch it again") from error


def read_mat(path: Path, key: str) -> Any:
    """One value of a MATLAB file, singleton axes removed. Raises UserError: no such file or value, a damaged file."""
    if not path.is_file():
        raise UserError("is missing", str(path))
    try:
        content = loadmat(str(path), squeeze_me=True)
    except Exception as error:  # Damaged files fail in any way; nothing of theirs is executed.
        raise UserError(f"cannot be read as a MATLAB file ({error})", str(path), "fetch it again") from error
    if key not in content:
        held = ", ".join(sorted(name for name in content if not name.startswith("_"))) or "nothing"
        raise UserError(f"has no {key!r} (it has {held})", str(path), "fetch the official file")
    return content[key]


def check_md5(path: Path, expected: str) -> None:
    """Raise UserError unless the file has this MD5, the checksum that the data set's publishers give."""
    if not path.is_file():
        raise UserError("is missing", str(path))
    with open(path, "rb") as stream:
        digest = hashlib.md5(usedforsecurity=False)
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f"is not the official file: MD5 {digest.hexdigest()}, official {expected}", str(path), "fetch it again"
        )


def check_range(numbers: Any, first: int, last: int, where: Path, what: str = "label") -> None:
    """Raise UserError unless all are whole numbers from `first` to `last`, as the official file counts."""
    # One number of a MATLAB file comes without its axis.
    odd = next((number for number in np.atleast_1d(numbers) if not _is_whole(number, first, last)), None)
    if odd is not None:
        hint = "it counts from 1" if first == 1 and odd == 0 else f"they run from {first} to {last}"
        raise UserError(f"has {what} {odd}: {hint}", str(where), "use the official file, unchanged")


def _is_whole(number: Any, first: int, last: int) -> bool:
    """Damaged files have text, lists or nothing in the place of a number."""
    try:
        return bool(int(number) == number and first <= number <= last)
    except (TypeError, ValueError, OverflowError):
        return False


def check_safe(name: str, where: Path) -> str:
    """A path from a list, as it stands. Raises UserError where it leads out of the folder of images."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise UserError(f"{name!r} leads out of the folder of images", str(where), "use the official list")
    return name
