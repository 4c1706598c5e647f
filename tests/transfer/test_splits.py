"""Parts held out, folds and drawn images: stratified, complete, and the same on every machine."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from rexdet.errors import UserError
from rexdet.transfer.splits import drawn_per_class, folds, held_out

LABELS = [0] * 50 + [1] * 7 + [2] * 2 + [3]


def test_a_share_of_each_class_is_held_out() -> None:
    kept, held = held_out(LABELS, 0.2, seed=0)
    assert sorted(kept + held) == list(range(60))
    assert Counter(LABELS[place] for place in held) == {0: 10, 1: 1, 2: 1}
    assert 59 in kept, "the one image of a class is trained on"


def test_the_draw_is_pinned() -> None:
    # A split that changes with a version of NumPy would be another experiment under the same name.
    assert held_out([0] * 10 + [1] * 10, 0.2, seed=0)[1] == [0, 6, 12, 13]
    assert held_out([0] * 10 + [1] * 10, 0.2, seed=1)[1] != [0, 6, 12, 13]


def test_folds_are_even_and_complete() -> None:
    parts = folds([0] * 11 + [1] * 7 + [2] * 5, 4, seed=0)
    assert sorted(chain(*parts)) == list(range(23))
    assert sorted(map(len, parts)) == [5, 6, 6, 6]
    for part in parts:
        counts = Counter(([0] * 11 + [1] * 7 + [2] * 5)[place] for place in part)
        assert 2 <= counts[0] <= 3
        assert 1 <= counts[1] <= 2
        assert 1 <= counts[2] <= 2
    with pytest.raises(UserError, match="a class has 1 images, fewer than 2 folds"):
        folds(LABELS, 2, seed=0)


def test_as_many_of_each_class_are_drawn() -> None:
    drawn, rest = drawn_per_class([0] * 5 + [1] * 9, 3, seed=0)
    assert Counter([0 if place < 5 else 1 for place in drawn]) == {0: 3, 1: 3}
    assert sorted(drawn + rest) == list(range(14))
    with pytest.raises(ValueError, match="a class has 3 images"):
        drawn_per_class([0] * 3 + [1] * 9, 3, seed=0)
