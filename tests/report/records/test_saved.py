"""Which saved detections stand for a row, and why there are none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rexdet.cli import execute
from rexdet.coco.annotations import read_annotations
from rexdet.report.records import saved
from rexdet.report.records.reading import read
from rexdet.report.tables.summary import Summary, summarise_runs
from rexdet.runs import Network


def summary_of(*paths: Path) -> Summary:
    return summarise_runs(read(paths), with_costs=False, resamples=100)


@pytest.fixture
def three_seeds(saved_runs) -> list[Path]:
    """Runs of one row; of the first seed the record alone is here."""
    folders = [saved_runs.run(f"runs/seed{seed}", saved_runs.detections(seed, 0.6), seed=seed) for seed in range(3)]
    (folders[0] / "detections.json").unlink()
    return folders


def test_the_first_seed_whose_detections_are_here_stands_for_a_row(three_seeds) -> None:
    summary = summary_of(three_seeds[0].parent)
    found, notes = summary.saved
    assert [one.run.record.seed for one in found] == [1]
    assert notes == []
    table = summary.table("errors")
    (row,) = table.rows
    assert row.cells[[column.key for column in table.columns].index("run")].text == "runs/seed1"
    assert "the first seed whose detections are here" in " ".join(table.notes)


def test_a_seed_that_cannot_be_shown_gives_its_place_to_the_next(saved_runs, three_seeds) -> None:
    saved_runs.detections(9, 0.9).save(three_seeds[1] / "detections.json")
    found, notes = summary_of(three_seeds[0].parent).saved
    assert [one.run.record.seed for one in found] == [2]
    assert notes == []
    (three_seeds[2] / "detections.json").unlink()
    found, (note,) = summary_of(three_seeds[0].parent).saved
    assert found == []
    assert "seed1 are not shown" in note
    assert "no longer give the AP" in note


def test_annotations_that_were_changed_are_told_though_the_ap_is_the_same(saved_runs, two_runs) -> None:
    saved_runs.annotations.write_text(json.dumps({**saved_runs.content, "info": {"changed": True}}))
    found, notes = summary_of(*two_runs).saved
    assert found == []
    assert len(notes) == 2
    assert all("val.json: is not the annotation file that it was scored on" in note for note in notes)


def test_annotations_are_read_once_for_all_runs(two_runs, monkeypatch) -> None:
    read_files: list[Path] = []

    def count(path, **options):
        read_files.append(path)
        return read_annotations(path, **options)

    monkeypatch.setattr(saved, "read_annotations", count)
    assert len(summary_of(*two_runs).saved[0]) == 2
    assert len(read_files) == 1


def test_a_path_that_no_disk_takes_costs_one_run_alone(saved_runs, two_runs) -> None:
    path = two_runs[0] / "record.json"
    values = json.loads(path.read_text())
    values["data"]["val"]["path"] = "x" * 300
    path.write_text(json.dumps(values))
    found, (note,) = summary_of(*two_runs).saved
    assert [one.run.record.name for one in found] == ["strong"]
    assert "the annotation file is not here" in note


@pytest.mark.parametrize("table", ["errors", "intervals", "thresholds"])
def test_a_table_with_nothing_to_show_says_why(saved_runs, two_runs, capsys, table) -> None:
    shutil.move(saved_runs.annotations, saved_runs.folder / "moved.json")
    assert execute("summarize", [*map(str, two_runs), "--no-costs", "--table", table]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "detections of weak are not shown" in said
    assert "the annotation file is not here" in said


def test_a_table_that_shows_a_part_says_what_is_missing(two_runs, capsys) -> None:
    (two_runs[0] / "detections.json").unlink()
    assert execute("summarize", [*map(str, two_runs), "--no-costs", "--table", "errors"]) == 0
    said = capsys.readouterr().out
    assert "strong" in said
    assert "detections of weak are not shown" in said


@pytest.mark.parametrize("text", ["[" * 200_000, '[{"image_id": ' + "9" * 5000 + ', "category_id": 1}]', "[1, 2"])
@pytest.mark.parametrize("which", ["detections", "annotations"])
def test_a_damaged_file_costs_one_run_alone(saved_runs, two_runs, capsys, which, text) -> None:
    if which == "detections":
        damaged = two_runs[0] / "detections.json"
    else:
        other = saved_runs.write_annotations("other.json", saved_runs.content)
        saved_runs.run("weak", saved_runs.detections(1, 0.5), annotations=other)
        damaged = other
    damaged.write_text(text)
    assert execute("summarize", [*map(str, two_runs), "--no-costs", "--table", "errors"]) == 0
    said = capsys.readouterr().out
    assert "strong" in said
    assert f"detections of weak are not shown: {damaged}" in said


@pytest.fixture
def with_frozen(saved_runs) -> tuple[Path, Path]:
    """Two runs of one checkpoint: of the second the backbone stood still."""
    network = Network(name="rexnet_1.0", sha256="a" * 64, norm="BN", freeze_at=5)
    return (
        saved_runs.run("runs/learnt", saved_runs.detections(1, 0.6)),
        saved_runs.run("runs/frozen", saved_runs.detections(2, 0.6), network=network),
    )


@pytest.mark.parametrize("name", ["intervals", "errors", "thresholds"])
def test_a_backbone_that_stood_still_is_a_row_of_its_own(with_frozen, name) -> None:
    table = summary_of(*with_frozen).table(name)
    places = [[column.key for column in table.columns].index(key) for key in ("network", "run")]
    told = {tuple(row.cells[place].text for place in places) for row in table.rows}
    assert told == {("rexnet_1.0", "runs/learnt"), ("rexnet_1.0 frozen", "runs/frozen")}
    assert len({row.key for row in table.rows}) == len(table.rows)


def test_a_backbone_that_stood_still_is_shown_alone(with_frozen, capsys) -> None:
    assert execute("summarize", [str(with_frozen[1]), "--no-costs", "--table", "errors"]) == 0
    assert "rexnet_1.0 frozen" in capsys.readouterr().out


def test_rows_beyond_the_most_are_told(with_frozen) -> None:
    found, notes = saved.saved_runs(summary_of(*with_frozen).groups, most=1)
    (one,) = found
    left = "rexnet_1.0" if one.is_frozen else "rexnet_1.0 frozen"
    assert notes == [f"detections of {left}: only those of 1 runs are shown"]


def test_a_detector_that_is_in_no_table_is_not_said_to_be_none(saved_runs, capsys) -> None:
    run = saved_runs.run("runs/killed", saved_runs.detections(1, 0.6), status="killed")
    assert execute("summarize", [str(run), "--no-costs", "--table", "errors"]) == 2
    said = capsys.readouterr().err
    assert "it was killed" in said
    assert "No run of a detector is in a table." in said


def test_no_resamples_and_no_detector_are_reasons_too(two_runs, transfer, written, capsys) -> None:
    words = [str(two_runs[0]), "--no-costs", "--table", "intervals", "--resamples", "0"]
    assert execute("summarize", words) == 2
    assert "--resamples 0 leaves the table intervals out" in capsys.readouterr().err
    assert execute("summarize", [str(written(transfer())), "--no-costs", "--table", "errors"]) == 2
    assert "No run of a detector is among them." in capsys.readouterr().err
