"""transfer/run.py: a table from one command, and one line for whatever was typed wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from rexdet.cli import execute
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.runs import read_record
from rexdet.zoo import create_backbone, create_model


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/ and test/ of three noisy colours, 12 pixels."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for name, colour in (("blue", (60, 60, 180)), ("green", (60, 180, 60)), ("red", (180, 60, 60))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(random.normal(colour, 60, size=(12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of resnet8b_cifar with random numbers in it."""
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in create_model("resnet8b_cifar").state_dict().items()}, path)
    return path


# A narrower network, as a search leaves it.
GENOME = """
version: 1
network: resnet20b_cifar
channels:
  stem: 5
  stages.0.0.unit2: 5
  stages.0.1.unit2: 5
  stages.0.2.unit2: 5
  stages.0.0.unit1: 7
"""
TINY = ["--image-size", "12", "--steps", "4", "--batch-size", "8"]


def words(folder: Path, *more: str) -> list[str]:
    return ["--dataset", "folder", "--data-root", str(folder), *TINY, *more]


def test_weights_are_fine_tuned_with_every_switch(folder: Path, weights: Path, tmp_path: Path, capsys) -> None:
    command = words(
        folder, "--network", "resnet8b_cifar", "--weights", str(weights), "--pixels", "half", "--protocol",
        "fine_tune_quick", "--lr", "0.01", "--weight-decay", "0.0001", "--label-smoothing", "0.1", "--ema", "0.9",
        "--mixup", "0.2", "--freeze", "norms", "--amp", "bf16", "--no-channels-last", "--tensorboard", "--seeds", "2",
        "--workers", "2", "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert execute("transfer", command) == 0
    text = capsys.readouterr().out
    assert "| ours" in text
    assert "95% interval (Student's t) over 2 runs" in text
    assert "the initial weights of the classifier, the order of the images and their augmentation" in text
    record = read_record(tmp_path / "run")
    assert record.recipe is not None
    assert (record.recipe.amp, record.recipe.ema, record.recipe.base_lr) == ("bf16", 0.9, 0.01)
    assert record.network is not None
    assert record.network.sha256 is not None
    assert record.network.pixels_known_by == "user"
    assert record.files["tensorboard"] == "tensorboard"
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert read_record(tmp_path / "run" / "seed1").status == "done"
    assert "label_smoothing: 0.1" in (record.config or "")
    # Another start without --resume would hide what is there; with it nothing is computed again.
    assert execute("transfer", command) == 2
    assert "holds a finished run" in capsys.readouterr().err
    before = (tmp_path / "run" / "record.json").read_bytes()
    assert execute("transfer", [*command, "--resume"]) == 0
    assert (tmp_path / "run" / "record.json").read_bytes() == before
    assert capsys.readouterr().out.count("| ours") == 1


def test_one_run_prints_no_interval_and_json_is_json(folder: Path, tmp_path: Path, capsys) -> None:
    command = words(folder, "--network", "resnet8b_cifar", "--protocol", "cifar", "--output", str(tmp_path / "run"))
    assert execute("transfer", [*command, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["runs"], row["interval"], row["deviation"]) == (1, None, None)
    assert row["weights"] is None
    assert row["mean"] == row["scores"][0] == read_record(tmp_path / "run").metrics["test"]["top1"]
    assert "±" not in (tmp_path / "run" / "table.md").read_text()


def test_folds_are_a_run_each(folder: Path, tmp_path: Path, capsys) -> None:
    command = ["--dataset", "folder", "--data-root", str(folder / "train"), "--kfold", "2", *TINY]
    command += ["--network", "resnet8b_cifar", "--protocol", "cifar", "--output", str(tmp_path / "run")]
    assert execute("transfer", command) == 0
    assert "on each of 2 folds" in capsys.readouterr().out
    records = [read_record(tmp_path / "run" / f"fold{fold}") for fold in range(2)]
    assert all(record.data.val is not None and record.data.val.images == 18 for record in records)
    assert records[0].data.val != records[1].data.val
    (cell,) = group([Found(record, record.name) for record in records]).transfer.values()
    assert (cell.seeds, cell.setting.part) == ([0, 1], "2 folds")


def test_the_default_network_that_cannot_be_fetched_is_one_line(folder: Path, capsys) -> None:
    assert execute("transfer", ["--dataset", "folder", "--data-root", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: rexnet_1.0@nav_in1k")
    assert error.count("\n") == 1
    assert "put it at" in error
    assert "--dataset embedded, which shows the harness at work now" in error


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--network", "resnet8b_cifar"], "resnet8b_cifar alone has no weights; give name@tag"),
        (["--network", "rexnet_1.0@nav_in1k", "--from-scratch"], "names weights, and --from-scratch begins with"),
        (["--network", "rexnet_1.0@nav_in1k", "--protocol", "cifar"], "protocol cifar begins with random ones"),
        (["--network", "rexnet_1.0@nav_in1k", "--weights", "x.pth"], "names its weights already"),
        (["--weights", "x.pth", "--from-scratch"], "--weights x.pth names weights"),
        (["--from-scratch", "--pixels", "half"], "--pixels tells of weights"),
        (["--from-scratch", "--network", "rexnet"], "rexnet"),
        (["--from-scratch", "--protocol", "finetune"], "there is no protocol 'finetune'; there are fine_tune"),
        (["--from-scratch", "--seeds", "0"], "--seeds 0"),
        (["--from-scratch", "--lr", "-1"], "learning_rate"),
        (["--from-scratch", "--freeze", "head"], "freeze"),
        (["--from-scratch", "--device", "tpu"], "--device tpu"),
        (["--from-scratch", "--protocol", "knn", "--ema", "0.5"], "ema"),
        (["--from-scratch", "--protocol", "knn", "--tap", "res6"], "tap"),
        (["--from-scratch", "--kfold", "1"], "--kfold 1; give 2 folds or more"),
        (["--from-scratch", "--kfold", "0"], "--kfold 0"),
        (["--from-scratch", "--kfold", "-3"], "--kfold -3"),
        (["--from-scratch", "--workers", "-1"], "--workers -1"),
        (["--from-scratch", "--seed", "100000000000000000000"], "--seed 100000000000000000000"),
        (["--from-scratch", "--data-root", "~nobody-of-this-name/x"], "cannot be a folder"),
        (["--from-scratch", "--data-root", "x" * 300], "cannot be a folder"),
        (["--from-scratch", "--dataset", "embedded"], "leave it out: the embedded set is painted"),
    ],
)  # fmt: skip
def test_what_was_typed_wrong_is_one_line(folder: Path, capsys, more: list[str], told: str) -> None:
    network = [] if "--network" in more or "--weights" in more else ["--network", "resnet8b_cifar"]
    assert execute("transfer", ["--dataset", "folder", "--data-root", str(folder), *network, *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_first_try_that_failed_does_not_hold_the_folder(folder: Path, tmp_path: Path, capsys) -> None:
    command = words(
        folder, "--network", "torchvision:resnet18", "--protocol", "cifar", "--output", str(tmp_path / "run")
    )
    assert execute("transfer", [*command, "--drop-path", "0.1"]) == 2
    assert read_record(tmp_path / "run").status == "failed"
    assert execute("transfer", command) == 0
    assert read_record(tmp_path / "run").status == "done"
    assert len(list((tmp_path / "run").glob("record-*.json"))) == 1
    capsys.readouterr()


def test_the_record_and_the_table_tell_what_the_set_is_like(folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "test" / "red" / "0.png").write_bytes((folder / "train" / "red" / "0.png").read_bytes())
    command = words(folder, "--network", "resnet8b_cifar", "--protocol", "cifar", "--output", str(tmp_path / "run"))
    assert execute("transfer", command) == 0
    assert "| 36 images" in capsys.readouterr().out
    events = {(event.code, event.message) for event in read_record(tmp_path / "run").events}
    assert ("data", "test: 1 of 18 images are training images too, byte by byte") in events
    assert any(code == "repeated" and "initial weights" in message for code, message in events)
    probe = ["--dataset", "folder", "--data-root", str(folder), "--network", "resnet8b_cifar", "--from-scratch"]
    assert execute("transfer", [*probe, "--protocol", "knn", "--output", str(tmp_path / "knn")]) == 0
    events = {(event.code, event.message) for event in read_record(tmp_path / "knn").events}
    assert ("data", "test: 1 of 18 images are training images too, byte by byte") in events
    assert ("repeated", "the random weights") in events


@pytest.mark.parametrize("network", ["nm2:1/resnet8b_cifar", "lwdna:{genome}"])
def test_networks_of_every_kind_are_trained(folder: Path, tmp_path: Path, capsys, network: str) -> None:
    genome = tmp_path / "genome.yaml"
    genome.write_text(GENOME)
    command = words(folder, "--network", network.format(genome=genome), "--protocol", "cifar")
    assert execute("transfer", [*command, "--output", str(tmp_path / "run")]) == 0
    assert "| ours" in capsys.readouterr().out
    assert read_record(tmp_path / "run").metrics["network"]["macs"] > 0


def test_the_embedded_set_needs_nothing_but_the_command(tmp_path: Path, capsys) -> None:
    command = ["--dataset", "embedded", "--steps", "2", "--batch-size", "8", "--network", "resnet8b_cifar"]
    assert execute("transfer", [*command, "--protocol", "embedded", "--output", str(tmp_path / "run")]) == 0
    assert "| ours" in capsys.readouterr().out
    assert read_record(tmp_path / "run").data.train is not None


def test_the_dry_run_counts_every_fold(folder: Path, tmp_path: Path, capsys) -> None:
    command = ["--dataset", "folder", "--data-root", str(folder / "train"), *TINY, "--network", "resnet8b_cifar"]
    assert execute("transfer", [*command, "--protocol", "cifar", "--kfold", "6", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 6


def test_another_networks_checkpoint_is_one_line(folder: Path, weights: Path, capsys) -> None:
    command = words(folder, "--network", "resnet20_cifar", "--weights", str(weights))
    assert execute("transfer", command) == 2
    error = capsys.readouterr().err
    assert "weights.safetensors" in error
    assert error.count("\n") == 1


def test_a_file_of_weights_tells_its_network(folder: Path, weights: Path, tmp_path: Path, capsys) -> None:
    command = words(folder, "--weights", str(weights), "--lr", "0.01", "--weight-decay", "0")
    assert execute("transfer", [*command, "--output", str(tmp_path / "run")]) == 0
    assert "resnet8b_cifar, weights" in capsys.readouterr().out


def test_a_backbone_alone_is_probed_at_its_taps(folder: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "backbone.safetensors"
    backbone = create_backbone("rexnet_0.4")
    save_file({key: value.contiguous() for key, value in backbone.state_dict().items()}, path)
    command = ["--dataset", "folder", "--data-root", str(folder), "--weights", str(path), "--pixels", "half"]
    command += ["--protocol", "knn", "--network", "rexnet_0.4", "--image-size", "32"]
    assert execute("transfer", command) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "a backbone without the layers behind res5" in error
    assert "--tap res5" in error
    assert execute("transfer", [*command, "--tap", "res5", "--dry-run"]) == 0
    assert execute("transfer", [*command, "--tap", "res5", "--output", str(tmp_path / "run")]) == 0
    record = read_record(tmp_path / "run")
    assert record.network is not None
    assert record.network.sha256 is not None
    assert any("top1" in numbers for numbers in record.metrics.values())
