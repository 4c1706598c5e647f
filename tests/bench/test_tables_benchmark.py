"""The benchmark of the tables runs, and what it summarises is worth a table; how fast anything is, no test asks."""

from __future__ import annotations

import json

import pytest

from rexdet.bench.tables import WAYS, make_records
from rexdet.cli import execute
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found, merge, parse


def test_every_way_is_timed_as_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("benchmark", ["tables", "--records", "12", "--rounds", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in rows] == list(WAYS)
    for row in rows:
        assert row["records"] == 12
        assert row["seconds"] > 0
        # Another process's time: a process that fails at once takes less than it does to import anything.
        assert row["processor seconds"] > 0.1


def test_the_records_are_many_seeds_of_many_cells() -> None:
    records = list(make_records(2_000))
    assert records == list(make_records(2_000))
    found = [Found(parse(record.model_dump_json().encode()), record.name) for record in records]
    assert len(merge(found)) == 2_000
    groups = group(found)
    assert groups.left_out == []
    # Eight networks, each from a checkpoint and from random weights, in three detectors.
    assert len(groups.detection) == 48
    assert len(groups.transfer) == 240
    assert min(len(one.runs) for one in groups.detection.values()) >= 10
    assert {len(one.seeds) == len(one.runs) for one in groups.transfer.values()} == {True}


def test_too_few_records_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("benchmark", ["tables", "--records", "0"]) == 2
    assert "--records is 0" in capsys.readouterr().err
