"""A suite: the matrix of a plan, one cell after the other or through a scheduler, failures told, nothing done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rexdet.cli import execute
from rexdet.runs import Event, RunRecord
from rexdet.studies import suite
from rexdet.studies.suite import Cell, plan_cells, read_plan

NETWORKS = ["resnet8b_cifar", "resnet20b_cifar"]


def write(folder: Path, **values: object) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"output": str(folder / "suite"), "networks": NETWORKS, **values}))
    return path


def tiny(data: Path, folder: Path) -> dict[str, object]:
    """A transfer entry of three steps on a folder."""
    recipe = {
        "name": "tiny", "source": "ours", "from_scratch": True, "image_size": 16, "steps": 3, "batch_size": 8,
        "learning_rate": 0.05, "schedule": {"kind": "cosine"},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return {"dataset": "folder", "data_root": str(data), "protocol": str(folder / "tiny.yaml")}


def test_the_matrix_is_seed_by_seed_and_a_search_is_one_cell(tmp_path: Path) -> None:
    plan = read_plan(
        write(
            tmp_path,
            networks=["rexnet_1.0@nav_in1k", {"name": "resnet50", "weights": "r50.pth", "pixels": "imagenet"}],
            seeds=2,
            transfer=[
                {"dataset": "pets", "protocol": "fine_tune_short"},
                {"dataset": "pets", "protocol": "from_scratch_short", "arguments": ["--epochs", "2"]},
            ],
            detection=[{"config": "retinanet_rexnet", "arguments": ["--data-root", "coco"]}],
        )
    )
    cells = plan_cells(plan)
    assert [(cell.kind, cell.network, cell.task, cell.seeds) for cell in cells if cell.network.startswith("rex")] == [
        ("transfer", "rexnet_1.0@nav_in1k", "pets fine_tune_short", (0, 1)),
        ("transfer", "rexnet_1.0", "pets from_scratch_short --epochs 2", (0,)),
        ("detection", "rexnet_1.0@nav_in1k", "retinanet_rexnet --data-root coco", (0,)),
        ("transfer", "rexnet_1.0", "pets from_scratch_short --epochs 2", (1,)),
        ("detection", "rexnet_1.0@nav_in1k", "retinanet_rexnet --data-root coco", (1,)),
    ]
    own = [" ".join(cell.command) for cell in cells if cell.network == "resnet50"]
    assert own[0] == (
        "transfer --seed 0 --seeds 2 --dataset pets --protocol fine_tune_short --network resnet50 --weights r50.pth "
        "--pixels imagenet"
    )
    # Random weights have no file, whatever the plan gives the network elsewhere.
    assert "--weights" not in own[1]
    assert len({cell.name for cell in cells}) == len(cells)
    assert cells[0].folders(Path("out"))[1] == Path("out") / "cells" / cells[0].name / "seed1"


@pytest.mark.parametrize(
    ("entry", "seeds"),
    [
        ({"dataset": "pets", "protocol": "knn"}, [(0,)]),
        ({"dataset": "pets", "protocol": "knn", "arguments": ["--from-scratch"]}, [(0,), (1,), (2,)]),
        # Flowers has images of its own to choose the penalty by; of Pets a share is drawn.
        ({"dataset": "flowers102", "protocol": "linear_probe"}, [(0,)]),
        ({"dataset": "pets", "protocol": "linear_probe"}, [(0,), (1,), (2,)]),
        ({"dataset": "pets", "protocol": "fine_tune_short"}, [(0, 1, 2)]),
    ],
)
def test_what_is_not_random_is_not_repeated(tmp_path: Path, entry: dict, seeds: list[tuple[int, ...]]) -> None:
    plan = read_plan(write(tmp_path, networks=["rexnet_1.0@nav_in1k"], seeds=3, transfer=[entry]))
    cells = plan_cells(plan)
    assert [cell.seeds for cell in cells] == seeds
    # Random weights have no tag.
    assert {cell.network for cell in cells} == {"rexnet_1.0" if "arguments" in entry else "rexnet_1.0@nav_in1k"}


def test_folds_are_records_of_one_cell(colours: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    entry = {**tiny(colours / "train", tmp_path), "arguments": ["--kfold", "2"]}
    plan = read_plan(write(tmp_path, networks=["resnet8b_cifar"], transfer=[entry]))
    (cell,) = plan_cells(plan)
    assert [folder.name for folder in cell.folders(Path("x"))] == ["fold0", "fold1"]
    assert execute("run_suite", [str(tmp_path / "plan.yaml"), "--no-hours"]) == 0
    told = capsys.readouterr().out
    assert told.count("| ours") == 1
    assert "everything, on each of 2 folds" in told
    assert execute("run_suite", [str(tmp_path / "plan.yaml"), "--no-hours"]) == 0
    assert "1 cells, 1 done" in capsys.readouterr().out


def test_torchrun_cells_are_torchrun_commands(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, torchrun=2, transfer=[{"dataset": "pets", "protocol": "knn"}]))
    command = suite.command_of(plan_cells(plan)[0], plan)
    assert command[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert command[6:9] == ["-m", "rexdet.cli", "transfer"]
    assert "--resume" in command


@pytest.mark.parametrize("scheduler", [None, {"cluster": "local", "parameters": {"timeout_min": 5}}])
def test_a_suite_runs_carries_on_after_a_failure_and_computes_nothing_twice(
    colours: Path, tmp_path: Path, scheduler: dict | None
) -> None:
    if scheduler is not None:
        pytest.importorskip("submitit", reason="submitit is not installed")
    entry = tiny(colours, tmp_path)
    plan = write(
        tmp_path,
        networks=["resnet8b_cifar"],
        transfer=[{**entry, "arguments": ["--batch-size", "1"]}, entry],
        scheduler=scheduler,
    )
    # In a process of its own: where submitit is imported, it sets up logging anew and closes the handlers of others.
    command = [sys.executable, "-m", "rexdet.cli", "run_suite", str(plan), "--no-hours"]
    environment = {**os.environ, "REXDET_CACHE": str(tmp_path / "cache")}

    def run() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
        assert done.returncode == 1, done.stderr[-2000:]
        return done.stdout

    told = run()
    assert told.index("not measured") < told.index("| ours")
    assert "2 cells, 0 done" in told
    assert f"failed: resnet8b_cifar | folder:{colours.name} tiny --batch-size 1 | seed 0: " in told
    assert "batch_size" in told
    assert told.count("| ours") == 1
    assert "| ours" in (tmp_path / "suite" / "table.md").read_text()
    (record,) = (tmp_path / "suite" / "cells").glob("*/record.json")
    before = record.read_bytes()
    assert "2 cells, 1 done" in run()
    assert record.read_bytes() == before


def test_the_hours_come_from_measured_steps(
    colours: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    plan = write(tmp_path, networks=["resnet8b_cifar"], seeds=2, transfer=[tiny(colours, tmp_path)])
    asked: list[Cell] = []

    def measured(cell: Cell) -> float:
        asked.append(cell)
        return 1.5

    monkeypatch.setattr(suite, "measure_hours", measured)
    assert execute("run_suite", [str(plan), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "2 cells, 0 done; 3.00 hours for the rest" in told
    # Cells that differ in their seed alone cost the same.
    assert len(asked) == 1
    assert not (tmp_path / "suite").exists()
    monkeypatch.undo()
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    hours = suite.measure_hours(asked[0])
    assert isinstance(hours, float)
    assert 0 < hours < 0.1


@pytest.mark.parametrize(
    ("text", "hours"), [("training  3 h 06 min for 5 steps", 3.1), ("x\ntraining         12 min 36 s for", 0.21)]
)
def test_a_detectors_dry_run_tells_hours(text: str, hours: float) -> None:
    assert suite._detection_hours(text) == pytest.approx(hours)
    assert suite._detection_hours("nothing") == "its dry run tells no duration"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"transfer": []}, "plans nothing"),
        ({"transfer": [{"dataset": "pets"}]}, "transfer.0.protocol"),
        ({"seeds": 0, "transfer": [{"dataset": "pets", "protocol": "knn"}]}, "seeds"),
        ({"sheduler": {}, "transfer": [{"dataset": "pets", "protocol": "knn"}]}, "sheduler"),
        ({"networks": [], "transfer": [{"dataset": "pets", "protocol": "knn"}]}, "networks"),
        ({"transfer": [{"dataset": "pets", "protocol": "knm"}]}, "there is no protocol 'knm'"),
        ({"transfer": [{"dataset": "petz", "protocol": "knn"}]}, "there is no data set 'petz'"),
    ],
)
def test_a_wrong_plan_is_one_line(tmp_path: Path, capsys, change: dict, told: str) -> None:
    assert execute("run_suite", [str(write(tmp_path, **change))]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_runs_of_one_task_and_checkpoint_are_one_row() -> None:
    from rexdet.report.tables.suite import suite_table

    def record(top1: float) -> RunRecord:
        found = RunRecord(kind="transfer", name="x", metrics={"test": {"top1": top1, "mean_per_class": 0.0}})
        found.events.append(Event(time=found.created, code="repeated", message="which images are held out"))
        return found

    cells = [Cell("transfer", "resnet50", "pets knn", (seed,), ("transfer", "knn")) for seed in range(3)]
    detector = Cell("detection", "resnet50", "retinanet", (0,), ())
    box = RunRecord(kind="detection", name="y", metrics={"other": {}})
    records = {cell: [record(0.5 + index / 100)] for index, cell in enumerate(cells)} | {detector: [box]}
    text = suite_table(records, {"pets": "top1"})
    ours = [line for line in text.splitlines() if line.startswith("| ours")]
    # Pets is reported by the mean over classes in papers: the same runs stand there in that metric, too.
    assert ["top-1" in line for line in ours] == [True, False]
    assert "51.00 ± 2.48" in ours[0]
    assert "Repeated with another seed: which images are held out." in text
    assert "| resnet50" in text.splitlines()[-3]


def test_other_folders_and_other_words_are_other_rows(tmp_path: Path) -> None:
    from rexdet.report.tables.suite import suite_table

    entries = [
        {"dataset": "folder", "data_root": "a/birds", "protocol": "knn"},
        {"dataset": "folder", "data_root": "b/birds", "protocol": "knn"},
        {"dataset": "folder", "data_root": "b/birds", "protocol": "knn", "arguments": ["--tap", "res5"]},
    ]
    cells = plan_cells(read_plan(write(tmp_path, networks=["rexnet_1.0@nav_in1k"], transfer=entries)))
    scores = {
        cell: [RunRecord(kind="transfer", name="x", metrics={"test": {"top1": top1, "mean_per_class": top1}})]
        for cell, top1 in zip(cells, (0.5, 0.6, 0.7), strict=True)
    }
    text = suite_table(scores, {"folder": "top1"})
    ours = [line for line in text.splitlines() if line.startswith("| ours")]
    assert [[word for word in ("50.00", "60.00", "70.00") if word in line] for line in ours] == [
        ["50.00"], ["60.00"], ["70.00"],
    ]  # fmt: skip
    assert "knn --tap res5" in ours[2]
