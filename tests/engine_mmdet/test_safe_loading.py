"""mmengine's checkpoints open under safe loading, and nothing else does that could not before."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from rexdet.mmdet import safe_loading


def test_a_history_comes_back_whole(tmp_path: Path) -> None:
    hub = MessageHub.get_instance("rexdet_test_safe_loading")
    for value in (3.0, 2.0, 1.0):
        hub.update_scalar("train/loss", value)
    hub.update_info("epoch", 2)
    content = {"message_hub": hub.state_dict(), "number": np.float64(0.5), "state_dict": {"w": torch.ones(2)}}
    torch.save(content, tmp_path / "epoch_2.pth")
    back = torch.load(tmp_path / "epoch_2.pth", weights_only=True)
    history = back["message_hub"]["log_scalars"]["train/loss"]
    assert history.data[0].tolist() == [3.0, 2.0, 1.0]
    assert history.statistics("mean") == 2.0
    assert back["number"] == 0.5


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        argparse.Namespace(lr=0.1),
        Calls(getattr, HistoryBuffer, "__init__"),
        Calls(getattr, dict, "update"),
        Calls(print, "executed"),
        Calls(Path, "/"),
    ],
)
def test_anything_else_is_refused_and_not_executed(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}, "extra": content}, tmp_path / "odd.pth")
    with pytest.raises((pickle.UnpicklingError, ValueError)):
        torch.load(tmp_path / "odd.pth", weights_only=True)
    assert "executed" not in capsys.readouterr().out


def test_the_real_getattr_is_not_allowed() -> None:
    allowed = safe_loading.stored_by_mmengine()
    assert getattr not in allowed
    assert getattr not in [entry[0] for entry in allowed if isinstance(entry, tuple)]
