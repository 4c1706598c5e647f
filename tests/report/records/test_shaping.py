"""What of a configuration parts runs from each other, in each of the languages that records hold."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rexdet.report.records.shaping import keeps_statistics, shaping_key

KEPT = Path(__file__).parents[3] / "docs" / "quickstart" / "records"
MMENGINE = """\
default_hooks = dict(
    checkpoint=dict(interval=1, type='CheckpointHook'),
    param_scheduler=dict(type='ParamSchedulerHook'))
load_from = None
model = dict(
    backbone=dict(
        frozen_stages=-1,
        init_cfg=None,
        name='rexnet_0.3',
        type='RexDetBackbone'),
    bbox_head=dict(feat_channels=256, num_classes=80, type='RetinaHead'),
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ], pad_size_divisor=32, type='DetDataPreprocessor'),
    neck=dict(
        in_channels=[
            18,
            32,
            64,
            180,
        ], out_channels=256, type='FPN'),
    type='RetinaNet')
optim_wrapper = dict(
    optimizer=dict(lr=0.01, type='SGD', weight_decay=-0.0),
    type='OptimWrapper')
train_cfg = dict(max_epochs=12, type='RexDetEpochLoop', val_interval=1)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        data_root='data/coco/',
        pipeline=[
            dict(backend_args=None, type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                1333,
                800,
            ), type='Resize'),
            dict(prob=0.5, type='RandomFlip'),
        ],
        type='CocoDataset'),
    num_workers=2)
work_dir = 'somewhere'
"""
LAZY = """\
model:
  backbone:
    bottom_up:
      name: rexnet_1.0
      weights: ''
      freeze_at: 0
      _target_: rexdet.detectron2.lazy.build_bottom_up
    out_channels: 256
  num_classes: 80
  pixel_mean:
  - 123.675
dataloader:
  train:
    dataset:
      names: coco_2017_train
    mapper:
      augmentations:
      - horizontal: true
        _target_: detectron2.data.transforms.RandomFlip
      image_format: RGB
    total_batch_size: 16
    num_workers: 4
train:
  output_dir: ./output
  seed: 3
  max_iter: 90000
  device: cpu
"""


def key(text: str, engine: str = "detectron2", *, batch_is_told: bool = True) -> str:
    return shaping_key(text, engine, batch_is_told=batch_is_told)


def changed(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name='rexnet_0.3'", "name='rexnet_2.0@nav_in1k'"),
        ("frozen_stages=-1", "frozen_stages=1"),
        ("init_cfg=None", "init_cfg=dict(checkpoint='a.pth', type='Pretrained')"),
        ("            123.675", "            127.5"),
        ("            180", "            2048"),
        ("num_classes=80", "num_classes=5"),
        ("interval=1, type='CheckpointHook'", "interval=7, type='CheckpointHook'"),
        ("val_interval=1", "val_interval=3"),
        ("data_root='data/coco/'", "data_root='elsewhere/'"),
        ("ann_file='annotations/train.json'", "ann_file='a.json'"),
        ("img='train/'", "img='pictures/'"),
        ("num_workers=2", "num_workers=0"),
        ("batch_size=2", "batch_size=4"),
        ("load_from = None", "load_from = 'a.pth'"),
        ("work_dir = 'somewhere'", "work_dir = 'elsewhere'\nrandomness = dict(seed=3)"),
        ("type='OptimWrapper'", "accumulative_counts=2,\n    type='OptimWrapper'"),
        ("max_epochs=12", "max_epochs=12.0"),
        # Another order, and another way to write the same.
        ("dict(prob=0.5, type='RandomFlip')", "{'type': 'RandomFlip', 'prob': 0.5}"),
    ],
)
def test_what_shapes_no_number_in_mmengines_text(old: str, new: str) -> None:
    assert key(changed(MMENGINE, (old, new)), "mmdet") == key(MMENGINE, "mmdet")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("out_channels=256", "out_channels=64"),
        ("prob=0.5", "prob=0.0"),
        ("            dict(prob=0.5, type='RandomFlip'),\n", ""),
        ("            800", "            600"),
        ("lr=0.01", "lr=0.02"),
        ("weight_decay=-0.0", "weight_decay=-0.1"),
        ("max_epochs=12", "max_epochs=24"),
        ("type='ParamSchedulerHook')", "type='ParamSchedulerHook'),\n    ema=dict(type='EMAHook')"),
        # Another's backbone has no name of ours to be told by.
        ("type='RexDetBackbone'", "type='ResNet'"),
    ],
)
def test_what_shapes_numbers_in_mmengines_text(old: str, new: str) -> None:
    assert key(changed(MMENGINE, (old, new)), "mmdet") != key(MMENGINE, "mmdet")


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("name: rexnet_1.0", "name: rexnet_2.0", True),
        ("weights: ''", "weights: a.pth", True),
        ("freeze_at: 0", "freeze_at: 2", True),
        ("names: coco_2017_train", "names: mine", True),
        ("output_dir: ./output", "output_dir: /a folder/with\n    blanks", True),
        ("seed: 3", "seed: 4", True),
        ("device: cpu", "device: cuda", True),
        ("image_format: RGB", "image_format: BGR", True),
        ("total_batch_size: 16", "total_batch_size: 8", True),
        ("num_classes: 80", "num_classes: 5", True),
        ("out_channels: 256", "out_channels: 64", False),
        ("horizontal: true", "horizontal: false", False),
        ("max_iter: 90000", "max_iter: 9000", False),
    ],
)
def test_a_lazy_configuration(old: str, new: str, is_same: bool) -> None:
    assert (key(changed(LAZY, (old, new))) == key(LAZY)) == is_same


def test_the_batch_counts_where_the_recipe_does_not_tell_it() -> None:
    smaller = changed(LAZY, ("total_batch_size: 16", "total_batch_size: 8"))
    assert key(smaller, batch_is_told=False) != key(LAZY, batch_is_told=False)


def test_kept_runs_that_differ_in_their_seed_have_one_key() -> None:
    records = [json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))]
    assert len({record["config"] for record in records}) > 1
    # Three from a checkpoint, three from random weights: the same but for backbone, seed and folder.
    assert len({key(record["config"]) for record in records}) == 1
    text = records[0]["config"]
    assert key(changed(text, ("OUT_CHANNELS: 64", "OUT_CHANNELS: 32"))) != key(text)
    assert key(changed(text, ("RANDOM_FLIP: horizontal", "RANDOM_FLIP: none"))) != key(text)


def test_another_backbone_counts_as_a_whole() -> None:
    text = "MODEL:\n  BACKBONE:\n    NAME: build_resnet_fpn_backbone\n  RESNETS:\n    DEPTH: 50\n"
    assert key(text) != key(changed(text, ("50", "101")))


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("model = dict(\nwork_dir = 'a'\n", "mmdet"),
        ("MODEL: [\nSEED: 1\n", "detectron2"),
        ("when: 2026-99-99\nSEED: 1\n", "detectron2"),
        ("a: &a [*a]\nSEED: 1\n", "detectron2"),
        ("just words\n", "detectron2"),
    ],
)
def test_what_cannot_be_read_is_told_apart_by_its_text(text: str, engine: str) -> None:
    assert key(text, engine) == key(text.replace("SEED: 1", "SEED: 2").replace("'a'", "'b'"), engine)
    assert key(text, engine) != key(f"{text}more: 1\n", engine)


def test_no_configuration_has_no_key() -> None:
    assert key("") == ""
    assert shaping_key(None, "mmdet", batch_is_told=True) == ""


@pytest.mark.parametrize(
    ("line", "has_weights", "keeps"),
    [("", True, True), ("", False, False), ("norm_eval=False,", True, False), ("norm_eval=True,", False, True)],
)
def test_mmdetections_norms_keep_their_statistics_unless_told_otherwise(
    line: str, has_weights: bool, keeps: bool
) -> None:
    text = changed(MMENGINE, ("frozen_stages=-1,", f"frozen_stages=-1, {line}"))
    assert keeps_statistics(text, "mmdet", has_weights=has_weights) == keeps
    assert not keeps_statistics(text, "detectron2", has_weights=has_weights)


def test_the_runs_of_a_sweep_are_told_apart_quickly() -> None:
    text = json.loads(next(iter(sorted(KEPT.glob("*.json")))).read_text())["config"]
    lines = [line for line in text.splitlines() if not line.startswith(("SEED", "OUTPUT_DIR"))]
    texts = ["\n".join([*lines, f"SEED: {seed}", f"OUTPUT_DIR: out/{seed}", ""]) for seed in range(1_000)]
    begin = time.process_time()
    assert len({key(one) for one in texts}) == 1
    # Read once and recognised since: a tenth of a millisecond each, where reading takes several.
    assert time.process_time() - begin < 1.0
