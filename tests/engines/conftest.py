"""What the tests over both engines share: the same small detector in each, the same data, the same words."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rexdet.cli import execute
from rexdet.coco.generate import EmbeddedPaths, generate_embedded

NETWORK = "rexnet_0.6"
DETECTRON2 = f"""\
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE:
    NAME: build_retinanet_rexdet_fpn_backbone
  REXDET:
    NAME: {NETWORK}
  FPN:
    IN_FEATURES: [res3, res4, res5]
    OUT_CHANNELS: 16
  RETINANET:
    NUM_CONVS: 1
    SCORE_THRESH_TEST: 0.0
    TOPK_CANDIDATES_TEST: 50
  PIXEL_MEAN: [103.53, 116.28, 123.675]
  PIXEL_STD: [57.375, 57.12, 58.395]
INPUT:
  MIN_SIZE_TRAIN: [64]
  MIN_SIZE_TEST: 64
SOLVER:
  IMS_PER_BATCH: 2
  MAX_ITER: 2
  STEPS: []
DATALOADER:
  NUM_WORKERS: 0
VERSION: 2
"""
MMDET = f"""\
_base_ = ["mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"]
custom_imports = dict(imports=["rexdet.mmdet"])
model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=None),
    backbone=dict(_delete_=True, type="RexDetBackbone", name="{NETWORK}", out_indices=(1, 2, 3)),
    neck=dict(in_channels=None, out_channels=16, start_level=0),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0, nms_pre=50),
)
load = dict(type="LoadImageFromFile")
boxes = dict(type="LoadAnnotations", with_bbox=True)
resize = dict(type="Resize", scale=(64, 64), keep_ratio=True)
keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
plain = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**plain, dataset=dict(pipeline=[load, boxes, resize, dict(type="PackDetInputs")]))
val_dataloader = dict(**plain, dataset=dict(pipeline=[load, resize, boxes, dict(type="PackDetInputs", meta_keys=keys)]))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
param_scheduler = []
log_level = "ERROR"
"""


@dataclass(frozen=True)
class Engine:
    """An engine with the small detector's config in its language, and its words for what differs."""

    name: str
    config: Path
    weights_key: str
    first_tensor: str

    def classes(self, count: int) -> list[str]:
        """Command-line words that set the number of classes by hand."""
        if self.name == "detectron2":
            return ["MODEL.RETINANET.NUM_CLASSES", str(count)]
        return ["--cfg-options", f"model.bbox_head.num_classes={count}"]

    def network(self, name: str) -> list[str]:
        """Command-line words that choose the network in the config itself."""
        if self.name == "detectron2":
            return ["MODEL.REXDET.NAME", name]
        return ["--cfg-options", f"model.backbone.name={name}"]


@pytest.fixture(scope="session", params=["detectron2", "mmdet"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Each engine in turn, where it is installed."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    path = tmp_path_factory.mktemp("config") / ("small.yaml" if name == "detectron2" else "small.py")
    path.write_text(DETECTRON2 if name == "detectron2" else MMDET)
    if name == "detectron2":
        return Engine(name, path, "model", "backbone.bottom_up.stem.conv.weight")
    return Engine(name, path, "state_dict", "backbone.stem.conv.weight")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPaths:
    """Four training and three validation pictures of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return generate_embedded(folder, seed=3, train_images=4, val_images=3, size=64, workers=1, progress=False)


@pytest.fixture(scope="session")
def trained(engine: Engine, pictures: EmbeddedPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps with this engine."""
    folder = tmp_path_factory.mktemp("trained") / engine.name
    words = ["--config", str(engine.config), "--output", str(folder), "--seed", "7"]
    assert execute("train_det", [*words, *data_words(pictures)]) == 0
    return folder


def data_words(pictures: EmbeddedPaths, **other: Path) -> list[str]:
    """The four switches of a data set of files; some of the files may be others."""
    files = {
        "train_annotations": pictures.train_annotations,
        "train_images": pictures.train_images,
        "val_annotations": pictures.val_annotations,
        "val_images": pictures.val_images,
        **other,
    }
    return [word for key, path in files.items() for word in (f"--{key.replace('_', '-')}", str(path))]


@pytest.fixture
def words(engine: Engine, pictures: EmbeddedPaths, tmp_path: Path) -> object:
    """(*more, **other files) -> the words of a command that trains into tmp_path / "run"."""

    def build(*more: str, **other: Path) -> list[str]:
        start = ["--config", str(engine.config), "--output", str(tmp_path / "run"), "--seed", "7"]
        return [*start, *data_words(pictures, **other), *more]

    return build


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
