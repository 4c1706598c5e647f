"""Which part of one folder is its test split."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """number: from 0. of: how many folds there are. images: SHA-256 over the names and classes of all images of the
    folder, by which its folds are known.
    """

    number: int
    of: int
    images: str
