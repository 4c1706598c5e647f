"""From lists of parsed JSON values to NumPy columns: fast where every value is as it should be, careful elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 2**63 - 1
_EXACT_FLOAT = 2**53

LARGEST_PICTURE = 1_000_000
"""px of a picture's side, at most."""

FARTHEST = 1e30
"""px of a coordinate, at most: products of larger ones are no numbers any more."""


def whole_number(value: Any) -> int | None:
    """`value` as an int where it is a whole number (12, 12.0, "12") that fits 64 bits, else None. Booleans are none."""
    if type(value) is str:
        text = value.strip()
        digits = text[1:] if text[:1] in "+-" else text
        # Only plain decimal digits: int() would also take underscores and digits of other scripts.
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
            return None
        value = int(text)
    elif type(value) is float:
        if not value.is_integer() or abs(value) > _EXACT_FLOAT:
            return None
        value = int(value)
    elif type(value) is not int:
        return None
    return value if abs(value) <= _LARGEST else None


def whole_numbers(values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """int64 (N,) of `values`, and bool (N,) that says where a value is a whole number (0 stands elsewhere)."""
    if set(map(type, values)) <= {int}:
        try:
            return np.fromiter(values, np.int64, len(values)), np.ones(len(values), bool)
        except OverflowError:
            pass
    numbers = list(map(whole_number, values))
    good = np.fromiter((number is not None for number in numbers), bool, len(numbers))
    return np.fromiter((number or 0 for number in numbers), np.int64, len(numbers)), good


def real_number(value: Any) -> float:
    """`value` as a float where it is a number (booleans and text are none), else NaN; too large is infinite."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def absent(values: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """bool (N,): where a value is None, which is what a missing key gives."""
    if not values.count(None):
        return np.zeros(len(values), bool)
    return np.fromiter((value is None for value in values), bool, len(values))


def real_numbers(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    """float64 (N,) of `values` by `real_number`."""
    if set(map(type, values)) <= {int, float}:
        try:
            return np.fromiter(values, np.float64, len(values))
        except OverflowError:
            pass
    return np.fromiter(map(real_number, values), np.float64, len(values))


def boxes(values: Sequence[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """float64 (N, 4) of `values`, and bool (N,) that says where a value is a list of four numbers (NaN elsewhere)."""
    count = len(values)
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        flat = list(itertools.chain.from_iterable(values))
        if set(map(type, flat)) <= {int, float}:
            try:
                return np.fromiter(flat, np.float64, 4 * count).reshape(count, 4), np.ones(count, bool)
            except OverflowError:
                pass
    table = np.full((count, 4), np.nan)
    good = np.zeros(count, bool)
    for row, value in enumerate(values):
        if isinstance(value, list) and len(value) == 4 and all(type(side) in (int, float) for side in value):
            table[row] = [real_number(side) for side in value]
            good[row] = True
    return table, good


class Texts(Sequence[bytes]):
    """Many byte strings in one buffer: `data` uint8 (total,) and `offsets` int64 (N + 1,). No object an entry."""

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def pack(cls, parts: Sequence[bytes]) -> Texts:
        """Pack `parts` in their order."""
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        data, offsets = self.data.tobytes(), self.offsets.tolist()
        return (data[start:end] for start, end in itertools.pairwise(offsets))
