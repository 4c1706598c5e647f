"""The tables of a study: made from records, never of mixed recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rexdet.errors import UserError
from rexdet.runs import Data, DataSplit, Recipe, RunRecord
from rexdet.studies.outcome import from_records, publish, read_records
from rexdet.transfer.protocols import read_protocol


def record(setting: str, seed: int, top1: float, **changed) -> RunRecord:
    protocol = read_protocol("cifar_short").model_dump()
    config = {
        "study": "lwdna",
        "network": "resnet8b_cifar",
        "setting": setting,
        "seed": seed,
        "options": {"width": 2.0, "weights": "reinitialised", "remain": 0.4, "linear": 0.45},
        "protocol": protocol,
        "training_images": "0" * 64,
        **changed,
    }
    return RunRecord(
        kind="transfer",
        name=f"{setting}-{seed}",
        status="done",
        seed=seed,
        config=yaml.safe_dump(config),
        data=Data(train=DataSplit(images=30, classes=["a", "b"]), val=DataSplit(images=20)),
        recipe=Recipe(iterations=800, effective_batch=64, optimizer="SGD", base_lr=0.1, schedule="cosine"),
        metrics={
            "test": {"top1": top1, "loss": 1.0},
            "train": {"top1": 0.7, "loss": 1.0},
            "network": {"macs": 12.5e6 + seed, "parameters": 78042.0},
        },
    )


def test_the_tables_hold_means_intervals_and_what_was_compared() -> None:
    records = [record("baseline", seed, 0.50 + 0.01 * seed) for seed in range(3)]
    records += [record("gradient", seed, 0.53 + 0.01 * seed + (0.005 if seed == 1 else 0.0)) for seed in range(3)]
    found = from_records("lwdna", records)
    assert [(row.setting, row.top1.count) for row in found.rows] == [("baseline", 3), ("gradient", 3)]
    assert found.rows[0].top1.mean == pytest.approx(0.51)
    assert found.rows[0].macs == 12_500_002
    (difference,) = found.differences
    assert (difference.one, difference.other) == ("gradient", "baseline")
    assert difference.comparison.summary.mean == pytest.approx(0.03 + 0.005 / 3)
    assert difference.comparison.is_shown
    text = found.text()
    # 51 ± 4.303 * 1 / sqrt(3), Student's t for two degrees of freedom.
    assert "51.00 ± 2.48" in text
    assert "gradient - baseline" in text
    assert "20 test images of 2 classes" in text


def test_one_run_prints_no_interval() -> None:
    found = from_records("lwdna", [record("baseline", 0, 0.5), record("random", 0, 0.6)])
    lines = [line for line in found.text().splitlines() if line.startswith("|")]
    assert "±" not in "".join(lines)
    assert found.differences[0].comparison.smallest is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"options": {"width": 3.0}}, "options"),
        ({"protocol": {"name": "cifar"}}, "protocol"),
        ({"training_images": "1" * 64}, "training images"),
        ({"study": "nm_relu"}, "study"),
    ],
)
def test_recipes_are_never_mixed(changed: dict, told: str) -> None:
    with pytest.raises(UserError, match=f"the records differ in their {told}"):
        from_records("lwdna", [record("baseline", 0, 0.5), record("gradient", 0, 0.5, **changed)])


def test_other_records_are_refused() -> None:
    with pytest.raises(UserError, match="not the record of a study's cell"):
        from_records("lwdna", [RunRecord(kind="detection", name="a", status="done")])
    with pytest.raises(UserError, match="records of the study lwdna"):
        from_records("nm_relu", [record("baseline", 0, 0.5)])


def test_published_records_give_the_same_tables(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [record(setting, seed, 0.5 + 0.01 * seed) for setting in ("baseline", "random") for seed in range(2)]
    found = from_records("lwdna", records)
    publish(found, tmp_path)
    assert from_records("lwdna", read_records(tmp_path)).text() == found.text() == (tmp_path / "table.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {"accuracy.png", "loss.png", "widths.png"}
    with pytest.raises(UserError, match="no records of finished cells"):
        read_records(tmp_path / "records" / "none")
