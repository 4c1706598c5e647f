"""Random states: what is kept is what comes back, and a sample's randomness does not hang on who makes it."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from rexdet.errors import UserError
from rexdet.runs.state import (
    ResumableSampler,
    capture_random_state,
    restore_random_state,
    sample_generator,
    sample_randomness,
    seed_everything,
)

# The tests are about NumPy's global generator, the one that augmentation libraries draw from.
# ruff: noqa: NPY002


def draw() -> list[float]:
    """A few numbers of each global generator, of the kinds that keep half of a pair for the next call too."""
    numbers = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
    return [*numbers, float(torch.rand(())), float(torch.randn(()))]


def through_a_checkpoint(value: Any) -> Any:
    """`value` saved and loaded without any allow-list."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("draws_before", [0, 1, 700])
def test_generators_go_on_where_they_were(draws_before: int) -> None:
    seed_everything(1)
    for _ in range(draws_before):
        draw()
    state = through_a_checkpoint(capture_random_state())
    expected = [draw() for _ in range(5)]
    seed_everything(99)
    assert restore_random_state(state) == []
    assert [draw() for _ in range(5)] == expected


def test_the_state_is_tensors_numbers_and_strings() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)
        else:
            assert type(value) in (torch.Tensor, int, float, str)

    check(capture_random_state())


def test_a_state_that_lacks_a_generator_is_one_line_that_lists_what_is_there() -> None:
    state = capture_random_state()
    del state["numpy"]
    with pytest.raises(UserError, match=r"lacks numpy \(it holds python, torch, cuda\)"):
        restore_random_state(state)


def test_states_of_devices_that_are_not_here_are_reported() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    state = capture_random_state()
    state["cuda"] = [torch.zeros(16, dtype=torch.uint8)]
    assert restore_random_state(state) == ["random state of 1 CUDA device(s) not restored: 0 here"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_generators_go_on_where_they_were() -> None:
    seed_everything(1)
    torch.rand(3, device="cuda")
    state = through_a_checkpoint(capture_random_state())
    expected = torch.rand(5, device="cuda")
    seed_everything(2)
    assert restore_random_state(state) == []
    assert torch.equal(torch.rand(5, device="cuda"), expected)


def test_seeding_repeats_and_separates_seeds_and_processes() -> None:
    def numbers(seed: int, rank: int = 0) -> list[float]:
        seed_everything(seed, rank)
        return draw()

    assert numbers(0) == numbers(0)
    drawn = [number for pair in ((0, 0), (1, 0), (0, 1), (2**63, 0)) for number in numbers(*pair)]
    assert len(set(drawn)) == len(drawn)


def test_the_numbers_of_a_sample_are_a_function_of_seed_epoch_and_index() -> None:
    def numbers(*key: int) -> list[float]:
        with sample_randomness(*key) as generator:
            return [*draw(), float(generator.random())]

    assert numbers(0, 1, 2) == numbers(0, 1, 2)
    keys = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2)]
    drawn = [number for key in keys for number in numbers(*key)]
    assert len(set(drawn)) == len(drawn)
    assert float(sample_generator(0, 1, 2).random()) == numbers(0, 1, 2)[-1]


@pytest.mark.parametrize("fails", [False, True])
def test_the_generators_around_a_sample_are_left_as_they_were(fails: bool) -> None:
    seed_everything(7)
    expected = [draw() for _ in range(2)]
    seed_everything(7)
    found = [draw()]
    try:
        with sample_randomness(0, 0, 0):
            draw()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert [*found, draw()] == expected


class Crops(Dataset[torch.Tensor]):
    """Eight images, of which each yields the numbers that its augmentation drew from every generator."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:  # type: ignore[override]
        epoch, index = key
        with sample_randomness(3, epoch, index):
            drawn = [random.random(), float(np.random.rand()), float(torch.rand((), dtype=torch.float64))]
        return torch.tensor([epoch, index, *drawn], dtype=torch.float64)


def two_epochs(workers: int) -> torch.Tensor:
    """What a loader with so many workers gives in two epochs, (16, 5)."""
    sampler = ResumableSampler(8, seed=3, batch_size=4)
    loader = DataLoader(Crops(), sampler=sampler, batch_size=4, num_workers=workers)
    batches = iter(loader)
    rows = []
    for _ in range(4):
        rows.append(next(batches))
        sampler.advance()
    return torch.cat(rows)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_augmentation_differs_between_samples_and_epochs_and_not_with_the_workers() -> None:
    alone = two_epochs(0)
    assert sorted(map(tuple, alone[:, :2].tolist())) == [(e, i) for e in range(2) for i in range(8)]
    for column in range(2, 5):
        assert len(set(alone[:, column].tolist())) == 16
    for workers in (1, 2, 4):
        assert torch.equal(two_epochs(workers), alone)
