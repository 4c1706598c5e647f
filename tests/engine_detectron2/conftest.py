"""What the tests of this room share: tiny data, weights files, configs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

import rexdet
import rexdet.detectron2  # registers the builders


@pytest.fixture
def make_config() -> Callable[..., CfgNode]:
    """(builder, **MODEL.REXDET keys) -> a config on the CPU that describes no detector, only a backbone."""

    def make(builder: str = "build_rexdet_backbone", **node: object) -> CfgNode:
        cfg = get_cfg()
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.BACKBONE.NAME = builder
        for key, value in node.items():
            cfg.MODEL.REXDET[key] = value
        return cfg

    return make


@pytest.fixture
def imagenet_pixels() -> Callable[[CfgNode], None]:
    """Gives a config the pixels that ImageNet checkpoints want."""

    def give(cfg: CfgNode) -> None:
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
        cfg.INPUT.FORMAT = "RGB"

    return give


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's file in our layout: ReXNet-1.0 with statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model = rexdet.create_model("rexnet_1.0")
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.05)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "classifier.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two images of 96 x 72 px with three objects of two classes, registered with detectron2; gives the name."""
    folder = tmp_path_factory.mktemp("tiny_coco")
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for number in (1, 2):
        pixels = generator.integers(0, 255, (72, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 72})
    for number, (image, category, x, y, side) in enumerate([(1, 1, 10, 8, 40), (1, 2, 50, 20, 30), (2, 2, 20, 10, 50)]):
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        annotations.append(
            {
                "id": number + 1,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, side, side],
                "area": side * side,
                "iscrowd": 0,
                "segmentation": [corners],
            }
        )
    categories = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    name = "rexdet_tests_tiny_coco"
    register_coco_instances(name, {}, str(path), str(folder))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.fixture
def small_training(tiny_coco: str) -> Callable[[CfgNode, Path], None]:
    """Makes any detector's config train on the tiny data in seconds on the CPU, whatever its network."""

    def shrink(cfg: CfgNode, output: Path) -> None:
        cfg.MODEL.DEVICE = "cpu"
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (tiny_coco,), ()
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.SOLVER.MAX_ITER = 1
        cfg.SOLVER.STEPS = ()
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64,), 96
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = 2
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
        cfg.OUTPUT_DIR = str(output)

    return shrink
