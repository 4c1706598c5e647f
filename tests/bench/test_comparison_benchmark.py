"""The benchmark of comparisons runs, and what it compares differs; how fast anything is, no test asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexdet.bench.comparison import WAYS, make_runs
from rexdet.cli import execute
from rexdet.runs import read_record


def test_every_way_is_timed_as_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("benchmark", ["comparison", "--images", "12", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in rows] == list(WAYS)
    for row in rows:
        assert (row["images"], row["detections"]) == (12, 996)
        assert row["processor seconds"] > 0.1


def test_the_second_run_is_the_worse_one(tmp_path: Path) -> None:
    assert make_runs(tmp_path, 50) == 4_150
    one, other = (read_record(tmp_path / name).metrics["bbox"]["AP"] for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert 0.05 < other < one < 0.95


def test_too_few_images_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("benchmark", ["comparison", "--images", "0"]) == 2
    assert "--images is 0" in capsys.readouterr().err
