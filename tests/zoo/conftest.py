"""Weights of named networks, and a cache of their own, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rexdet

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def make_state() -> Callable[..., State]:
    """(name, num_classes=10) -> a random state in our layout, the same at every call."""

    def make(name: str = "rexnet_0.3", num_classes: int = 10) -> State:
        torch.manual_seed(0)
        return rexdet.create_model(name, num_classes).state_dict()

    return make


@pytest.fixture(scope="session")
def small_state(make_state: Callable[..., State]) -> State:
    """rexnet_0.3 with 10 classes, in our layout; not to be changed."""
    return make_state()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or fills the cache of whoever runs it, nor asks the network for a published file."""
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
