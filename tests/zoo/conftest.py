"""Weights that several tests take: a small network with trained-looking norms, in every layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rexdet
from rexdet.weights.layouts import layout_by_name

SMALL = "rexnet_0.3"
State = dict[str, Tensor]


def with_statistics(state: State, seed: int = 0) -> State:
    """The state with norm statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for key, tensor in state.items():
        if key.endswith("running_mean"):
            made[key] = torch.randn(tensor.shape, generator=generator) * 0.1
        elif key.endswith("running_var"):
            made[key] = torch.rand(tensor.shape, generator=generator) + 0.5
        elif key.endswith("num_batches_tracked"):
            made[key] = torch.tensor(7)
        else:
            made[key] = tensor.detach().clone()
    return made


@pytest.fixture(scope="session")
def make_state() -> Callable[..., State]:
    """(name, num_classes=None, **overrides) -> a state in our layout."""

    def make(name: str = SMALL, num_classes: int | None = 10, **overrides: object) -> State:
        torch.manual_seed(0)
        return with_statistics(rexdet.create_model(name, num_classes, **overrides).state_dict())

    return make


@pytest.fixture(scope="session")
def small_state(make_state: Callable[..., State]) -> State:
    """rexnet_0.3 with 10 classes, in our layout; not to be changed."""
    return make_state()


@pytest.fixture(scope="session")
def in_layout() -> Callable[[State, str], State]:
    """(state in our layout, layout) -> the state in that layout."""
    return lambda state, layout: layout_by_name(layout).from_ours(state)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    """No test sees or fills the cache of whoever runs it, nor asks the network for a published file."""
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
