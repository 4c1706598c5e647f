"""The order of training: the same for any number of processes and workers, and after any stop."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from rexdet.errors import UserError
from rexdet.runs.state import ResumableSampler

Pair = tuple[int, int]
ORDER_OF_SEED_0 = [7, 4, 5, 1, 9, 8, 6, 2, 0, 3]


class Keys(Dataset[torch.Tensor]):
    """A data set whose samples are the (epoch, index) they were asked for."""

    def __getitem__(self, key: Pair) -> torch.Tensor:  # type: ignore[override]
        return torch.tensor(key)


def first(sampler: ResumableSampler, count: int) -> list[Pair]:
    return list(islice(iter(sampler), count))


def test_every_epoch_takes_every_image_once_and_in_another_order() -> None:
    pairs = first(ResumableSampler(7, seed=0, batch_size=2), 21)
    orders = [[index for epoch, index in pairs if epoch == wanted] for wanted in range(3)]
    assert [sorted(order) for order in orders] == [list(range(7))] * 3
    assert len({tuple(order) for order in orders}) == 3
    assert [epoch for epoch, _ in pairs] == sorted(epoch for epoch, _ in pairs)


def test_the_order_is_a_function_of_the_seed_that_stays() -> None:
    # Written down once: a checkpoint of today must find its order with the NumPy of tomorrow.
    assert ResumableSampler(10, seed=0).order(0).tolist() == ORDER_OF_SEED_0
    assert ResumableSampler(10, seed=1).order(0).tolist() != ORDER_OF_SEED_0


def test_an_order_that_is_not_shuffled_is_that_of_the_file() -> None:
    assert first(ResumableSampler(3, seed=0, shuffle=False), 4) == [(0, 0), (0, 1), (0, 2), (1, 0)]


def steps(world_size: int, batch_size: int, count: int, groups: list[int] | None = None) -> list[list[Pair]]:
    """What all processes together see in each of the first steps, sorted within the step."""
    samplers = [
        ResumableSampler(10, 4, rank=rank, world_size=world_size, batch_size=batch_size, groups=groups)
        for rank in range(world_size)
    ]
    streams = [iter(sampler) for sampler in samplers]
    share = batch_size // world_size
    return [sorted(pair for stream in streams for pair in islice(stream, share)) for _ in range(count)]


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 0, 0, 1, 0, 1, 0]])
def test_processes_see_together_what_one_would_see(world_size: int, groups: list[int] | None) -> None:
    assert steps(world_size, 4, 10, groups) == steps(1, 4, 10, groups)


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 0, 0, 1]])
def test_after_a_stop_at_any_step_the_rest_is_that_of_the_unbroken_run(groups: list[int] | None) -> None:
    whole = first(ResumableSampler(7, seed=2, batch_size=2, groups=groups), 40)
    sampler = ResumableSampler(7, seed=2, batch_size=2, groups=groups)
    for step in range(16):
        resumed = ResumableSampler(7, seed=2, batch_size=2, groups=groups)
        resumed.load_state_dict(pickle.loads(pickle.dumps(sampler.state_dict())))
        assert first(resumed, 8) == whole[2 * step : 2 * step + 8]
        sampler.advance()


@pytest.mark.parametrize("before", [1, 2, 4])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_run_may_go_on_with_another_number_of_processes(before: int, after: int) -> None:
    expected = steps(1, 4, 6)
    old = ResumableSampler(10, 4, rank=0, world_size=before, batch_size=4)
    old.advance(3)
    seen: list[Pair] = []
    for rank in range(after):
        new = ResumableSampler(10, 4, rank=rank, world_size=after, batch_size=4)
        new.load_state_dict(old.state_dict())
        seen += first(new, 4 // after)
    assert sorted(seen) == expected[3]


def test_what_workers_have_read_ahead_does_not_count() -> None:
    whole = first(ResumableSampler(9, seed=1, batch_size=2), 30)
    sampler = ResumableSampler(9, seed=1, batch_size=2)
    loader = DataLoader(Keys(), sampler=sampler, batch_size=2, num_workers=2, prefetch_factor=4)
    batches = iter(loader)
    used: list[list[int]] = []
    for _ in range(3):
        used += next(batches).tolist()
        sampler.advance()
    del batches
    assert sampler.state_dict()["position"] == 6
    resumed = ResumableSampler(9, seed=1, batch_size=2)
    resumed.load_state_dict(sampler.state_dict())
    loader = DataLoader(Keys(), sampler=resumed, batch_size=2, num_workers=2, prefetch_factor=4)
    used += next(iter(loader)).tolist()
    assert [tuple(pair) for pair in used] == whole[:8]


def test_a_sampler_can_be_pickled() -> None:
    sampler = ResumableSampler(5, seed=1, batch_size=2, groups=[0, 1, 0, 1, 1])
    sampler.advance(4)
    copy = pickle.loads(pickle.dumps(sampler))
    assert first(copy, 10) == first(sampler, 10)
    assert copy.epoch == 8 / 5


@pytest.mark.parametrize("length", [1, 3, 10, 37, 64])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_groups_change_the_order_and_lose_no_image(length: int, batch_size: int) -> None:
    groups = [int(index % 3 == 0) for index in range(length)]
    pairs = first(ResumableSampler(length, seed=0, batch_size=batch_size, groups=groups), 5 * length)
    assert Counter(pairs) == Counter((epoch, index) for epoch in range(5) for index in range(length))


def test_with_groups_batches_hold_one_group_as_far_as_they_go_round() -> None:
    groups = [int(index % 3 == 0) for index in range(100)]
    pairs = first(ResumableSampler(100, seed=0, batch_size=8, groups=groups), 800)
    mixed = 0
    for begin in range(0, 800, 8):
        mixed += len({groups[index] for _, index in pairs[begin : begin + 8]}) > 1
    # At most the left-over of two groups an epoch, which fill two batches at the most, and what they cross into.
    assert mixed <= 3 * 8
    ungrouped = first(ResumableSampler(100, seed=0, batch_size=8), 800)
    assert sum(len({groups[i] for _, i in ungrouped[b : b + 8]}) > 1 for b in range(0, 800, 8)) > 80


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"length": 6}, "the number of training images was 5 when the checkpoint was written and is 6 now"),
        ({"seed": 2}, "the seed was 1"),
        ({"shuffle": False}, "the shuffling was True"),
        ({"groups": [0, 1, 0, 1, 1]}, "the grouping of images by shape was False"),
    ],
)
def test_a_state_of_another_order_is_refused(change: dict[str, object], expected: str) -> None:
    state = ResumableSampler(5, seed=1, batch_size=2).state_dict()
    arguments: dict[str, object] = {"length": 5, "seed": 1, "batch_size": 2, **change}
    with pytest.raises(UserError, match=expected):
        ResumableSampler(**arguments).load_state_dict(state)  # type: ignore[arg-type]


def test_the_batch_may_change_unless_the_order_hangs_on_it() -> None:
    plain = ResumableSampler(5, seed=1, batch_size=2)
    plain.advance(2)
    other = ResumableSampler(5, seed=1, batch_size=3)
    other.load_state_dict(plain.state_dict())
    assert first(other, 5) == first(plain, 5)
    groups = [0, 1, 0, 1, 1]
    state = ResumableSampler(5, seed=1, batch_size=2, groups=groups).state_dict()
    with pytest.raises(UserError, match="the batch was 2"):
        ResumableSampler(5, seed=1, batch_size=3, groups=groups).load_state_dict(state)


def test_a_state_that_lacks_a_part_is_refused() -> None:
    with pytest.raises(UserError, match="lacks 'seed'"):
        ResumableSampler(5, seed=1).load_state_dict({"position": 3, "length": 5})
    state = ResumableSampler(5, seed=1).state_dict()
    del state["position"]
    with pytest.raises(UserError, match="lacks 'position'"):
        ResumableSampler(5, seed=1).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"length": 0}, "no image to train on"),
        ({"length": 5, "batch_size": 3, "world_size": 2}, "a batch of 3 cannot be divided among 2 processes"),
        ({"length": 5, "batch_size": 0}, "a batch of 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments: dict[str, int], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        ResumableSampler(seed=0, **arguments)
