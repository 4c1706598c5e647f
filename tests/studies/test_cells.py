"""The matrix: a finished cell is never computed again, a failed one stops nobody, processes change nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rexdet.cli import execute
from rexdet.runs import read_record
from rexdet.studies import lwdna, nm_relu
from rexdet.studies.cells import make_cells, run_cells
from rexdet.transfer.finetune import STATE_NAME
from rexdet.transfer.protocols import Protocol, read_protocol


def cells_of(protocol: Protocol, data: Path, seeds: int = 2, settings: tuple[str, ...] = ("1:1", "2:1")):
    return make_cells("nm_relu", {"plain3_cifar": settings}, seeds=seeds, protocol=protocol, data=data, options={})


def test_a_finished_cell_is_never_computed_again(colours: Path, protocol: Protocol, tmp_path: Path) -> None:
    some = cells_of(protocol, colours, seeds=1)
    first, failures = run_cells(some, nm_relu.make_job, tmp_path, progress=False)
    assert failures == {}
    made = []

    def watched(cell, output):
        made.append(cell)
        return nm_relu.make_job(cell, output)

    every = cells_of(protocol, colours)
    records, _ = run_cells(every, watched, tmp_path, progress=False)
    assert [cell.seed for cell in made] == [1, 1]
    assert list(records) == [cell.name for cell in every]
    assert all(records[name] == record for name, record in first.items())


def test_cells_are_keyed_by_all_that_the_result_hangs_on(colours: Path, protocol: Protocol) -> None:
    cell = cells_of(protocol, colours)[0]
    others = [
        *cells_of(protocol, colours)[1:],
        cells_of(protocol.changed(learning_rate=0.2), colours)[0],
        make_cells("nm_relu", {"plain6_cifar": ["1:1"]}, seeds=1, protocol=protocol, data=colours, options={})[0],
        make_cells("nm_relu", {"plain3_cifar": ["1:1"]}, seeds=1, protocol=protocol, data=colours, options={"a": 1})[0],
    ]
    assert len({cell.key, *(other.key for other in others)}) == len(others) + 1
    assert cells_of(protocol, colours)[0].key == cell.key


def test_two_processes_give_what_one_gives(colours: Path, protocol: Protocol, tmp_path: Path) -> None:
    cells = cells_of(protocol, colours, seeds=1)
    one, _ = run_cells(cells, nm_relu.make_job, tmp_path / "one", progress=False)
    two, failures = run_cells(cells, nm_relu.make_job, tmp_path / "two", processes=2, progress=False)
    assert failures == {}
    assert {name: record.metrics for name, record in one.items()} == {n: record.metrics for n, record in two.items()}


def test_a_cell_that_fails_stops_nobody_and_is_tried_again(colours: Path, protocol: Protocol, tmp_path: Path) -> None:
    wild = protocol.changed(learning_rate=1e30, warm_up=0.0)
    bad, good = cells_of(wild, colours, seeds=1)[0], cells_of(protocol, colours, seeds=1)[1]
    records, failures = run_cells([bad, good], nm_relu.make_job, tmp_path, progress=False)
    assert list(records) == [good.name]
    assert "the loss is" in failures[bad.name]
    assert read_record(bad.folder(tmp_path)).status == "failed"
    _, failures = run_cells([bad, good], nm_relu.make_job, tmp_path, progress=False)
    assert list(failures) == [bad.name]


def test_a_stopped_cell_goes_on(
    colours: Path, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rexdet.transfer import job

    protocol = protocol.changed(steps=12)
    cells = cells_of(protocol, colours, seeds=1, settings=("2:1",))
    whole, _ = run_cells(cells, nm_relu.make_job, tmp_path / "whole", progress=False)
    real = job.train

    def stopped(*args, **kwargs):
        real(*args, **kwargs, stop_after=5)
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, nm_relu.make_job, tmp_path / "parts", progress=False)
    assert (cells[0].folder(tmp_path / "parts") / STATE_NAME).is_file()
    monkeypatch.setattr(job, "train", real)
    parts, _ = run_cells(cells, nm_relu.make_job, tmp_path / "parts", progress=False)
    assert parts[cells[0].name].metrics == whole[cells[0].name].metrics


def test_a_killed_study_goes_on_to_the_same_numbers(colours: Path, tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    values = {
        **read_protocol("cifar_short").model_dump(),
        "name": "slow",
        "steps": 400,
        "image_size": 16,
        "batch_size": 8,
    }
    file.write_text(yaml.safe_dump(values))
    command = [
        "nm_relu", "--data", str(colours), "--protocol", str(file), "--network", "plain3_cifar", "--ratio", "1:1",
        "--seeds", "1", "--processes", "1",
    ]  # fmt: skip
    killed = tmp_path / "killed"
    code = "import sys; from rexdet.cli import execute; sys.exit(execute('study', sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *command, "--output", str(killed)])
    until = time.monotonic() + 60
    while not list(killed.glob("cells/*/state.pth")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (folder,) = (killed / "cells").iterdir()
    assert read_record(folder).status == "killed"
    for output in (killed, tmp_path / "whole"):
        assert execute("study", [*command, "--output", str(output)]) == 0
    again = read_record(folder)
    whole = read_record(tmp_path / "whole" / "cells" / folder.name)
    assert again.metrics == whole.metrics
    assert again.evaluations == whole.evaluations
    assert len(again.resumed_at) == 1


@pytest.mark.parametrize("weights", lwdna.WEIGHTS)
@pytest.mark.parametrize("criterion", ["gradient", "magnitude", "random"])
def test_searched_widths_cost_no_more_than_the_network(
    colours: Path, protocol: Protocol, tmp_path: Path, criterion: str, weights: str
) -> None:
    options = {"width": 2.0, "weights": weights, "remain": 0.4, "linear": 0.45}
    cells = make_cells(
        "lwdna",
        {"resnet8b_cifar": ["baseline", criterion]},
        seeds=1,
        protocol=protocol,
        data=colours,
        options=options,
    )
    records, failures = run_cells(cells, lwdna.make_job, tmp_path, progress=False)
    assert failures == {}
    baseline, searched = (records[cell.name] for cell in cells)
    macs = searched.metrics["network"]["macs"]
    assert macs is not None
    assert 0.9 * baseline.metrics["network"]["macs"] < macs <= baseline.metrics["network"]["macs"]
    assert searched.metrics["search"]["macs"] == macs
    assert searched.network is not None
    assert searched.network.overrides["channels"]
    assert (cells[1].folder(tmp_path) / "genome.yaml").is_file()


def test_the_search_sees_what_training_begins_with(colours: Path, protocol: Protocol) -> None:
    options = {"width": 2.0, "weights": "reinitialised", "remain": 0.4, "linear": 0.45}
    cell = make_cells(
        "lwdna", {"resnet8b_cifar": ["gradient"]}, seeds=2, protocol=protocol, data=colours, options=options
    )
    images, labels = next(lwdna.first_batches(cell[0]))
    assert images.shape == (8, 3, 16, 16)
    assert labels.shape == (8,)
    assert not images.equal(next(lwdna.first_batches(cell[1]))[0])
    assert images.equal(next(lwdna.first_batches(cell[0]))[0])


def test_ratios_that_give_the_same_network_are_one_setting() -> None:
    # A residual branch of two convolutions has one activation of its own; a chain of six has six.
    assert nm_relu.distinct_settings("resnet8b_cifar", ["1:1", "2:1", "3:2"], 32) == (["1:1", "2:1"], {"3:2": "2:1"})
    assert nm_relu.distinct_settings("plain6_cifar", ["1:1", "2:1", "3:2"], 32) == (["1:1", "2:1", "3:2"], {})


def test_the_plain_chain_loses_the_activations_that_the_rule_names() -> None:
    from rexdet.studies.networks import make_network, removed_activations

    assert removed_activations("plain6_cifar", "2:1", 32) == tuple(f"units.{i}.activation" for i in (0, 2, 4))
    assert removed_activations("plain6_cifar", "3:2", 32) == tuple(f"units.{i}.activation" for i in (0, 3))
    counts = [
        sum(p.numel() for p in make_network(name, 10).parameters()) for name in ("plain6_cifar", "nm2:1/plain6_cifar")
    ]
    assert counts[0] == counts[1]
