"""The transfer benchmark runs at its small sizes, and its rows say what they should; how fast is not asked."""

from __future__ import annotations

import torch

from rexdet.bench import transfer


def test_the_solver_row_compares_equal_losses() -> None:
    (row,) = transfer.solver_rows(rounds=1, quick=True)
    assert row["beside"] == "scikit-learn"
    over = float(str(row["note"]).split("theirs: ")[1].split(" ")[0])
    assert over <= 1e-4


def test_extraction_and_tuning_rows() -> None:
    torch.manual_seed(0)
    extraction, again = transfer.extraction_rows("resnet20_cifar", rounds=1, count=4)
    tuning = transfer.tuning_row("resnet20_cifar", rounds=1, size=32, steps=2)
    assert extraction["ratio"] > 0
    assert "images/s" in extraction["note"]
    assert again["beside"] == "extraction"
    assert again["ours s"] > 0
    assert tuning["beside"] == "forward-backward"


def test_features_like_a_networks() -> None:
    x, y = transfer.flowers_sized(60, 32, 5, seed=0)
    assert x.shape == (60, 32)
    assert float(x.min()) >= 0.0
    assert torch.bincount(y).tolist() == [12] * 5
    assert not torch.equal(x, transfer.flowers_sized(60, 32, 5, seed=1)[0])
