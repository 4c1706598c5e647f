"""Latencies of any networks, measured in turn, reach the tables by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rexdet.bench import latency
from rexdet.cli import execute
from rexdet.report.records.reading import read
from rexdet.report.tables.costs import latencies

NAMES = ["resnet8b_cifar", "nm2:1/resnet8b_cifar"]


def test_every_network_has_every_back_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    run = latency.run
    monkeypatch.setattr(latency, "run", lambda names, **more: run(names, batches=(1, 2), **more))
    words = ["latency", "--network", ",".join(NAMES), "--quick", "--rounds", "2", "--record", str(tmp_path), "--json"]
    assert execute("benchmark", words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["network"] for row in rows} == set(NAMES)
    assert len(rows) == 12
    found = latencies(read([tmp_path]).runs)
    assert set(found) == set(NAMES)
    for entries in found.values():
        assert {entry.batch for entry in entries} == {1, 2}
        assert all(entry.milliseconds > 0 for entry in entries)
    # Nothing is measured for a folder that holds a record already.
    monkeypatch.setattr(latency, "run", lambda names, **more: pytest.fail("measured"))
    assert execute("benchmark", words) == 2
    assert "holds a finished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "told"), [("resnet8b_cifar,resnet8b_cifar", "named twice"), ("resnet8b_cifer", "resnet8b_cifer")]
)
def test_names_that_cannot_be_are_one_line(capsys, network: str, told: str) -> None:
    assert execute("benchmark", ["latency", "--network", network]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
