"""tools/study.py: a whole study in small, again from its records, and mistakes told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexdet.cli import execute


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("dark", "light"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(6):
                pixels = random.integers(0, 128, size=(8, 8, 3)) + (127 if name == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / split / name / f"{index}.png")
    protocol = tmp_path / "short.yaml"
    protocol.write_text(
        "name: short\nimage_size: 8\nsteps: 4\nbatch_size: 4\nlearning_rate: 0.05\nschedule: {kind: constant}\n"
    )
    return ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--protocol", str(protocol)]


def test_a_study_prints_its_tables_and_keeps_its_cells(arguments: list[str], tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    command = ["nm_relu", *arguments, "--seeds", "2", "--network", "plain3_cifar", "--processes", "1"]
    publish = ["--publish", str(tmp_path / "published")]
    assert execute("study", [*command, *publish]) == 0
    table = capsys.readouterr().out
    assert "2:1 - 1:1" in table
    records = sorted((tmp_path / "out" / "cells").glob("*/record.json"))
    assert len(records) == 6
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cells",
        "table.md",
        "table.json",
        "accuracy.png",
        "loss.png",
    }
    before = [path.stat().st_mtime_ns for path in records]
    assert execute("study", command) == 0
    assert [path.stat().st_mtime_ns for path in records] == before
    assert capsys.readouterr().out == table
    assert execute("study", ["nm_relu", "--records", str(tmp_path / "published"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["setting"] for row in values["settings"]] == ["1:1", "2:1", "3:2"]
    assert all(row["top1"]["count"] == 2 for row in values["settings"])
    text = (tmp_path / "published" / "records" / f"{records[0].parent.name}.json").read_text()
    assert json.loads(text)["process"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--seeds", "0"], "--seeds 0; give a number of at least 1"),
        (["--steps", "0"], "steps: Input should be greater than or equal to 1"),
        (["--network", "resnet8c_cifar"], "no network 'resnet8c_cifar'"),
        (["--ratio", "1:2"], "more activations than convolutions"),
        (["--data", "nowhere"], "no such folder of images"),
        (["--protocol", "kifar"], "there is no protocol 'kifar'"),
        (["--steps", "3", "--epochs", "1"], "not allowed with"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], capsys, change: list[str], told: str) -> None:
    assert execute("study", ["nm_relu", *arguments, "--network", "plain3_cifar", *change]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1


def test_what_is_missing_is_asked_for(capsys) -> None:
    assert execute("study", ["lwdna"]) == 2
    assert (
        capsys.readouterr().err.strip()
        == "error: a study needs --data and --output; or --records, to print tables only"
    )
