"""The record for people: the command that prints it, and the page that describes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexdet.cli import execute
from rexdet.runs import (
    COCO_KEYS,
    Data,
    DataSplit,
    Event,
    Failure,
    Finding,
    Network,
    PeriodicEvaluation,
    Pixels,
    Recipe,
    RunRecord,
    TimeShare,
    WeightsFile,
    read_record,
    write_record,
)
from rexdet.runs.describe import describe_record, schema_tables
from rexdet.runs.environment import collect_hardware, collect_versions, peak_memory
from rexdet.runs.parts import utc_now


def record() -> RunRecord:
    return RunRecord(
        kind="detection",
        name="retinanet",
        status="failed",
        engine="detectron2",
        command=["tools/train_det.py", "--config", "my configs/a.yaml"],
        config="SOLVER:\n  MAX_ITER: 6",
        seed=3,
        network=Network(
            name="rexnet_1.0",
            sha256="a" * 64,
            origin_sha256="b" * 64,
            source="rexnet_1.0@nav_in1k",
            pixels=Pixels(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], order="RGB", range=1),
            pixels_known_by="assumed",
        ),
        data=Data(
            train=DataSplit(
                path="a.json",
                images=5,
                annotations=9,
                classes=["cat"],
                limited=True,
                findings=[Finding(action="mend", code="outside", message="boxes past the border", count=2)],
            )
        ),
        recipe=Recipe(effective_batch=2, base_lr=0.00125, differs_from_recipe=["effective_batch 2 instead of 16"]),
        metrics={"bbox": {**dict.fromkeys(COCO_KEYS, 0.3721), "APs": None}},
        per_class={"bbox": {"cat": {"AP": 0.25, "AP50": None}}},
        partial=["1 of 5 images could not be read"],
        evaluated_weights=WeightsFile(file="model_final.pth", holds="ema", iteration=6),
        evaluations=[PeriodicEvaluation(iteration=3, holds="raw", metrics={})],
        images_per_second=12.345,
        time_share=TimeShare(data=0.1, backbone=0.5, neck_and_heads=0.2, evaluation=0.2, other=0.0),
        peak_memory=peak_memory(),
        events=[Event(time=utc_now(), code="unreadable_image", message="a.jpg: cut off", count=3)],
        files={"weights": "model_final.pth"},
        failure=Failure(type="FloatingPointError", message="not finite", step=3, loss_term="loss_cls", image_ids=[7]),
        versions=collect_versions(),
        hardware=collect_hardware(),
    )


def test_the_page_shows_what_a_reader_must_know() -> None:
    text = describe_record(record(), per_class=True, config=True)
    for expected in (
        "retinanet (detection, detectron2): failed",
        "FloatingPointError: not finite",
        "at step 3",
        "loss term loss_cls",
        "tools/train_det.py --config 'my configs/a.yaml'",
        "from rexnet_1.0@nav_in1k",
        "a" * 64,
        "converted from the file of SHA-256 " + "b" * 64,
        "known by: assumed",
        "only a part on purpose (limited)",
        "mend 2: boxes past the border",
        "differs from the published recipe in: effective_batch 2 instead of 16",
        "cat: AP 25.0, AP50 -",
        "1 of 5 images could not be read",
        "model_final.pth: averaged weights (EMA), last after 6 steps",
        "12.3 images/s",
        "backbone 50.0%",
        "a.jpg: cut off [unreadable_image, 3 times]",
        "MAX_ITER: 6",
    ):
        assert expected in text, expected
    lines = text.splitlines()
    heads = next(number for number, line in enumerate(lines) if line.startswith("bbox"))
    assert lines[heads].split()[1:] == list(COCO_KEYS[:6])
    assert lines[heads + 1].split() == ["37.2", "37.2", "37.2", "-", "37.2", "37.2"]


def test_a_record_of_which_hardly_anything_is_known_prints_too() -> None:
    text = describe_record(RunRecord(kind="transfer", name="a", metrics={"test": {"top1": 0.5}}))
    assert "a (transfer): running" in text
    assert "top1 0.5" in text
    assert "None" not in text


def test_the_command_prints_a_page_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "a", record())
    write_record(tmp_path / "b", RunRecord(kind="detection", name="other", status="done"))
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert execute("show_run", folders) == 0
    text = capsys.readouterr().out
    assert "retinanet (" in text
    assert "other (detection): done" in text
    assert execute("show_run", [folders[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_record(folders[0]).as_json()
    assert execute("show_run", [*folders, "--json"]) == 0
    assert [value["name"] for value in json.loads(capsys.readouterr().out)] == ["retinanet", "other"]


@pytest.mark.parametrize("arguments", [[], ["missing"]])
def test_the_command_answers_a_mistake_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("show_run", arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_every_field_of_every_part_says_what_it_means() -> None:
    schema = RunRecord.model_json_schema()
    for name, part in {"RunRecord": schema, **schema["$defs"]}.items():
        for field, of in part.get("properties", {}).items():
            assert of.get("description"), f"{name}.{field}"


def test_the_page_of_the_documentation_holds_the_schema_of_the_code(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs" / "records.md").read_text(encoding="utf-8")
    _, begin, rest = page.partition("<!-- begin: tools/show_run.py --schema -->\n")
    table, end, _ = rest.partition("<!-- end -->")
    assert begin
    assert end
    assert execute("show_run", ["--schema"]) == 0
    printed = capsys.readouterr().out
    assert printed == schema_tables()
    assert table.strip() == printed.strip(), "run tools/show_run.py --schema and put its output into docs/records.md"
