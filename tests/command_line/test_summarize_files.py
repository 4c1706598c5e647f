"""Which files tools/summarize.py writes, and targets that it cannot write: told before anything is computed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rexdet.cli import execute
from rexdet.report.records import reading
from rexdet.runs import COCO_KEYS, Data, DataSplit, Network, RunRecord, write_record

Summarize = Callable[..., tuple[int, str, str]]


def record(number: int, **changes: object) -> RunRecord:
    fields: dict[str, object] = {
        "kind": "detection",
        "name": f"run{number}",
        "status": "done",
        "seed": number,
        "network": Network(name="rexnet_1.0", sha256="a" * 64, source="rexnet_1.0@nav_in1k"),
        "data": Data(train=DataSplit(path="train.json"), val=DataSplit(path="val.json")),
        "metrics": {"bbox": dict.fromkeys(COCO_KEYS, 0.25)},
    }
    return RunRecord.model_validate({**fields, **changes})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with two runs, a file, an empty folder."""
    for number in range(2):
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
        write_record(tmp_path / "runs" / str(number), record(number))
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def summarize(here: Path, capsys: pytest.CaptureFixture[str]) -> Summarize:
    def run(*words: str) -> tuple[int, str, str]:
        status = execute("summarize", [*words, "--no-costs"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--csv", "folder"), "--csv folder: is a folder"),
        (("--latex", "folder"), "--latex folder: is a folder"),
        (("--ledger", "folder"), "--ledger folder: is a folder"),
        (("--markdown", "folder"), "--markdown folder: is a folder"),
        (("--html", "folder"), "--html folder: is a folder"),
        (("--csv", ""), "is a folder"),
        (("--csv", "file/x.csv"), "file is a file, and nothing lies below one"),
        (("--csv", "file/deep/x.csv"), "file is a file, and nothing lies below one"),
        (("--output", "file"), "--output file: is a file"),
        (("--output", "file/deep"), "file is a file, and nothing lies below one"),
        (("--publish", "file"), "--publish file: is a file"),
        (("--csv", "x" * 300), "cannot be written: File name too long"),
        # The file that is written first has a longer name.
        (("--csv", "x" * 250), "cannot be written: File name too long"),
        (("--output", "x" * 300), "cannot be written: File name too long"),
        (("--output", ""), "--output is empty"),
        (("--publish", ""), "--publish is empty"),
        (("--csv", "/dev/null"), "is no regular file"),
        (("--csv", "a", "--markdown", "./a"), "--csv and --markdown name the same file"),
        (("--pictures", "nan"), "--pictures is nan"),
        (("--pictures", "inf"), "--pictures is inf"),
        (("--resamples", "3"), "give 100 to 100,000, 0 for none"),
        (("--resamples", "99"), "give 100 to 100,000, 0 for none"),
        (("--resamples", "-1"), "give 100 to 100,000, 0 for none"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_read(
    summarize: Summarize, here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], line: str
) -> None:
    monkeypatch.setattr(reading, "read", lambda paths: pytest.fail("read"))
    before = sorted(here.rglob("*"))
    status, out, err = summarize("runs", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert line in err
    assert sorted(here.rglob("*")) == before
    assert (here / "file").read_text() == "kept"


def test_a_folder_that_may_not_be_written_to(summarize: Summarize, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "folder")
    for option in ("--csv", "--output"):
        status, _, err = summarize("runs", option, "folder/x")
        assert (status, err.count("\n")) == (2, 1)
        assert "folder may not be written to" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--update", "missing.md"), "missing.md: cannot be read"),
        (("--check", "missing.md"), "missing.md: cannot be read"),
        (("--update", "folder"), "is a folder"),
        (("--check", "folder"), "cannot be read: Is a directory"),
        (("--check", "bytes.md"), "bytes.md: is no text in UTF-8"),
        (("--update", "bytes.md"), "bytes.md: is no text in UTF-8"),
        (("--check", "quote.md"), "quote.md:1: a mark cannot be followed: No closing quotation"),
        (("--check", "none.md"), "none.md:1: a mark cannot be followed: the following arguments are required: runs"),
        (("x" * 300,), "no such file or folder"),
    ],
)
def test_pages_that_cannot_be_kept(summarize: Summarize, here: Path, words: tuple[str, ...], line: str) -> None:
    (here / "bytes.md").write_bytes(b"\xff\xfe<!-- begin")
    (here / "quote.md").write_text("<!-- begin: tools/summarize.py runs --table 'x -->\n<!-- end -->\n")
    (here / "none.md").write_text("<!-- begin: tools/summarize.py --table networks -->\n<!-- end -->\n")
    status, out, err = summarize(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_csv_is_the_table_of_networks_unless_another_is_named(summarize: Summarize, here: Path) -> None:
    # With a second network the table that answers which one has a row, and comes first.
    (here / "runs" / "2").mkdir()
    write_record(here / "runs" / "2", record(2, network=Network(name="resnet18", sha256="b" * 64)))
    status, out, _ = summarize("runs", "--csv", "a.csv")
    assert status == 0
    assert out.index("Which one?") < out.index("Networks")
    with open("a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == ["resnet18", "rexnet_1.0"]
    assert rows[1]["ImageNet_top_1_percent"]
    assert summarize("runs", "--csv", "b.csv", "--table", "detection", "--table", "networks")[0] == 0
    assert "AP_percent" in (here / "b.csv").read_text()


def test_csv_of_a_table_without_rows_is_refused_and_writes_nothing(summarize: Summarize, here: Path) -> None:
    words = ("--csv", "a.csv", "--markdown", "a.md", "--table", "searches", "--table", "detection")
    status, _, err = summarize("runs", *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "--csv a.csv: the table searches has no row" in err
    assert not (here / "a.csv").exists()
    assert not (here / "a.md").exists()


def test_runs_that_are_in_no_table_are_taken_elsewhere_all_the_same(summarize: Summarize, here: Path) -> None:
    for number in range(2):
        write_record(here / "runs" / str(number), record(number, status="failed"))
    assert summarize("runs")[0] == 2
    status, out, _ = summarize("runs", "--ledger", "all.jsonl")
    assert status == 0
    assert "2 runs read." in out
    assert len((here / "all.jsonl").read_text().splitlines()) == 2


def test_a_ledger_that_was_named_as_one_likes_is_found_in_its_folder(summarize: Summarize, here: Path) -> None:
    assert summarize("runs", "--ledger", "folder/this-machine.jsonl")[0] == 0
    status, out, _ = summarize("folder")
    assert status == 0
    assert "2 runs read." in out


def test_one_odd_record_costs_no_other(summarize: Summarize, here: Path) -> None:
    values = record(2).as_json()
    values["network"]["overrides"] = {"a": float("nan")}
    (here / "runs" / "odd").mkdir()
    (here / "runs" / "odd" / "record.json").write_text(json.dumps(values))
    status, out, _ = summarize("runs", "--ledger", "all.jsonl", "--publish", "kept", "--output", "out")
    assert status == 0
    assert "skipped: runs/odd/record.json" in out
    assert len(list((here / "kept" / "records").iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes there")
def test_a_folder_whose_name_is_no_text_is_shown_with_escapes(summarize: Summarize, here: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    os.rename("runs", odd)
    status, out, _ = summarize(odd, "--table", "runs", "--csv", f"{odd}/a.csv", "--html", "a.html")
    assert status == 0
    assert "written: caf\\xe9/a.csv" in out
    with open(os.fsencode(f"{odd}/a.csv"), encoding="utf-8") as file:
        assert "caf\\xe9/0/record.json" in file.read()
