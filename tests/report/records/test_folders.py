"""Which files of a folder are read: links, ledgers by any name, odd bytes; and what cannot be read is named."""

from __future__ import annotations

import json
import os
import sys

import pytest

from rexdet.errors import UserError
from rexdet.report.records.reading import publish, read, write_ledger
from rexdet.runs import RunRecord, write_record


def line(record: RunRecord) -> bytes:
    return json.dumps(record.as_json()).encode()


def test_a_byte_order_mark_costs_no_record(transfer, tmp_path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(
        b"\xef\xbb\xbf" + line(transfer(0.9)) + b"\r\n\r\n" + line(transfer(0.8, 1))
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_bytes(b"\xef\xbb\xbf" + line(transfer(0.7, 2)))
    found = read([tmp_path])
    assert sorted(one.record.seed or 0 for one in found.runs) == [0, 1, 2]
    assert found.skipped == ()


def test_linked_run_folders_are_read_and_circles_end(transfer, tmp_path) -> None:
    real = tmp_path / "elsewhere" / "run"
    real.mkdir(parents=True)
    write_record(real, transfer())
    named = tmp_path / "named"
    named.mkdir()
    (named / "link").symlink_to(real)
    (named / "again").symlink_to(real)
    (named / "circle").symlink_to(named)
    (real / "up").symlink_to(tmp_path)
    found = read([named])
    assert len(found.runs) == 1
    # One folder, however many links lead to it.
    assert found.repeated == 0


def test_a_ledger_is_known_by_what_stands_in_it(transfer, written, tmp_path) -> None:
    folder = tmp_path / "ledgers"
    folder.mkdir()
    (folder / "this-machine.jsonl").write_bytes(b"\n  \n" + line(transfer(0.9)) + b"\nno record\n")
    (folder / "newer.jsonl").write_bytes(b'{"schema_version": 99, "kind": "detection"}\n')
    (folder / "cut.jsonl").write_bytes(line(transfer(0.8, 1))[:400])
    (folder / "my-ledger.jsonl").write_bytes(b"broken\n")
    (folder / "metrics.jsonl").write_bytes(b'{"loss": 1.0, "kind": "train"}\n')
    (folder / "nested.jsonl").write_bytes(b'[{"schema_version": 1, "kind": "detection"}]\n')
    (folder / "empty.jsonl").write_bytes(b"\n\n")
    found = read([folder])
    assert len(found.runs) == 1
    assert sorted(where.rpartition("/")[2] for where, _ in found.skipped) == [
        "cut.jsonl:1",
        "my-ledger.jsonl:1",
        "newer.jsonl:1",
        "this-machine.jsonl:4",
    ]


def test_the_log_of_a_runs_steps_is_not_opened(transfer, written, monkeypatch) -> None:
    runs = written(transfer())
    (runs / "0" / "steps.jsonl").write_text('{"step": 1}\n')
    (runs / "0" / "steps.rank1.jsonl").write_text('{"step": 1}\n')
    opened: list[str] = []
    monkeypatch.setattr("rexdet.report.records.reading._is_ledger", lambda file: bool(opened.append(file.name)))
    assert len(read([runs]).runs) == 1
    assert opened == []


def test_a_folder_that_may_not_be_looked_into_is_named(transfer, written, monkeypatch) -> None:
    runs = written(transfer(0.9), transfer(0.8, 1))
    look = os.scandir

    def refuse(path):
        if str(path).endswith("/1"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    # The tests may run as root, who is refused nothing.
    monkeypatch.setattr(os, "scandir", refuse)
    found = read([runs])
    assert len(found.runs) == 1
    assert found.skipped == ((f"{runs}/1", "cannot be read: Permission denied"),)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux")
def test_names_that_are_no_text_are_shown_as_escapes(transfer, tmp_path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.makedirs(folder + b"/run")
    os.makedirs(folder + b"/broken")
    with open(folder + b"/run/record.json", "wb") as file:
        file.write(line(transfer()))
    with open(folder + b"/broken/record.json", "wb") as file:
        file.write(b"{")
    found = read([os.fsdecode(folder)])
    assert found.runs[0].where.endswith("/caf\\xe9/run/record.json")
    assert found.runs[0].folder is not None
    assert found.runs[0].folder.is_dir()
    ((where, _),) = found.skipped
    assert where.endswith("/caf\\xe9/broken/record.json")
    assert (found.runs[0].where + where).isprintable()


def test_a_name_that_no_disk_takes_is_one_line() -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read(["x" * 300])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seed": 10**400}, "not JSON"),
        ({"seed": 2**64}, "seed: Input should be less than"),
        ({"network": {"name": "x", "overrides": {"a": float("nan")}}}, "not JSON"),
        ({"network": {"name": "x", "overrides": {"a": {"b": [10**30]}}}}, "a holds NaN, infinity or an integer beyond"),
        ({"metrics": {"test": {"top1": -1.0}}}, "test top1 is -1.0"),
        ({"metrics": {"test_knn": {"mean_per_class": 93.0}}}, "test_knn mean_per_class is 93.0"),
        ({"per_class": {"bbox": {"cat": {"AP": -1.0}}}}, "class 'cat': bbox AP is -1.0"),
        ({"evaluations": [{"iteration": 1, "holds": "raw", "metrics": {"bbox": {"AP": -1}}}]}, "bbox AP is -1"),
    ],
)
def test_one_odd_record_is_skipped_and_costs_no_other(transfer, tmp_path, changes, why) -> None:
    for name, values in (("good", transfer(0.9).as_json()), ("odd", {**transfer(0.8, 1).as_json(), **changes})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(json.dumps(values))
    found = read([tmp_path])
    assert [one.record.seed for one in found.runs] == [0]
    ((where, reason),) = found.skipped
    assert where.endswith("odd/record.json")
    assert why in reason
    write_ledger(found.runs, tmp_path / "ledger.jsonl")
    assert publish(found.runs, tmp_path / "kept") == 1


def test_what_is_no_share_may_be_any_number(transfer) -> None:
    record = transfer(metrics={"test": {"top1": 0.9, "loss": 4.5}, "network": {"macs": 4e8}, "latency": {"ms": 12.5}})
    assert RunRecord.model_validate(record.as_json()) == record
