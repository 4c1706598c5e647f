"""tools/summarize.py as people call it."""

from __future__ import annotations

import csv
import json

import pytest

from rexdet.cli import execute
from rexdet.report.tables.summary import TABLES
from rexdet.runs import COCO_KEYS, Data, DataSplit, Network, RunRecord, write_record


@pytest.fixture
def runs(tmp_path):
    """Two runs of one checkpoint, one of which used a part of the training images."""
    for number, limited in enumerate((False, True)):
        record = RunRecord(
            kind="detection",
            name=f"run{number}",
            status="done",
            seed=number,
            network=Network(name="rexnet_1.0", sha256="a" * 64, source="rexnet_1.0@nav_in1k"),
            data=Data(train=DataSplit(path="train.json", limited=limited), val=DataSplit(path="val.json")),
            metrics={"bbox": dict.fromkeys(COCO_KEYS, 0.25)},
        )
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
        write_record(tmp_path / "runs" / str(number), record)
    return tmp_path / "runs"


def test_the_tables_are_printed_and_say_what_stays_out(runs, capsys) -> None:
    assert execute("summarize", [str(runs), "--no-costs"]) == 0
    said = capsys.readouterr().out
    assert "25.00" in said
    # ReXNet-1.0's published ImageNet accuracy, that of the checkpoint itself.
    assert "@nav_in1k" in said
    assert "2 runs read." in said
    assert "only a part of the training images was used on purpose; --partial shows it" in said


def test_costs_are_counted_with_their_rule(runs, capsys) -> None:
    assert execute("summarize", [str(runs), "--table", "networks", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    cells = table["rows"][0]["cells"]
    assert cells["parameters"]["value"] == pytest.approx(4.796873)
    assert cells["macs"]["value"] == pytest.approx(0.398, abs=1e-3)
    assert cells["imagenet"]["status"] == "published"
    assert "counted by execution" in " ".join(table["notes"])


def test_every_format_is_written_by_one_command(runs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert execute("summarize", [str(runs), "--no-costs", "--partial", "--output", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert {"index.html", "tables.md", "tables.tex", "networks.csv", "detection.csv", "runs.csv"} <= names
    with (out / "detection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # What was trained on a part of the images is a row of its own.
    assert [row["AP_percent"] for row in rows] == ["25.0", "25.0"]
    assert [row["AP_n"] for row in rows] == ["1", "1"]
    assert "written: " in capsys.readouterr().out


def test_single_files_a_ledger_and_back(runs, tmp_path, capsys) -> None:
    ledger = tmp_path / "all.jsonl"
    words = [str(runs), "--no-costs", "--csv", str(tmp_path / "a.csv"), "--ledger", str(ledger), "--table", "detection"]
    assert execute("summarize", words) == 0
    capsys.readouterr()
    assert execute("summarize", [str(ledger), str(runs), "--no-costs", "--csv", str(tmp_path / "b.csv")]) == 0
    assert "2 runs read, 2 more of them again" in capsys.readouterr().out
    assert "AP_percent" in (tmp_path / "a.csv").read_text()
    assert "ImageNet" in (tmp_path / "b.csv").read_text()


def test_published_records_are_the_same_runs_without_a_machine(runs, tmp_path, capsys) -> None:
    assert execute("summarize", [str(runs), "--no-costs", "--publish", str(tmp_path / "kept")]) == 0
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "kept" / "records").iterdir())]
    assert len(kept) == 2
    assert all(record["process"] is None and record["hardware"] is None for record in kept)
    capsys.readouterr()
    assert execute("summarize", [str(runs), str(tmp_path / "kept"), "--no-costs"]) == 0
    assert "2 runs read, 2 more of them again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no runs are named"),
        (["missing"], "no such file or folder"),
        (["{runs}", "--table", "nonsense"], "no table is called 'nonsense'"),
        (["{runs}", "--no-costs", "--sort", "nonsense"], "no column is called 'nonsense'"),
        (["{runs}", "--no-costs", "--columns", "AP"], "--columns are those of one table"),
        (["{runs}", "--no-costs", "--table", "detection", "--columns", "x"], "has no column 'x'"),
        (["{runs}", "--no-costs", "--table", "searches"], "nothing to show"),
        (["{runs}", "--pictures", "-1"], "--pictures is -1"),
        (["{runs}", "--beta", "0"], "--beta is 0"),
        (["--check", "missing.md"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(runs, capsys, words, line) -> None:
    assert execute("summarize", [word.format(runs=runs) for word in words]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_the_help_names_every_table(capsys) -> None:
    with pytest.raises(SystemExit):
        execute("summarize", ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"--table NAME {', '.join(TABLES)} (may be repeated" in said


def test_sorting_and_columns(runs, capsys) -> None:
    words = [str(runs), "--no-costs", "--partial", "--table", "detection", "--columns", "network,AP", "--sort", "AP"]
    assert execute("summarize", [*words, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert [column["key"] for column in table["columns"]] == ["network", "AP"]


def test_a_page_that_drifted_is_named_cell_by_cell(runs, tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    words = "runs --table detection --columns network,AP --no-costs"
    page.write_text(f"<!-- begin: tools/summarize.py {words} -->\n<!-- end -->\n")
    assert execute("summarize", ["--update", str(page)]) == 0
    assert execute("summarize", ["--check", str(page)]) == 0
    page.write_text(page.read_text().replace("25.00", "26.00"))
    capsys.readouterr()
    assert execute("summarize", ["--check", str(page)]) == 2
    said = capsys.readouterr()
    assert "row 'rexnet_1.0', column 'AP (%)': '26.00' stands there, the records say '25.00'" in said.out
    assert "1 cells are not what the records say" in said.err
