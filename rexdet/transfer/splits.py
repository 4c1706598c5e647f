"""Splits: a share held out for choosing, folds of a folder, and the test split, which is sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rexdet.errors import UserError
from rexdet.transfer.images import Listing

# Separates these numbers from the others that are drawn from the same seed (rexdet.runs.state, augment.py).
_SPLITS = 29


class SealedTest:
    """The test split, of which nothing has been read. It opens once: for the network that was chosen without it.

    description: what is known without opening it, for a person.
    """

    def __init__(self, opener: Callable[[bool], Listing], description: str) -> None:
        self._opener = opener
        self.description = description
        self.opened = False

    def open(self, *, progress: bool = False) -> Listing:
        """Read and check the split: counts, files that cannot be read, images that are training images too (warned of).

        Raises UserError for what is wrong with it, RuntimeError where it has been opened before.
        """
        if self.opened:
            raise RuntimeError("the test split has been opened before: what is chosen now would be chosen by it")
        self.opened = True
        return self._opener(progress)

    def __repr__(self) -> str:
        return f"<test split, {'opened' if self.opened else 'sealed'}: {self.description}>"


def held_out(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Places to train on and places to choose by, both rising: `share` of each class is held out, drawn by the seed.

    A class of two images or more has one on each side at least; a class of one is trained on.
    """
    kept: list[int] = []
    held: list[int] = []
    for places in _shuffled_by_class(labels, seed):
        count = min(max(1, round(share * len(places))), len(places) - 1)
        held += places[:count]
        kept += places[count:]
    return sorted(kept), sorted(held)


def drawn_per_class(labels: Sequence[int], count: int, seed: int) -> tuple[list[int], list[int]]:
    """`count` places of each class, and the rest, both rising. Raises ValueError for a class of `count` or fewer."""
    drawn: list[int] = []
    rest: list[int] = []
    for places in _shuffled_by_class(labels, seed):
        if len(places) <= count:
            raise ValueError(f"a class has {len(places)} images, of which {count} are to be drawn and some to be left")
        drawn += places[:count]
        rest += places[count:]
    return sorted(drawn), sorted(rest)


def folds(labels: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Places in `count` folds that share no image; each class is spread as evenly as can be.

    Raises UserError for a count below 2, and where a class has fewer images than there are folds.
    """
    if count < 2:
        raise UserError(f"{count} folds are none", "--kfold", "give 2 or more")
    parts: list[list[int]] = [[] for _ in range(count)]
    dealt = 0
    for places in _shuffled_by_class(labels, seed):
        if len(places) < count:
            raise UserError(f"a class has {len(places)} images, fewer than {count} folds", "--kfold", "give fewer")
        for place in places:
            # Dealing goes on where the last class ended, so that the folds' sizes differ by one at most.
            parts[dealt % count].append(place)
            dealt += 1
    return [sorted(part) for part in parts]


def _shuffled_by_class(labels: Sequence[int], seed: int) -> list[list[int]]:
    """The places of each class in an order drawn by the seed: the same on every machine and version of NumPy."""
    values: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)
    words = np.random.PCG64(np.random.SeedSequence([seed, _SPLITS])).random_raw(len(values))
    order = np.argsort(words, kind="stable")
    return [order[values[order] == label].tolist() for label in np.unique(values)]
