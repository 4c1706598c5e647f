"""Whole runs of tools/train_det.py with detectron2, on a generated data set of a few small pictures.

What every engine answers alike is tested in tests/engines.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed")

import torch

from rexdet.cli import execute
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.runs.record import read_record

CONFIG = """\
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE:
    NAME: build_retinanet_rexdet_fpn_backbone
  REXDET:
    NAME: rexnet_0.6
    OVERRIDES: [["depth", 0.2]]
  FPN:
    IN_FEATURES: [res3, res4, res5]
    OUT_CHANNELS: 16
  RETINANET:
    NUM_CONVS: 1
    SCORE_THRESH_TEST: 0.0
  ANCHOR_GENERATOR:
    SIZES: [[8], [16], [32], [64], [128]]
  PIXEL_MEAN: [103.53, 116.28, 123.675]
  PIXEL_STD: [57.375, 57.12, 58.395]
INPUT:
  MIN_SIZE_TRAIN: [64, 80]
  MIN_SIZE_TEST: 64
  MAX_SIZE_TRAIN: 128
  MAX_SIZE_TEST: 128
SOLVER:
  IMS_PER_BATCH: 2
  BASE_LR: 0.001
  MAX_ITER: 6
  STEPS: [4]
  WARMUP_ITERS: 2
  CHECKPOINT_PERIOD: 3
DATALOADER:
  NUM_WORKERS: 2
VERSION: 2
"""

Arguments = Callable[..., list[str]]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPaths:
    """Twelve training and five validation pictures of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return generate_embedded(folder, seed=3, train_images=12, val_images=5, size=64, workers=1, progress=False)


@contextmanager
def _computing_with_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Runs of other processes are compared bit by bit with runs of this one, so both compute with one thread."""
    with _computing_with_one_thread():
        yield


@pytest.fixture
def arguments(pictures: EmbeddedPaths, tmp_path: Path) -> Arguments:
    """Command-line arguments of a small run into `tmp_path / output`."""
    return arguments_in(tmp_path, pictures)


def arguments_in(folder: Path, pictures: EmbeddedPaths) -> Arguments:
    config = folder / "tiny.yaml"
    config.write_text(CONFIG)

    def build(output: str, *more: str, data: bool = True) -> list[str]:
        files = [
            *("--train-annotations", str(pictures.train_annotations), "--train-images", str(pictures.train_images)),
            *("--val-annotations", str(pictures.val_annotations), "--val-images", str(pictures.val_images)),
        ]
        words = ["--config", str(config), "--output", str(folder / output), "--seed", "7"]
        return [*words, *(files if data else []), *more]

    return build


@pytest.fixture(scope="session")
def whole(pictures: EmbeddedPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps that nothing stopped, and `printed.txt`, what it said. Not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    with _computing_with_one_thread(), redirect_stdout(io.StringIO()) as printed:
        assert train(arguments_in(folder, pictures)("run")) == 0
    (folder / "run" / "printed.txt").write_text(printed.getvalue())
    return folder / "run"


def train(words: list[str]) -> int:
    return execute("train_det", words)


def steps(folder: Path, name: str = "steps.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_run_leaves_table_record_pictures_and_checkpoints(whole: Path) -> None:
    folder = whole
    record = read_record(folder)
    assert record.status == "done"
    assert record.network is not None
    assert (record.network.name, record.network.sha256, record.network.norm) == ("rexnet_0.6", None, "BN")
    assert record.recipe is not None
    assert record.recipe.effective_batch == 2
    assert record.detector_complexity is not None
    assert (record.detector_complexity.parameters, record.detector_complexity.macs) == (389_957, 2_866_184_624)
    assert set(record.metrics["bbox"]) >= {"AP", "AP50", "ARl"}
    assert record.time_share is not None
    assert record.time_share.backbone
    assert record.data.train is not None
    assert record.data.train.images == 12
    assert {path.name for path in folder.glob("*.pth")} == {"model_0000002.pth", "model_0000005.pth", "model_final.pth"}
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert list((folder / "pictures").glob("*.png"))
    assert [line["step"] for line in steps(folder)] == [1, 2, 3, 4, 5, 6]
    printed = (folder / "printed.txt").read_text()
    assert "AP50" in printed
    assert str(folder / "record.json") in printed


def test_evaluating_the_final_file_gives_the_numbers_of_training(arguments: Arguments, tmp_path: Path) -> None:
    assert train(arguments("run", "--ema", "0.5")) == 0
    final = tmp_path / "run" / "model_final.pth"
    assert train(arguments("again", "--eval-only", "--weights", str(final))) == 0
    trained, evaluated = read_record(tmp_path / "run"), read_record(tmp_path / "again")
    assert evaluated.metrics == trained.metrics
    assert trained.final_weights is not None
    assert evaluated.evaluated_weights is not None
    assert trained.final_weights.holds == evaluated.evaluated_weights.holds == "ema"
    saved = (tmp_path / "run" / "detections.json").read_text()
    assert json.loads(saved)
    assert saved == (tmp_path / "again" / "detections.json").read_text()


def test_a_finished_run_is_never_overwritten(
    whole: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "record.json").read_bytes()
    assert train(arguments(str(whole))) == 2
    assert "--resume" in capsys.readouterr().err
    assert (whole / "record.json").read_bytes() == before


# torch 2.11's bfloat16 gradient of a 3x3 convolution over a 1x1 map reads memory that nobody wrote (CPU): above 64
# pixels the last level of the pyramid is made from a larger map.
LARGER = ("INPUT.MIN_SIZE_TRAIN", "[128,160]", "INPUT.MAX_SIZE_TRAIN", "256")


@pytest.mark.parametrize("extra", [(), ("--ema", "0.9", "--accumulate", "2"), ("--amp", "bf16", *LARGER)])
def test_resuming_ends_at_the_same_bits(arguments: Arguments, tmp_path: Path, extra: tuple[str, ...]) -> None:
    assert train(arguments("whole", *extra)) == 0
    # The same run, cut off in the writing of its second checkpoint: what came later is not there.
    folder = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", folder)
    for late in ("model_0000005.pth", "model_final.pth", "detections.json"):
        (folder / late).unlink()
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    (folder / ".model_0000005.pth.x.partial").write_bytes(b"half of a checkpoint")
    _mark_killed(folder)
    assert train(arguments("cut", "--resume", *extra)) == 0
    assert same(folder / "model_final.pth", tmp_path / "whole" / "model_final.pth")
    assert steps(folder) == steps(tmp_path / "whole")
    assert read_record(folder).metrics == read_record(tmp_path / "whole").metrics
    assert not list(folder.glob(".*.partial"))


def _mark_killed(folder: Path) -> None:
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "status": "killed", "finished": None}))


def test_kill_minus_nine_and_resume(arguments: Arguments, tmp_path: Path) -> None:
    # Every run in a process of its own, as a user's: what earlier tests did to this one must not tell them apart.
    period = ("SOLVER.CHECKPOINT_PERIOD", "1")
    folder = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "rexdet.cli", "train_det", *arguments(*words, *period)]

    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    with subprocess.Popen(command("killed"), **silent) as process:
        deadline = time.monotonic() + 120
        while not (folder / "model_0000002.pth").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert read_record(folder).status == "killed"
    for words in (("killed", "--resume"), ("whole",)):
        subprocess.run(command(*words), check=True, timeout=240, **silent)
    assert same(folder / "model_final.pth", tmp_path / "whole" / "model_final.pth")
    assert read_record(folder).status == "done"


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "model_final.pth").unlink()
    last = folder / "model_0000005.pth"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    (folder / "last_checkpoint").write_text("model_0000005.pth")
    assert train(arguments("run", "--resume")) == 0
    assert "model_0000005.pth" in capsys.readouterr().out
    assert same(folder / "model_final.pth", whole / "model_final.pth")


def test_resuming_with_more_steps_goes_on_with_the_new_schedule(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "[3]")
    longer = ("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "[6]")
    assert train(arguments("run", *short)) == 0
    capsys.readouterr()
    assert train(arguments("run", "--resume", *longer)) == 0
    printed = capsys.readouterr().out
    assert "step 5 of 8" in printed
    assert "schedule is that of 8" in printed
    assert train(arguments("long", *longer)) == 0
    resumed, straight = steps(tmp_path / "run"), steps(tmp_path / "long")
    assert [line["lr"] for line in resumed[4:]] == [line["lr"] for line in straight[4:]]
    assert resumed[3]["lr"] != straight[3]["lr"]


def test_weights_start_a_new_run_at_step_one(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = whole / "model_final.pth"
    assert train(arguments("second", "--weights", str(final), "SOLVER.MAX_ITER", "2")) == 0
    assert [line["step"] for line in steps(tmp_path / "second")] == [1, 2]
    assert "a whole detector" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_and_can_be_replayed(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("SOLVER.BASE_LR", "1e6", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "50")
    assert train(arguments("run", *wild)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    failure = read_record(tmp_path / "run").failure
    assert failure is not None
    assert f"step {failure.step}:" in error
    assert failure.loss_term in error
    assert failure.image_ids
    assert failure.module
    replay_file = tmp_path / "run" / str(failure.replay_file)
    assert train(arguments("unused", "--replay", str(replay_file), *wild, data=False)) == 0
    printed = capsys.readouterr().out
    assert f"step {failure.step}" in printed
    assert failure.module in printed
    terms = dict(line.split(":") for line in printed.splitlines() if line.startswith("  "))
    assert not math.isfinite(float(terms[f"  {failure.loss_term}"]))


def test_a_learning_rate_for_another_batch_is_told_before_the_first_step(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments("run", "SOLVER.BASE_LR", "0.01", "SOLVER.MAX_ITER", "1")) == 0
    printed = capsys.readouterr().out
    assert "scaled to this batch it is 0.00125" in printed


def test_dry_run_writes_nothing(arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(arguments("run", "--dry-run", "SOLVER.BASE_LR", "0.1")) == 0
    printed = capsys.readouterr().out
    assert "peak memory" in printed
    assert "base lr: 0.1 here, 0.001 in the config file" in printed
    assert not (tmp_path / "run").exists()


def test_one_override_changes_the_backbone(arguments: Arguments, tmp_path: Path) -> None:
    assert train(arguments("run", "--backbone", "rexnet_0.9", "SOLVER.MAX_ITER", "1")) == 0
    record = read_record(tmp_path / "run")
    assert record.network is not None
    assert record.network.name == "rexnet_0.9"


def test_predict_draws_and_names_what_it_finds(arguments: Arguments, tmp_path: Path, pictures: EmbeddedPaths) -> None:
    assert train(arguments("run", "SOLVER.MAX_ITER", "1")) == 0
    output = tmp_path / "predicted"
    words = ["--config", str(tmp_path / "tiny.yaml"), "--weights", str(tmp_path / "run" / "model_final.pth")]
    words += ["--input", str(pictures.val_images), "--output", str(output), "--score-threshold", "0"]
    assert execute("predict", words) == 0
    predictions = json.loads((output / "predictions.json").read_text())
    listed = json.loads(pictures.train_annotations.read_text())["categories"]
    assert [(row["id"], row["name"]) for row in predictions["categories"]] == [(r["id"], r["name"]) for r in listed]
    assert len(predictions["images"]) == 5
    assert predictions["annotations"]
    assert len(list((output / "pictures").glob("*.png"))) == 5


def test_a_detector_is_not_used_under_another_rule(
    arguments: Arguments, tmp_path: Path, pictures: EmbeddedPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    ruled = "nm2:1/rexnet_0.6"
    assert train(arguments("run", "SOLVER.MAX_ITER", "1", "MODEL.REXDET.NAME", ruled)) == 0
    final = str(tmp_path / "run" / "model_final.pth")
    predict = ["--config", str(tmp_path / "tiny.yaml"), "--weights", final, "--input", str(pictures.val_images)]
    predict += ["--output", str(tmp_path / "predicted")]
    for verb, words in (("train_det", arguments("scored", "--eval-only", "--weights", final)), ("predict", predict)):
        capsys.readouterr()
        assert execute(verb, words) == 2
        assert f"was trained over {ruled}, and the config builds rexnet_0.6" in capsys.readouterr().err
    assert execute("train_det", arguments("scored", "--eval-only", "--weights", final, "MODEL.REXDET.NAME", ruled)) == 0
    # The backbone's own weights are in the detector's file: where they came from may be gone.
    gone = ["MODEL.REXDET.WEIGHTS", str(tmp_path / "gone.pth")]
    assert execute("predict", [*predict, "MODEL.REXDET.NAME", ruled, *gone]) == 0


def test_two_processes_see_what_one_sees_and_score_the_same(whole: Path, arguments: Arguments, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    final = str(whole / "model_final.pth")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def together(*words: str) -> None:
        command = [*launcher, "-m", "rexdet.cli", "train_det", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]

    together(*arguments("two", "SOLVER.MAX_ITER", "2"))
    alone = steps(whole)[:2]
    first, second = steps(tmp_path / "two"), steps(tmp_path / "two", "steps.rank1.jsonl")
    for one, left, right in zip(alone, first, second, strict=True):
        assert one["lr"] == left["lr"] == right["lr"]
        assert sorted(one["image_ids"]) == sorted(left["image_ids"] + right["image_ids"])
    assert train(arguments("score-one", "--eval-only", "--weights", final)) == 0
    together(*arguments("score-two", "--eval-only", "--weights", final))
    assert read_record(tmp_path / "score-one").metrics == read_record(tmp_path / "score-two").metrics
    # Each process moves statistics of its own: what two of them score is what they save, and what one scores.
    saved = str(tmp_path / "two" / "model_final.pth")
    assert train(arguments("score-saved", "--eval-only", "--weights", saved)) == 0
    assert read_record(tmp_path / "score-saved").metrics == read_record(tmp_path / "two").metrics


def test_a_state_that_nobody_knows_is_not_resumed_without(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments("run", "--ema", "0.9", "SOLVER.MAX_ITER", "1")) == 0
    final = tmp_path / "run" / "model_final.pth"
    content = torch.load(final, weights_only=True)
    content["model_ema"] = content.pop("ema")
    torch.save(content, final)
    capsys.readouterr()
    assert train(arguments("run", "--resume", "--ema", "0.9", "SOLVER.MAX_ITER", "2")) == 2
    error = capsys.readouterr().err
    assert "model_ema" in error
    assert len(error.strip().splitlines()) == 1
