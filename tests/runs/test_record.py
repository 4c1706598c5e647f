"""The record: what it accepts, and what reading one says when it cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rexdet.coco.evaluate import KEYS
from rexdet.errors import UserError
from rexdet.runs import (
    COCO_KEYS,
    Data,
    DataSplit,
    Finding,
    Network,
    Pixels,
    Recipe,
    RunRecord,
    TimeShare,
    WeightsFile,
    differences,
    read_record,
    write_record,
)

SHA = "0123456789abcdef" * 4


def full_record() -> RunRecord:
    """A record in which every part is filled."""
    return RunRecord(
        kind="detection",
        name="retinanet",
        engine="detectron2",
        status="done",
        config="MODEL:\n  DEVICE: cpu\n",
        seed=3,
        network=Network(
            name="rexnet_1.0",
            overrides={"drop_path": 0.1},
            sha256=SHA,
            source="rexnet_1.0@nav_in1k",
            layout="timm",
            pixels=Pixels(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], order="RGB", range=1),
            pixels_known_by="sha",
            licence="MIT",
            norm="FrozenBN",
            freeze_at=2,
        ),
        data=Data(
            train=DataSplit(
                path="a.json",
                images=5,
                annotations=9,
                classes=["cat", "dög"],
                fingerprint=SHA,
                findings=[Finding(action="mend", code="box_outside", message="boxes past the border", count=2)],
                limited=True,
            )
        ),
        recipe=Recipe(effective_batch=16, per_process_batch=4, world_size=2, accumulation=2, base_lr=0.01),
        metrics={"bbox": {**dict.fromkeys(COCO_KEYS, 0.25), "APs": None}},
        per_class={"bbox": {"cat": {"AP": 0.5}, "dög": {"AP": None}}},
        evaluated_weights=WeightsFile(file="model_final.pth", holds="ema", iteration=20),
        time_share=TimeShare(data=0.1, backbone=0.4, neck_and_heads=0.4, evaluation=0.05, other=0.05),
        files={"weights": "model_final.pth", "pictures": "pictures/"},
    )


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = full_record()
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert read_record(tmp_path / "record.json") == record


def test_the_file_is_plain_json_in_the_order_of_the_schema(tmp_path: Path) -> None:
    write_record(tmp_path, full_record())
    values = json.loads((tmp_path / "record.json").read_text())
    assert list(values) == list(RunRecord.model_fields)
    assert values["metrics"]["bbox"]["APs"] is None
    assert values["created"].endswith("Z")
    assert values["data"]["val"] is None


def test_the_coco_keys_are_those_of_the_evaluator() -> None:
    assert COCO_KEYS == KEYS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metrics", {"accuracy": {"top1": float("nan")}}),
        ("metrics", {"accuracy": {"top1": float("inf")}}),
        ("metrics", {"bbox": {"AP": 0.5}}),
        ("metrics", {"bbox": dict.fromkeys(COCO_KEYS, -1.0)}),
        ("metrics", {"bbox": dict.fromkeys(COCO_KEYS, 37.2)}),
        ("status", "finished"),
        ("kind", "segmentation"),
        ("seed", -1),
        ("seed", 2**64),
        ("per_class", {"bbox": {"cat": {"AP": -1.0}}}),
        ("per_class", {"segm": {"cat": {"AP50": 37.2}}}),
        ("per_class", {"test": {"cat": {"top1": -1.0}}}),
        ("evaluations", [{"iteration": 1, "holds": "raw", "metrics": {"bbox": {"AP": -1.0}}}]),
        ("evaluations", [{"iteration": 1, "holds": "raw", "metrics": {"val": {"top1": 71.0}}}]),
        ("metrics", {"test": {"top1": -1.0}}),
        ("metrics", {"test_few_shot": {"mean_per_class": 71.0}}),
        ("network", {"name": "a", "overrides": {"depth": float("nan")}}),
        ("network", {"name": "a", "overrides": {"stages": [{"width": float("inf")}]}}),
        ("network", {"name": "a", "overrides": {"depth": 10**400}}),
        ("wall_time_s", float("nan")),
        ("files", {"weights": "/home/somebody/model.pth"}),
        ("files", {"weights": "../model.pth"}),
        ("created", "2026-11-25T10:00:00"),
        ("data", {"train": {"fingerprint": "abc"}}),
        ("data", {"training": None}),
    ],
)
def test_what_the_schema_does_not_know_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        RunRecord.model_validate({"kind": "detection", "name": "a", field: value})
    record = RunRecord(kind="detection", name="a")
    with pytest.raises(ValidationError):
        setattr(record, field, value)


def test_the_largest_seed_and_shares_at_their_ends_are_accepted() -> None:
    record = RunRecord(
        kind="detection",
        name="a",
        seed=2**64 - 1,
        per_class={"bbox": {"cat": {"AP": 0.0, "AP50": 1.0, "AP75": None}}},
        network=Network(name="a", overrides={"depth": 2**53, "shape": [1, {"x": -0.5}], "none": None, "on": True}),
    )
    assert RunRecord.model_validate(record.as_json()) == record


def test_numbers_of_other_groups_are_free() -> None:
    record = RunRecord(kind="transfer", name="pets", metrics={"test": {"top1": 0.93, "loss": 3.5}})
    assert record.metrics["test"]["loss"] == 3.5


def test_a_batch_that_contradicts_its_factors_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"effective_batch 16 is not .* = 8"):
        Recipe(effective_batch=16, per_process_batch=4, world_size=2, accumulation=1)


def test_shares_that_add_up_to_more_than_the_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than 1"):
        TimeShare(data=0.6, backbone=0.6)


def test_a_table_row_is_keyed_by_the_origin_of_the_checkpoint() -> None:
    other = "f" * 64
    assert Network(name="rexnet_1.0").key == ("rexnet_1.0", None)
    assert Network(name="rexnet_1.0", sha256=SHA).key == ("rexnet_1.0", SHA)
    assert Network(name="rexnet_1.0", sha256=SHA, origin_sha256=other).key == ("rexnet_1.0", other)


def test_differences_name_what_the_published_recipe_states_otherwise() -> None:
    published = Recipe(effective_batch=16, base_lr=0.01, warm_up="linear, 1000 steps", iterations=90000, ema=None)
    actual = Recipe(effective_batch=2, base_lr=0.00125, warm_up="linear, 1000 steps", iterations=90000, ema=0.999)
    actual.schedule = "steps at 60000, 80000"
    assert differences(actual, published) == [
        "effective_batch 2 instead of 16",
        "base_lr 0.00125 instead of 0.01",
        "ema 0.999 instead of none",
    ]
    assert differences(published, published) == []


def test_how_a_batch_is_divided_is_no_difference() -> None:
    one = Recipe(effective_batch=16, per_process_batch=16, world_size=1, accumulation=1, base_lr=0.01)
    eight = Recipe(effective_batch=16, per_process_batch=2, world_size=8, accumulation=1, base_lr=0.01)
    assert differences(eight, one) == []


def _with(**changes: Any) -> str:
    return json.dumps({**full_record().as_json(), **changes})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not JSON"),
        (b'{"kind": "detection"', "not JSON"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"wall_time_s": NaN}', "NaN is no JSON number"),
        (b"[]", "not a record of a run"),
        (b"{}", "kind: Field required (and 1 more)"),
        (_with(schema_version=2).encode(), "schema version 2, this rexdet reads up to 1"),
        (_with(schema_version="1").encode(), "schema_version"),
        (_with(status="paused").encode(), "status: "),
        (_with(colour="red").encode(), "colour: Extra inputs are not permitted"),
    ],
)
def test_an_unreadable_record_is_one_line_that_names_the_file(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_record(tmp_path)
    message = str(caught.value)
    assert expected in message
    assert str(tmp_path / "record.json") in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["", "missing", "a_file/deeper"])
def test_a_missing_record_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(UserError, match=r"no record of a run here; name the folder that --output named"):
        read_record(tmp_path / name)


def test_the_room_loads_neither_torch_nor_numpy(repository: Path) -> None:
    code = "import sys, rexdet.runs; print(sorted({'torch', 'numpy', 'rexdet.coco'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    # The package itself may load torch; what this room adds to it must load nothing.
    code = "import sys, rexdet; print(sorted({'torch', 'numpy', 'rexdet.coco'} & set(sys.modules)))"
    package = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout == package.stdout
