"""`--cfg-options`, class counts and what of a config is not trained here: told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

import rexdet
from rexdet.configs import get_config
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet import amp
from rexdet.mmdet.operators import COMPILED
from rexdet.mmdet.options import merge_options, read_options
from rexdet.mmdet.plan import make_plan
from rexdet.mmdet.record import recipe_part
from rexdet.mmdet.rules import heads_with_classes
from rexdet.mmdet.words import schedule_words, warm_up_words
from rexdet.published import protocol
from rexdet.report.records.facts import detection_protocol, protocol_differences
from rexdet.runs import Data, DataSplit, RunRecord


def plan(detector: str = "retinanet", *options: str, classes: int | None = None, **job: Any) -> Any:
    words = ["model.backbone.name=rexnet_0.3", *options]
    return make_plan(
        DetectionJob(get_config(f"mmdet/{detector}_rexnet"), cfg_options=words, **job), classes=classes, draft=True
    )


def test_values_are_read_as_mmdetection_reads_them() -> None:
    options = read_options(["a.b=1", "c=[1,2.5]", "d=(x,y)", "e=True", "f=text", "g=1e-3"])
    assert options == {"a.b": 1, "c": [1, 2.5], "d": ("x", "y"), "e": True, "f": "text", "g": 1e-3}


@pytest.mark.parametrize("word", ["model.backbone.name", "=3", "train_cfg"])
def test_a_word_that_is_no_pair_is_one_line(word: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        read_options([word])


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("modle.backbone.name=x", "model"),
        ("model.backbon.name=x", "backbone"),
        ("optim_wraper=x", "optim_wrapper"),
        ("train_dataloader.dataset.pipeline.17.scale=(4,4)", ""),
    ],
)
def test_a_key_whose_place_is_not_there_names_the_near_ones(word: str, near: str) -> None:
    cfg = Config.fromfile(get_config("mmdet/retinanet_rexnet"))
    with pytest.raises(UserError, match=near or "has no '17'"):
        merge_options(cfg, [word])


def test_options_change_lists_arguments_and_the_runners_own_keys() -> None:
    cfg = Config.fromfile(get_config("mmdet/retinanet_rexnet"))
    words = ["train_dataloader.dataset.pipeline.2.scale=(640,480)", "model.backbone.with_cp=True", "randomness.seed=3"]
    merge_options(cfg, words)
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (640, 480)
    assert cfg.model.backbone.with_cp is True
    assert cfg.randomness.seed == 3


@pytest.mark.parametrize(
    ("detector", "heads"),
    [
        ("retinanet", ["model.bbox_head"]),
        ("mask_rcnn", ["model.roi_head.bbox_head", "model.roi_head.mask_head"]),
        ("cascade_rcnn", [f"model.roi_head.bbox_head.{stage}" for stage in range(3)]),
        ("ssdlite", ["model.bbox_head"]),
    ],
)
def test_every_head_gets_the_classes_of_the_data(detector: str, heads: list[str]) -> None:
    made = plan(detector, classes=5)
    found = dict(heads_with_classes(made.cfg.model, "model"))
    assert sorted(found) == sorted(heads)
    assert {head["num_classes"] for head in found.values()} == {5}
    assert "heads for 5 classes, as the data lists (the config says 80)" in made.said


def test_classes_typed_by_hand_must_be_those_of_the_data() -> None:
    with pytest.raises(UserError, match="leave it out"):
        plan("retinanet", "model.bbox_head.num_classes=7", classes=5)


def test_random_weights_are_not_frozen_unless_somebody_types_it() -> None:
    made = plan()
    assert made.cfg.model.backbone.frozen_stages == -1
    assert any("frozen_stages 1 counts as -1" in line for line in made.said)
    assert plan("retinanet", "model.backbone.frozen_stages=0").cfg.model.backbone.frozen_stages == 0


def test_a_stock_config_takes_a_backbone_of_ours(tmp_path: Path) -> None:
    config = tmp_path / "stock.py"
    config.write_text('_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"]\ncustom_imports = None\n')
    made = make_plan(DetectionJob(str(config), backbone="rexnet_0.9"), classes=2)
    assert made.backbone == "rexnet_0.9"
    widths = [feature.channels for feature in rexdet.create_backbone("rexnet_0.9").features.values()]
    assert made.cfg.model.neck.in_channels == widths
    assert made.pixels["order"] == "RGB"
    with pytest.raises(UserError, match="--backbone"):
        make_plan(DetectionJob(str(config), pixels="half"), classes=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train_dataloader.sampler.type=ClassAwareSampler"], "could not be resumed"),
        (["train_cfg.type=OtherLoop"], "EpochBasedTrainLoop"),
        (["val_evaluator.type=VOCMetric"], "12 numbers"),
        (["resume=True"], "--resume"),
        (["train_cfg.max_epochs=0"], "no number of steps"),
        (["train_dataloader.batch_size=0"], "no number of pictures"),
    ],
)
def test_what_is_not_trained_here_is_one_line(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan("retinanet", *options)


def test_a_config_that_averages_weights_already_keeps_its_own() -> None:
    hook = "custom_hooks=[]"
    assert plan("retinanet", hook, ema=0.99).cfg.custom_hooks[0]["momentum"] == pytest.approx(0.01)


def test_schedules_in_words() -> None:
    warm = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    steps = {"type": "MultiStepLR", "milestones": [8, 11], "gamma": 0.1}
    cosine = {"type": "CosineAnnealingLR", "T_max": 100, "eta_min": 0, "begin": 50, "end": 150, "by_epoch": False}
    assert warm_up_words([warm, steps]) == "linear, 500 steps from 0.001"
    assert schedule_words([warm, steps]) == "x0.1 at epochs 8, 11"
    assert schedule_words(cosine) == "CosineAnnealingLR T_max 100 eta_min 0 end 150"
    assert (schedule_words(None), warm_up_words([])) == ("constant", "none")


def test_the_shipped_recipe_is_known_as_mmdetections_own() -> None:
    """Its numbers stand beside ours as of the same protocol, but for what the backbone starts from and learns."""
    # Eight processes of two images, as the recipe has it, are sixteen images of one.
    made = plan("faster_rcnn", "train_dataloader.batch_size=16")
    train, val = (f"coco/annotations/instances_{split}2017.json" for split in ("train", "val"))
    record = RunRecord(
        kind="detection",
        name="run",
        engine="mmdet",
        config=made.config_text,
        recipe=recipe_part(made, 117_266),
        data=Data(train=DataSplit(path=train, images=117_266), val=DataSplit(path=val, images=5_000)),
    )
    differs = protocol_differences(detection_protocol(record), protocol("mmdetection_1x"))
    assert set(differs) == {"initial_weights", "norm", "freeze_at"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="operators on CUDA take every type")
def test_mixed_precision_that_compiled_operators_do_not_take_is_told_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(amp, "operators_in_use", lambda: "torchvision behind mmcv._ext")
    assert plan(amp="bf16").amp == "bf16"
    monkeypatch.setattr(amp, "operators_in_use", lambda: COMPILED)
    assert plan().amp is None
    for words in ({"amp": "bf16"}, {}):
        options = () if words else ("optim_wrapper.type=AmpOptimWrapper",)
        with pytest.raises(UserError, match=r"float32 alone on a CPU.*make setup-mmdet"):
            plan("faster_rcnn", *options, **words)
