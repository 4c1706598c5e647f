"""Whole runs of tools/train_det.py with MMDetection, on a generated data set of a few small pictures."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet", reason="MMDetection is not installed: make setup-mmdet")

import torch

import rexdet
from rexdet.cli import execute
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.mmdet.operators import COMPILED, operators_in_use
from rexdet.mmdet.train import Training
from rexdet.runs.record import RunRecord, read_record

CONFIG = """\
_base_ = ["mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"]
custom_imports = dict(imports=["rexdet.mmdet"])
model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=None),
    backbone=dict(
        _delete_=True, type="RexDetBackbone", name="rexnet_0.6", overrides=dict(depth=0.2),
        out_indices=(1, 2, 3), frozen_stages=1,
    ),
    neck=dict(in_channels=None, out_channels=16, start_level=0),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1, anchor_generator=dict(octave_base_scale=1)),
    test_cfg=dict(score_thr=0.0, nms_pre=50),
)
load = dict(type="LoadImageFromFile")
boxes = dict(type="LoadAnnotations", with_bbox=True)
train = [
    load,
    boxes,
    dict(type="RandomResize", scale=[(64, 64), (80, 80)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
test = [load, dict(type="Resize", scale=(64, 64), keep_ratio=True), boxes, dict(type="PackDetInputs", meta_keys=keys)]
plain = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**plain, batch_size=2, dataset=dict(pipeline=train))
val_dataloader = dict(**plain, dataset=dict(pipeline=test))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=3),
    dict(type="MultiStepLR", begin=0, end=2, by_epoch=True, milestones=[1], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))
log_level = "ERROR"
"""
# Ten pictures in batches of two: five steps an epoch, checkpoints after 3, 6, 9 and 10.
SHORT = ("train_cfg.max_epochs=1",)
Arguments = Callable[..., list[str]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPaths:
    """Ten training and three validation pictures of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return generate_embedded(folder, seed=3, train_images=10, val_images=3, size=64, workers=1, progress=False)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Runs of other processes are compared bit by bit with runs of this one, so both compute with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def arguments(pictures: EmbeddedPaths, config: Path) -> Arguments:
    """(output, *words, options=(KEY=VALUE, ...), data=...) -> the command-line arguments of a small run."""

    def build(output: Path, *more: str, options: tuple[str, ...] = (), data: bool = True) -> list[str]:
        files = [
            *("--train-annotations", str(pictures.train_annotations), "--train-images", str(pictures.train_images)),
            *("--val-annotations", str(pictures.val_annotations), "--val-images", str(pictures.val_images)),
        ]
        words = ["--config", str(config), "--output", str(output), "--seed", "7"]
        return [*words, *(files if data else []), *more, *(["--cfg-options", *options] if options else [])]

    return build


@pytest.fixture(scope="module")
def whole(arguments: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(arguments(folder)) == 0
    return folder


def train(words: list[str]) -> int:
    return execute("train_det", words)


def steps(folder: Path, name: str = "steps.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def assert_same(one: Path, other: Path) -> None:
    """Every tensor of two checkpoints, wherever it lies in them, is the same to the bit."""
    left, right = (dict(tensors(torch.load(path, weights_only=True))) for path in (one, other))
    assert left.keys() == right.keys()
    assert len(left) > 100
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def tensors(node: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(node, torch.Tensor):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from tensors(value, f"{path}/{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from tensors(value, f"{path}/{index}")


def cut_off(folder: Path, last: str) -> None:
    """Make of a run what a kill would have left of it, right after it had written the checkpoint `last`."""
    kept = int(last.removeprefix("iter_").removesuffix(".pth"))
    for file in folder.glob("*.pth"):
        if file.name == "model_final.pth" or int(file.stem.removeprefix("iter_")) > kept:
            file.unlink()
    (folder / "detections.json").unlink()
    (folder / "last_checkpoint").write_text(str(folder / last))
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "status": "killed", "finished": None}))


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_record_pictures_detections_and_checkpoints(whole: Path) -> None:
    record = read_record(whole)
    assert (record.status, record.engine) == ("done", "mmdet")
    assert record.network is not None
    assert (record.network.name, record.network.sha256, record.network.norm) == ("rexnet_0.6", None, "BN")
    # The config freezes a stage, which random weights do not bear.
    assert record.network.freeze_at == 0
    assert record.network.pixels is not None
    assert record.network.pixels.order == "RGB"
    assert record.recipe is not None
    assert (record.recipe.effective_batch, record.recipe.iterations) == (2, 10)
    assert record.recipe.optimizer == "SGD momentum 0.9 weight decay 0.0001"
    assert record.recipe.schedule == "x0.1 at epochs 1"
    assert record.recipe.warm_up == "linear, 3 steps from 0.001"
    assert record.recipe.differs_from_recipe == []
    assert record.detector_complexity is not None
    assert (record.detector_complexity.parameters, record.detector_complexity.macs) == (397_787, 3_032_046_704)
    assert set(record.metrics["bbox"]) >= {"AP", "AP50", "ARl"}
    assert [entry.iteration for entry in record.evaluations] == [5]
    assert record.time_share is not None
    assert record.time_share.backbone
    assert record.time_share.data
    assert record.data.train is not None
    assert record.data.train.images == 10
    assert record.data.train.classes is not None
    assert len(record.data.train.classes) == 5
    assert record.versions["mmdet"]
    assert record.versions["mmcv operators"]
    assert {path.name for path in whole.glob("*.pth")} == {
        *(f"iter_{number}.pth" for number in (3, 6, 9, 10)),
        "model_final.pth",
    }
    assert (whole / "last_checkpoint").read_text() == "model_final.pth"
    assert len(list((whole / "pictures").glob("*.png"))) == 3
    assert json.loads((whole / "detections.json").read_text())
    log = steps(whole)
    assert [line["step"] for line in log] == list(range(1, 11))
    assert sorted(number for line in log[:5] for number in line["image_ids"]) == list(range(1, 11))
    assert all(math.isfinite(value) for line in log for value in line["losses"].values())


def test_the_learning_rate_follows_the_configs_schedules(whole: Path) -> None:
    rates = [line["lr"] for line in steps(whole)]
    assert rates[:3] == pytest.approx([1e-6, 0.0005005, 0.001])
    assert rates[3:] == pytest.approx([0.001] * 2 + [0.0001] * 5)


def test_evaluating_the_final_file_gives_the_numbers_of_training(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = str(whole / "model_final.pth")
    assert train(arguments(tmp_path / "again", "--eval-only", "--weights", final)) == 0
    assert "a whole detector" in capsys.readouterr().out
    trained, evaluated = read_record(whole), read_record(tmp_path / "again")
    assert evaluated.metrics == trained.metrics
    assert evaluated.evaluated_weights is not None
    assert evaluated.evaluated_weights.iteration == 10
    assert (whole / "detections.json").read_text() == (tmp_path / "again" / "detections.json").read_text()
    assert list((tmp_path / "again" / "pictures").glob("*.png"))


def test_the_final_file_is_opened_everywhere_and_by_mmengine(whole: Path) -> None:
    opened = rexdet.open_checkpoint(whole / "model_final.pth", network="rexnet_0.6")
    assert opened.kind == "detector"
    assert opened.pixels_known_by == "metadata"
    assert tuple(opened.pixels.mean) == pytest.approx((0.485, 0.456, 0.406))
    content = torch.load(whole / "iter_6.pth", weights_only=True)
    assert content["message_hub"]["log_scalars"]["train/loss"].data[0].size == 6
    assert content["meta"]["iter"] == 6


def test_a_finished_run_is_never_overwritten(
    whole: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "record.json").read_bytes()
    assert train(arguments(whole)) == 2
    assert "--resume" in capsys.readouterr().err
    assert (whole / "record.json").read_bytes() == before


# -- resuming -------------------------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_within_an_epoch_goes_on_to_the_bit(
    whole: Path, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Training.step

    def stop_in_the_fifth(self: Training, loop: Any, index: int, batches: Any) -> None:
        if loop.iter == 4:
            raise KeyboardInterrupt
        step(self, loop, index, batches)

    folder = tmp_path / "whole"
    monkeypatch.setattr(Training, "step", stop_in_the_fifth)
    assert train(arguments(folder)) == 130
    assert read_record(folder).status == "killed"
    assert [line["step"] for line in steps(folder)] == [1, 2, 3, 4]
    monkeypatch.undo()
    assert train(arguments(folder, "--resume")) == 0
    assert_same(folder / "model_final.pth", whole / "model_final.pth")
    assert steps(folder) == steps(whole)
    assert [entry.iteration for entry in read_record(folder).evaluations] == [5]


def test_a_run_that_was_killed_within_its_second_epoch_goes_on_to_the_bit(
    whole: Path, arguments: Arguments, tmp_path: Path
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    cut_off(folder, "iter_6.pth")
    (folder / ".iter_9.pth.x.partial").write_bytes(b"half of a checkpoint")
    assert train(arguments(folder, "--resume")) == 0
    assert_same(folder / "model_final.pth", whole / "model_final.pth")
    assert steps(folder) == steps(whole)
    resumed, unbroken = read_record(folder), read_record(whole)
    assert resumed.metrics == unbroken.metrics
    assert len(resumed.resumed_at) == 1
    assert not list(folder.glob(".*.partial"))


def test_averaged_weights_and_half_an_accumulation_go_on_to_the_bit(arguments: Arguments, tmp_path: Path) -> None:
    extra = ("--ema", "0.9", "--accumulate", "2")
    folder = tmp_path / "run"
    assert train(arguments(folder, *extra)) == 0
    shutil.copytree(folder, tmp_path / "kept")
    record = read_record(folder)
    assert record.recipe is not None
    assert (record.recipe.effective_batch, record.recipe.iterations, record.recipe.ema) == (4, 5, 0.9)
    assert record.final_weights is not None
    assert record.final_weights.holds == "ema"
    # Three forward passes: one step of the optimiser, and half of the next.
    cut_off(folder, "iter_3.pth")
    assert train(arguments(folder, "--resume", *extra)) == 0
    assert_same(folder / "model_final.pth", tmp_path / "kept" / "model_final.pth")
    assert steps(folder) == steps(tmp_path / "kept")
    assert read_record(folder).metrics == record.metrics


def test_an_iteration_based_run_goes_on_to_the_bit(arguments: Arguments, config: Path, tmp_path: Path) -> None:
    by_iteration = tmp_path / "by_iteration.py"
    loop = 'dict(_delete_=True, type="IterBasedTrainLoop", max_iters=5, val_interval=100)'
    schedule = 'dict(type="MultiStepLR", by_epoch=False, end=5, milestones=[4])'
    by_iteration.write_text(f"_base_ = [{str(config)!r}]\ntrain_cfg = {loop}\nparam_scheduler = [{schedule}]\n")
    folder = tmp_path / "run"
    words = arguments(folder)
    words[words.index("--config") + 1] = str(by_iteration)
    assert train(words) == 0
    shutil.copytree(folder, tmp_path / "kept")
    assert [line["lr"] for line in steps(folder)] == pytest.approx([0.001] * 4 + [0.0001])
    cut_off(folder, "iter_3.pth")
    assert train([*words, "--resume"]) == 0
    assert_same(folder / "model_final.pth", tmp_path / "kept" / "model_final.pth")
    assert steps(folder) == steps(tmp_path / "kept")


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    cut_off(folder, "iter_9.pth")
    last = folder / "iter_9.pth"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    assert train(arguments(folder, "--resume")) == 0
    printed = capsys.readouterr().out
    assert "passed over" in printed
    assert "iter_9.pth" in printed
    assert_same(folder / "model_final.pth", whole / "model_final.pth")


def test_resuming_with_more_epochs_goes_on_with_the_new_schedule(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    longer = ("train_cfg.max_epochs=3", "param_scheduler.1.milestones=[2]", "param_scheduler.1.end=3")
    assert train(arguments(folder, "--resume", options=longer)) == 0
    assert "the new one holds" in capsys.readouterr().out
    log = steps(folder)
    assert [line["step"] for line in log] == list(range(1, 16))
    # Two epochs at 0.001 would have been, then a tenth of it.
    assert [line["lr"] for line in log[10:]] == pytest.approx([0.0001] * 5)
    assert read_record(folder).status == "done"


def test_a_state_that_nobody_knows_is_not_resumed_without(
    whole: Path, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(whole, folder)
    content = torch.load(folder / "model_final.pth", weights_only=True)
    content["model_ema"] = content["state_dict"]
    torch.save(content, folder / "model_final.pth")
    assert train(arguments(folder, "--resume", options=("train_cfg.max_epochs=3",))) == 2
    error = capsys.readouterr().err
    assert "model_ema" in error
    assert len(error.strip().splitlines()) == 1
    assert train(arguments(folder, "--resume", "--ema", "0.9", options=("train_cfg.max_epochs=3",))) == 2


# -- switches -------------------------------------------------------------------------------------------------------


def test_weights_start_a_new_run_at_step_one_and_heads_follow_the_classes(
    whole: Path, arguments: Arguments, tmp_path: Path, pictures: EmbeddedPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(pictures.train_annotations.read_text())
    content["categories"].append({"id": 99, "name": "another"})
    more_classes = tmp_path / "train.json"
    more_classes.write_text(json.dumps(content))
    # torch 2.11's bfloat16 gradient of a 3x3 convolution over a 1x1 map reads memory that nobody wrote (CPU): above 64
    # pixels the last level of the pyramid is made from a larger map.
    larger = "train_dataloader.dataset.pipeline.2.scale=[(128,128),(160,160)]"
    words = ["--weights", str(whole / "model_final.pth")]
    # Compiled operators take float32 alone on a CPU, and a job that asks for less is answered with that.
    narrow = operators_in_use() != COMPILED
    words += ["--amp", "bf16"] if narrow else []
    words = arguments(tmp_path / "run", *words, options=(*SHORT, larger))
    words[words.index("--train-annotations") + 1] = str(more_classes)
    assert train(words) == 0
    printed = capsys.readouterr().out
    assert "head reset because classes 5 -> 6 (expected)" in printed
    assert [line["step"] for line in steps(tmp_path / "run")] == [1, 2, 3, 4, 5]
    record = read_record(tmp_path / "run")
    assert record.recipe is not None
    assert record.recipe.amp == ("bf16" if narrow else None)
    assert any("length: 1 epochs here" in line for line in record.recipe.differs_from_recipe)


def test_a_loss_that_is_not_finite_stops_and_can_be_replayed(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("optim_wrapper.optimizer.lr=1e9", "param_scheduler=[]")
    assert train(arguments(tmp_path / "run", options=wild)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    failure = read_record(tmp_path / "run").failure
    assert failure is not None
    assert f"step {failure.step}:" in error
    assert failure.loss_term in error
    assert failure.image_ids
    assert failure.module
    replay_file = tmp_path / "run" / str(failure.replay_file)
    assert train(arguments(tmp_path / "unused", "--replay", str(replay_file), data=False)) == 0
    printed = capsys.readouterr().out
    assert failure.module in printed
    terms = dict(line.split(":") for line in printed.splitlines() if line.startswith("  "))
    assert not math.isfinite(float(terms[f"  {failure.loss_term}"]))


def test_dry_run_writes_nothing_and_tells_of_the_recipe(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("optim_wrapper.optimizer.lr=0.1",)
    assert train(arguments(tmp_path / "run", "--dry-run", "--backbone", "rexnet_0.9", options=options)) == 0
    printed = capsys.readouterr().out
    assert "peak memory" in printed
    assert "rexnet_0.9" in printed
    assert "base lr: 0.1 here, 0.001 in the config file" in printed
    assert "scaled to this batch it is 0.001 (--cfg-options optim_wrapper.optimizer.lr=0.001)" in printed
    assert not (tmp_path / "run").exists()


def test_predict_draws_and_names_what_it_finds(
    whole: Path, config: Path, tmp_path: Path, pictures: EmbeddedPaths
) -> None:
    output = tmp_path / "predicted"
    words = ["--config", str(config), "--weights", str(whole / "model_final.pth")]
    words += ["--input", str(pictures.val_images), "--output", str(output), "--score-threshold", "0"]
    assert execute("predict", words) == 0
    predictions = json.loads((output / "predictions.json").read_text())
    listed = json.loads(pictures.train_annotations.read_text())["categories"]
    assert [(row["id"], row["name"]) for row in predictions["categories"]] == [(r["id"], r["name"]) for r in listed]
    assert len(predictions["images"]) == 3
    assert predictions["annotations"]
    assert len(list((output / "pictures").glob("*.png"))) == 3


def test_two_processes_see_what_one_sees_and_score_the_same(whole: Path, arguments: Arguments, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # The best checkpoint is chosen in every process, by the same numbers.
    options = (*SHORT, "train_dataloader.batch_size=1", "default_hooks.checkpoint.save_best=coco/bbox_mAP")
    command = [*launcher, "-m", "rexdet.cli", "train_det", *arguments(tmp_path / "two", options=options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = steps(tmp_path / "two"), steps(tmp_path / "two", "steps.rank1.jsonl")
    for one, left, right in zip(steps(whole)[:5], first, second, strict=True):
        assert one["lr"] == left["lr"] == right["lr"]
        assert sorted(one["image_ids"]) == sorted(left["image_ids"] + right["image_ids"])
    assert list((tmp_path / "two").glob("best_coco_bbox_mAP_*.pth"))
    record: RunRecord = read_record(tmp_path / "two")
    assert record.recipe is not None
    assert (record.recipe.world_size, record.recipe.effective_batch) == (2, 2)
    # One process scores what two have trained, and finds the same.
    final = str(tmp_path / "two" / "model_final.pth")
    assert train(arguments(tmp_path / "one", "--eval-only", "--weights", final)) == 0
    assert read_record(tmp_path / "one").metrics == record.metrics
