"""All that a bit-identical resume takes, together: a small training that is stopped after any step and goes on."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rexdet.runs.state import (
    ResumableSampler,
    capture_random_state,
    restore_random_state,
    sample_randomness,
    seed_everything,
)

STEPS = 6
SEED = 11


class Noisy(Dataset[Tensor]):
    """Seven samples, augmented with numbers of all three global generators."""

    def __getitem__(self, key: tuple[int, int]) -> Tensor:  # type: ignore[override]
        epoch, index = key
        with sample_randomness(SEED, epoch, index):
            noise = random.random() + float(np.random.rand())  # noqa: NPY002
            return torch.full((4,), float(index)) + noise + torch.rand(4)


def train(folder: Path, workers: int, stop_after: int, resume: bool) -> list[Tensor]:
    """Train to `stop_after` steps, from the checkpoint in `folder` if `resume`, and write one; returns the weights."""
    # Another process would start from another state of everything: so does the resumed part here.
    seed_everything(999 if resume else SEED)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    sampler = ResumableSampler(7, SEED, batch_size=2)
    checkpoint = folder / "checkpoint.pth"
    done = 0
    state = None
    if resume:
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        sampler.load_state_dict(state["sampler"])
        done = state["done"]
    batches = iter(DataLoader(Noisy(), sampler=sampler, batch_size=2, num_workers=workers))
    if state is not None:
        assert restore_random_state(state["random"]) == []
    for _ in range(done, stop_after):
        optimizer.zero_grad()
        network(next(batches)).square().mean().backward()
        optimizer.step()
        sampler.advance()
    content = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "sampler": sampler.state_dict(),
        "random": capture_random_state(),
        "done": stop_after,
    }
    torch.save(content, checkpoint)
    return [parameter.detach().clone() for parameter in network.parameters()]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_after_any_step_changes_no_bit(tmp_path: Path, workers: int) -> None:
    whole = train(tmp_path, 0, STEPS, resume=False)
    for stop in range(1, STEPS):
        train(tmp_path, workers, stop, resume=False)
        resumed = train(tmp_path, workers, STEPS, resume=True)
        assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True)), stop


def test_without_the_random_state_the_result_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path, 0, STEPS, resume=False)
    train(tmp_path, 0, 3, resume=False)
    monkeypatch.setitem(globals(), "restore_random_state", lambda state: [])
    resumed = train(tmp_path, 0, STEPS, resume=True)
    assert not all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))
