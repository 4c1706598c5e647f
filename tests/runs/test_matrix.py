"""A matrix of runs: what is done stays, what fails stops nobody, and the order is that of the cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rexdet.errors import UserError
from rexdet.runs import RunRecord, matrix, write_record


def compute(output: Path, cell: str) -> RunRecord:
    if cell == "bad":
        raise UserError("cannot be done")
    record = RunRecord(kind="transfer", name=cell, status="done", metrics={"test": {"top1": len(cell) / 10}})
    write_record(output / cell, record)
    return record


def run(cells: list[str], output: Path, **changes) -> matrix.Outcome[str]:
    return matrix.run_cells(
        cells, changes.pop("compute", partial(compute, output)), folder=lambda cell: output / cell, **changes
    )


def test_a_finished_cell_stays_and_a_failed_one_stops_nobody(tmp_path: Path, capsys) -> None:
    first = run(["one", "bad", "three"], tmp_path, progress=False)
    assert list(first.records) == ["one", "three"]
    assert first.failures == {"bad": "cannot be done"}
    asked = []

    def again(cell: str) -> RunRecord:
        asked.append(cell)
        return compute(tmp_path, cell)

    second = run(["three", "bad", "four", "one"], tmp_path, compute=again, progress=False)
    assert asked == ["bad", "four"]
    assert list(second.records) == ["three", "four", "one"]
    assert second.records["one"] == first.records["one"]
    assert "bad: failed: cannot be done" in capsys.readouterr().err


def test_an_unfinished_record_is_computed_again(tmp_path: Path) -> None:
    write_record(tmp_path / "one", RunRecord(kind="transfer", name="one", status="failed"))
    assert matrix.finished(tmp_path / "one") is None
    assert run(["one"], tmp_path, progress=False).records["one"].status == "done"
    assert matrix.finished(tmp_path / "one") is not None


def test_processes_change_nothing_but_the_time(tmp_path: Path) -> None:
    cells = ["aaaa", "bad", "c", "dd"]
    alone = run(cells, tmp_path / "alone", progress=False)
    several = run(cells, tmp_path / "several", progress=False, workers=matrix.Workers(2))
    assert list(several.records) == list(alone.records)
    assert several.failures == alone.failures
    assert [record.metrics for record in several.records.values()] == [r.metrics for r in alone.records.values()]


def test_the_key_hangs_on_content_and_not_on_order() -> None:
    key = matrix.content_key({"a": 1, "b": [1, 2]})
    assert key == matrix.content_key({"b": [1, 2], "a": 1})
    assert len({key, matrix.content_key({"a": 1, "b": [2, 1]}), matrix.content_key({"a": 1})}) == 3
    assert len(key) == matrix.KEY_DIGITS
    assert matrix.folder_name("nm2:1/net@tag", "seed0") == "nm2_1_net_tag-seed0"
