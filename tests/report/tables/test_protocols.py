"""What stands behind a protocol's name is told: the recipe, and where it departs from the published one."""

from __future__ import annotations

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.protocols import protocols_table


def rows(*records):
    """The table's rows as column -> text."""
    table = protocols_table(group([Found(record, f"{place}") for place, record in enumerate(records)]))
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, (cell.text for cell in row.cells), strict=True)) for row in table.rows]


def with_recipe(record, **changes):
    return record.model_copy(update={"recipe": record.recipe.model_copy(update=changes)})


def test_a_published_protocol_is_told_with_its_source(detection) -> None:
    (row,) = rows(detection(), detection(seed=1))
    assert row["protocol"] == "detectron2_1x"
    assert (row["batch"], row["iterations"], row["precision"]) == ("16", "90,000", "float32")
    assert row["train_size"].startswith("shorter side 640")
    assert "detectron2" in row["source"]
    assert "differs" not in row


def test_ours_says_what_its_hash_is_of_and_what_it_departs_in(detection) -> None:
    lines = ["SOLVER.BASE_LR: 0.01 instead of 0.02", "half as many steps"]
    changed = {"base_lr": 0.01, "iterations": 45_000, "amp": "bf16", "ema": 0.999, "differs_from_recipe": lines}
    ours, theirs = sorted(rows(with_recipe(detection(), **changed), detection()), key=lambda row: row["protocol"] < "n")
    assert ours["protocol"].startswith("ours-")
    assert (ours["base_lr"], ours["iterations"]) == ("0.01", "45,000")
    assert ours["precision"] == "bf16, averaged weights 0.999"
    assert ours["differs"] == "SOLVER.BASE_LR: 0.01 instead of 0.02; half as many steps"
    assert ours["source"] == ""
    assert (theirs["protocol"], theirs["differs"]) == ("detectron2_1x", "")


def test_a_protocol_over_data_sets_tells_every_value_or_how_many(transfer) -> None:
    records = [
        with_recipe(transfer(dataset=f"set{number}"), iterations=100 * number, base_lr=0.1 if number < 3 else 0.01)
        for number in range(1, 5)
    ]
    config = records[0].config + "protocol:\n  image_size: 128\n"
    records[0] = records[0].model_copy(update={"config": config})
    (row,) = rows(*records)
    assert row["protocol"] == "fine_tune"
    assert row["base_lr"] == "0.01 / 0.1"
    assert row["iterations"] == "4 values, 100 … 400"
    assert row["train_size"] == "128 px"


def test_what_tells_nothing_is_no_row(transfer) -> None:
    assert rows(transfer().model_copy(update={"recipe": None})) == []
