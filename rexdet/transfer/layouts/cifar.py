"""CIFAR-10 and CIFAR-100: arrays of 32x32 images in Python pickles (Krizhevsky 2009, the "python version")."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rexdet.errors import UserError
from rexdet.transfer.images import ArrayImage
from rexdet.transfer.layouts.entries import Entries, Layout, check_range
from rexdet.weights.pickles import RefusedClassError, read_arrays

_SIDE = 32


def cifar_layout(
    folder: str,
    train: Mapping[str, str],
    test: Mapping[str, str],
    meta: tuple[str, str],
    *,
    names_key: str,
    labels_key: str,
) -> Layout:
    """The layout of one of the two sets.

    train, test: file -> MD5. meta: the file of names and its MD5. The keys are those inside the pickles.
    """
    read = partial(_read, tuple(train), tuple(test), meta[0], names_key, labels_key)
    return Layout(
        folders=(folder,),
        train=(*train, meta[0]),
        test=tuple(test),
        read=read,
        md5={"train": {**train, meta[0]: meta[1]}, "test": test},
        hash_first=True,
    )


def _read(
    train: tuple[str, ...], test: tuple[str, ...], meta: str, names_key: str, labels_key: str, place: Path, split: str
) -> Entries:
    classes = tuple(str(name) for name in _value(place / meta, names_key))
    files: list[ArrayImage] = []
    labels: list[str] = []
    for name in train if split == "train" else test:
        path = place / name
        batch = _unpickled(path)
        images, numbers = _images(batch, path), _of(batch, labels_key, path)
        if len(images) != len(numbers):
            raise UserError(f"has {len(images)} images and {len(numbers)} labels", str(path), "fetch it again")
        check_range(numbers, 0, len(classes) - 1, path)
        files += [ArrayImage(f"{name}/{row:05}", images, row, str(path)) for row in range(len(images))]
        labels += [classes[int(number)] for number in numbers]
    return Entries(tuple(files), tuple(labels), classes)


def _images(batch: Any, path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(N, 32, 32, 3) uint8 of a batch's rows, each of which holds the red, then the green, then the blue plane."""
    data = _of(batch, "data", path)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2:
        raise UserError("its data is no (N, 3072) array of bytes", str(path), "fetch the python version again")
    return np.ascontiguousarray(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def _value(path: Path, key: str) -> Any:
    return _of(_unpickled(path), key, path)


def _of(content: Any, key: str, path: Path) -> Any:
    if not isinstance(content, dict) or key not in content:
        raise UserError(f"is no file of this set: it has no {key!r}", str(path), "fetch the python version again")
    return content[key]


def _unpickled(path: Path) -> Any:
    """What a batch holds, by the reader that builds arrays, lists and strings alone: the pickle is not executed."""
    try:
        return read_arrays(path)
    except FileNotFoundError:
        raise UserError("is missing", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", str(path)) from error
    except RefusedClassError as error:
        raise UserError(
            f"names {error.name}, which no CIFAR file holds", str(path), "fetch the official file"
        ) from error
