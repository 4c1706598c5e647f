"""The whole run: chosen on validation with the test split sealed, kept cell by cell, the same after any stop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rexdet.errors import UserError
from rexdet.runs import RunRecord, read_record
from rexdet.transfer import job as job_module
from rexdet.transfer.datasets import open_dataset
from rexdet.transfer.experiment import Finished, Settings, check_output, fine_tune
from rexdet.transfer.opening import Dataset
from rexdet.transfer.protocols import Protocol
from rexdet.transfer.start import Start, choose_start
from rexdet.transfer.sweep import Tried, grid_ends

RATES = [0.3, 0.03, 0.003]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def searched(protocol: Protocol) -> Protocol:
    return protocol.changed(
        steps=6,
        from_scratch=True,
        ema=0.5,
        grid={"learning_rate": RATES},
        augmentation={"flip": True, "random_resized_crop": {"scale": [0.5, 1.0]}},
    )


@pytest.fixture
def start(searched: Protocol) -> Start:
    return choose_start("resnet8b_cifar", "", "", searched, from_scratch=True)


def dataset_at(root: Path) -> Dataset:
    return open_dataset("folder", root)


def outcome(folder: Path) -> dict[str, object]:
    """What a table is made of: metrics and choice of every run below a folder."""
    found: dict[str, object] = {"choice": json.loads((folder / "choice.json").read_text())}
    for path in sorted(folder.rglob("record.json")):
        record = read_record(path)
        found[path.parent.relative_to(folder).as_posix()] = (record.metrics, record.evaluations)
    return found


def run(root: Path, start: Start, protocol: Protocol, output: Path, **changes) -> Finished:
    return fine_tune(dataset_at(root), start, protocol, Settings(output=output, say=lambda line: None, **changes))


def test_the_search_runs_with_unreadable_test_files(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(colours, root)
    files = sorted((root / "test").rglob("*.png"))
    whole = [path.read_bytes() for path in files]
    for path in files:
        path.write_bytes(b"no image")
    output = tmp_path / "run"
    with pytest.raises(UserError, match="cannot be used"):
        run(root, start, searched, output)
    # The choice was made and is kept; the final run waits for a test split.
    choice = json.loads((output / "choice.json").read_text())
    assert [cell["learning_rate"] for cell in choice["tried"]] == RATES
    assert read_record(output).status == "failed"
    assert len(list((output / "search").glob("*/record.json"))) == 3
    for path, data in zip(files, whole, strict=True):
        path.write_bytes(data)
    records = {path: path.read_bytes() for path in (output / "search").glob("*/record.json")}
    done = run(root, start, searched, output, resume=True)
    assert done.records[0].status == "done"
    assert {path: path.read_bytes() for path in records} == records


def test_the_winner_is_trained_on_train_and_val_with_the_seed_of_the_search(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path
) -> None:
    done = run(colours, start, searched, tmp_path / "run", seed=3, seeds=2)
    assert done.choice is not None
    cells = [read_record(path.parent) for path in sorted((tmp_path / "run" / "search").glob("*/record.json"))]
    assert {cell.seed for cell in cells} == {3}
    assert all(cell.data.train is not None and cell.data.train.images == 48 for cell in cells)
    assert all(set(cell.metrics) == {"val", "train", "network"} for cell in cells)
    assert [record.seed for record in done.records] == [3, 4]
    for record in done.records:
        assert record.data.train is not None
        assert record.data.train.images == 60
        assert record.recipe is not None
        assert record.recipe.base_lr == done.choice.best.learning_rate
        assert record.evaluated_weights is not None
        assert record.evaluated_weights.holds == "ema"
    best = max(cell.metrics["val"]["top1"] or 0.0 for cell in cells)
    assert done.choice.best.score == best
    assert "The search was done once" in done.fixed
    assert len(done.columns("top1")[0][1]) == 2
    # Nothing is computed again.
    before = outcome(tmp_path / "run")
    assert run(colours, start, searched, tmp_path / "run", seed=3, seeds=2, resume=True).records == done.records
    assert outcome(tmp_path / "run") == before


def test_a_final_run_that_learnt_far_less_than_its_search_is_marked_and_not_averaged(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    settings = Settings(output=tmp_path / "run", seeds=2, say=told.append)
    train = job_module.train

    def forgets(network, *arguments, **more):
        trained = train(network, *arguments, **more)
        trained.history[-1] = (*trained.history[-1][:2], float(more["seed"] == 0))
        return trained

    monkeypatch.setattr(job_module, "train", forgets)
    done = fine_tune(dataset_at(colours), start, searched, settings)
    assert done.choice is not None
    assert done.choice.best.train_top1 is not None
    assert done.choice.best.train_top1 == 1.0
    marked = read_record(tmp_path / "run" / "seed1")
    assert [event.code for event in marked.events if event.code == "trained_worse"] == ["trained_worse"]
    assert [record.seed for record in done.records] == [0]
    assert any("it is not averaged in" in line for line in told)


def test_a_run_that_is_stopped_anywhere_ends_in_the_same_numbers(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(colours, start, searched, tmp_path / "whole")
    real, calls = job_module.train, 0

    def stopped(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls % 2:
            real(*arguments, **more, stop_after=1 + calls % 4)
            raise KeyboardInterrupt
        return real(*arguments, **more)

    monkeypatch.setattr(job_module, "train", stopped)
    stops = 0
    while True:
        try:
            run(colours, start, searched, tmp_path / "parts", resume=True)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 4
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_a_rate_that_diverges_loses_and_is_not_tried_again(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path
) -> None:
    wild = searched.changed(grid={"learning_rate": [1e30, 0.03]}, warm_up=0.0)
    done = run(colours, start, wild, tmp_path / "run")
    assert done.choice is not None
    assert [cell.score is None for cell in done.choice.tried] == [True, False]
    assert "in 1 of them the loss was not finite" in done.choice.lines()[0]
    lost = next(path for path in (tmp_path / "run" / "search").iterdir() if path.name.startswith("lr1e_30"))
    before = (lost / "record.json").read_bytes()
    (tmp_path / "run" / "choice.json").unlink()
    run(colours, start, wild, tmp_path / "run", resume=True)
    assert (lost / "record.json").read_bytes() == before
    with pytest.raises(UserError, match="the loss was not finite with any of the grid"):
        run(colours, start, wild.changed(grid={"learning_rate": [1e30]}), tmp_path / "other")


def test_a_folder_with_another_run_is_refused(colours: Path, start: Start, searched: Protocol, tmp_path: Path) -> None:
    plain = searched.changed(grid=None)
    run(colours, start, plain, tmp_path / "run")
    settings = Settings(output=tmp_path / "run")
    with pytest.raises(UserError, match="holds a finished run"):
        check_output(settings)
    check_output(replace(settings, resume=True))
    with pytest.raises(UserError, match=r"holds a run of other settings \(.*learning_rate: 0.05, not .*0.1\)"):
        run(colours, start, plain.changed(learning_rate=0.1), tmp_path / "run", resume=True)


def test_an_end_of_the_grid_that_wins_is_told(protocol: Protocol) -> None:
    searched = protocol.changed(
        grid={"learning_rate": [0.1, 0.01, 0.001], "weight_decay": [0, 1e-4, 1e-3], "over_learning_rate": True}
    )

    def told(winner: int) -> list[str]:
        tried = [Tried(c.learning_rate, c.weight_decay, 0.5, 1.0) for c in searched.candidates()]
        tried[winner] = replace(tried[winner], score=0.6)
        return [line.split(" (")[0] for line in grid_ends(searched, tuple(tried))]

    assert told(0) == ["the largest learning rate of the grid"]  # a weight decay of 0 is no end
    assert told(4) == []
    assert told(8) == ["the smallest learning rate of the grid", "the largest weight decay of the grid"]


def test_ties_go_to_the_lower_loss(protocol: Protocol) -> None:
    from rexdet.transfer.sweep import Choice

    tried = (Tried(0.1, 0, 0.5, 2.0), Tried(0.2, 0, 0.5, 1.0), Tried(0.3, 0, None, None), Tried(0.4, 0, 0.5, 1.0))
    assert Choice(protocol, tried, "top1", ()).best.learning_rate == 0.2


def test_the_record_says_how_test_images_were_framed(
    colours: Path, start: Start, searched: Protocol, tmp_path: Path
) -> None:
    record: RunRecord = run(colours, start, searched.changed(grid=None), tmp_path / "run").records[0]
    assert [event.message for event in record.events if event.code == "framing"] == [
        "test images: whole to 12 px, bicubic"
    ]
