"""A run as MMDetection's own tools start it: train, score with our metric, save, resume under safe loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import RUNNERS
from mmengine.config import Config
from PIL import Image

from rexdet.configs import get_config


@pytest.fixture
def tiny_coco(tmp_path: Path) -> Path:
    """Four pictures of 96 x 72 px with an object each, of two classes; gives the annotation file."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, 5):
        pixels = generator.integers(0, 255, (72, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 72})
        box = {"bbox": [10 + number, 8, 48, 40], "area": 48 * 40, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 2, **box})
    categories = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def tiny_config(annotations: Path, epochs: int) -> Config:
    config = Config.fromfile(get_config("mmdet/retinanet_rexnet"))
    data: dict[str, Any] = {
        "data_root": "",
        "ann_file": str(annotations),
        "data_prefix": {"img": f"{annotations.parent}/"},
        "metainfo": {"classes": ("circle", "square")},
    }
    loader = {"batch_size": 2, "num_workers": 0, "persistent_workers": False}
    for key in ("train", "val", "test"):
        config.merge_from_dict({f"{key}_dataloader": {**loader, "dataset": data}})
        for step in config[f"{key}_dataloader"].dataset.pipeline:
            if step.type == "Resize":
                step.scale = (96, 96)
    metric = {
        "type": "RexDetCocoMetric",
        "ann_file": str(annotations),
        "detections": str(annotations.with_name("d.json")),
    }
    config.val_evaluator = config.test_evaluator = metric
    config.merge_from_dict(
        {
            "work_dir": str(annotations.parent / "run"),
            "model.backbone.name": "rexnet_0.3",
            "model.backbone.frozen_stages": -1,
            "model.bbox_head.num_classes": 2,
            "train_cfg.max_epochs": epochs,
            "log_level": "ERROR",
            "randomness": {"seed": 0},
            "experiment_name": f"tiny_{epochs}_{annotations.parent.name}",
        }
    )
    return config


def test_train_score_save_and_resume(tiny_coco: Path) -> None:
    first = RUNNERS.build(tiny_config(tiny_coco, epochs=1))
    first.train()
    saved = tiny_coco.parent / "run" / "epoch_1.pth"
    assert saved.is_file()
    content = torch.load(saved, weights_only=True, map_location="cpu")
    assert content["message_hub"]["log_scalars"]["train/loss"].data[0].size == 2
    numbers = first.val_loop.run()
    assert set(numbers) >= {"coco/bbox_AP", "coco/bbox_AP50", "coco/bbox_AR100", "coco/bbox_ARm"}
    assert "coco/bbox_APl" not in numbers
    assert (tiny_coco.parent / "d.json").is_file()

    config = tiny_config(tiny_coco, epochs=2)
    config.resume, config.load_from = True, str(saved)
    again = RUNNERS.build(config)
    again.train()
    assert (again.epoch, again.iter) == (2, 4)
    assert (tiny_coco.parent / "run" / "epoch_2.pth").is_file()
