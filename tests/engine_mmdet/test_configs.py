"""Configs: what follows from the network is filled in, what contradicts it is one line, and each trains a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS, RUNNERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from rexdet.configs import get_config
from rexdet.errors import UserError
from rexdet.mmdet import complete_config

DETECTORS = ("retinanet", "faster_rcnn", "mask_rcnn", "cascade_rcnn", "fcos", "atss", "ssdlite")
Load = Callable[..., Config]


@pytest.fixture
def load() -> Load:
    """(detector, network, overrides) -> a shipped config over that network, not completed yet."""

    def read(detector: str = "retinanet", network: str = "rexnet_1.0", **overrides: Any) -> Config:
        config = Config.fromfile(get_config(f"mmdet/{detector}_rexnet"))
        config.merge_from_dict({"model.backbone.name": network, **overrides})
        init_default_scope("mmdet")
        return config

    return read


def batch(model: torch.nn.Module, height: int = 96, width: int = 128) -> dict[str, Any]:
    """Two pictures, alike, of two objects with masks, as a data loader gives them, through the data preprocessor."""
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width), "img_id": 1})
    sample.set_metainfo(
        {"scale_factor": (1.0, 1.0), "batch_input_shape": (height, width), "pad_shape": (height, width)}
    )
    boxes = torch.tensor([[8.0, 8.0, 60.0, 70.0], [40.0, 20.0, 120.0, 90.0]])
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(boxes), labels=torch.tensor([3, 7]), masks=BitmapMasks(masks.numpy(), height, width)
    )
    sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0).long())
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    return model.data_preprocessor({"inputs": [picture, picture], "data_samples": [sample, sample.clone()]}, True)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("detector", "network"), [*((detector, "rexnet_0.9") for detector in DETECTORS), ("faster_rcnn", "resnet18")]
)
def test_each_detector_trains_a_step_and_predicts(load: Load, detector: str, network: str) -> None:
    config = load(detector, network)
    complete_config(config)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    inputs = batch(model)
    losses, _ = model.parse_losses(model(**inputs, mode="loss"))
    losses.backward()
    assert torch.isfinite(losses)
    gradient = next(p.grad for p in reversed(list(model.backbone.parameters())) if p.grad is not None)
    assert float(gradient.abs().sum()) > 0
    with torch.no_grad():
        found, _ = model.eval()(**inputs, mode="predict")
    assert found.pred_instances.bboxes.shape[1] == 4


@pytest.mark.parametrize(("width", "parameters"), [("0.9", 4.985), ("1.0", 5.682), ("1.3", 8.426)])
def test_ssdlite_has_the_papers_parameters(load: Load, width: str, parameters: float) -> None:
    config = load("ssdlite", f"rexnet_{width}")
    complete_config(config)
    model = MODELS.build(config.model)
    assert model.bbox_head.num_base_priors == [3, 6, 6, 6, 6, 6]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == parameters


def test_one_override_changes_the_network_and_all_that_follows(load: Load) -> None:
    config = load(network="rexnet_1.3")
    complete_config(config)
    assert config.model.neck.in_channels == [50, 79, 167, 240]
    wide = load("ssdlite", "rexnet_1.3")
    complete_config(wide)
    assert wide.model.neck.in_channels == (1002, 1664)
    assert wide.model.bbox_head.in_channels == (1002, 1664, 512, 256, 256, 128)
    fewer = load(**{"model.backbone.out_indices": (1, 2, 3)})
    complete_config(fewer)
    assert fewer.model.neck.in_channels == [61, 128, 185]


def test_completing_twice_changes_nothing(load: Load) -> None:
    for detector in ("retinanet", "ssdlite"):
        config = load(detector)
        complete_config(config)
        once = config.to_dict()
        complete_config(config)
        assert config.to_dict() == once


@pytest.mark.parametrize("typed", [[256, 512, 1024, 2048], [38, 61, 128], [38, 61, 128, 1280], 2048])
def test_other_channels_are_one_line_with_the_right_ones(load: Load, typed: Any) -> None:
    with pytest.raises(UserError, match=r"model\.neck\.in_channels.*\[38, 61, 128, 185\]") as caught:
        complete_config(load(**{"model.neck.in_channels": typed}))
    assert "\n" not in str(caught.value)


def test_pixels_follow_the_weights(load: Load, weights_of: Callable[[str], Path]) -> None:
    checkpoint = {"type": "Pretrained", "checkpoint": str(weights_of("rexnet_1.0"))}
    config = load(**{"model.backbone.init_cfg": checkpoint, "model.backbone.pixels": "half"})
    complete_config(config)
    assert config.model.data_preprocessor.mean == [127.5] * 3
    assert config.model.data_preprocessor.std == [127.5] * 3
    assert config.model.data_preprocessor.bgr_to_rgb is True
    config = load(**{"model.backbone.init_cfg": checkpoint, "model.backbone.pixels": "caffe"})
    complete_config(config)
    assert config.model.data_preprocessor.mean == [103.53, 116.28, 123.675]
    assert config.model.data_preprocessor.bgr_to_rgb is False


@pytest.mark.parametrize(
    "typed", [{"mean": [0.0, 0.0, 0.0]}, {"std": [1.0, 1.0, 1.0]}, {"bgr_to_rgb": False}, {"rgb_to_bgr": True}]
)
def test_pixels_that_contradict_the_weights_are_one_line(
    load: Load, weights_of: Callable[[str], Path], typed: dict[str, Any]
) -> None:
    checkpoint = {"type": "Pretrained", "checkpoint": str(weights_of("rexnet_1.0"))}
    overrides = {f"model.data_preprocessor.{key}": value for key, value in typed.items()}
    with pytest.raises(UserError, match=r"model\.data_preprocessor") as caught:
        complete_config(load(**{"model.backbone.init_cfg": checkpoint}, **overrides))
    assert "\n" not in str(caught.value)
    if "rgb_to_bgr" not in typed:
        (key,) = typed
        assert str(typed[key]) in str(caught.value)
        right = {"mean": "[123.675, 116.28, 103.53]", "std": "[58.395, 57.12, 57.375]", "bgr_to_rgb": "True"}
        assert f"{key} {right[key]}" in str(caught.value)


def test_pixels_of_random_weights_are_the_users_own_choice(load: Load) -> None:
    config = load(**{"model.data_preprocessor.mean": [1.0, 2.0, 3.0]})
    complete_config(config)
    assert config.model.data_preprocessor.mean == [1.0, 2.0, 3.0]
    assert config.model.data_preprocessor.std == [58.395, 57.12, 57.375]


def test_mmdetections_own_way_to_a_runner_fills_the_config(load: Load, tmp_path: Path) -> None:
    config = load(network="rexnet_0.5")
    config.work_dir = str(tmp_path)
    for key in ("train", "val", "test"):
        config.pop(f"{key}_dataloader")
        config.pop(f"{key}_cfg")
    for key in ("optim_wrapper", "param_scheduler", "val_evaluator", "test_evaluator"):
        config.pop(key)
    runner = RUNNERS.build(config)
    assert type(runner).__name__ == "RexDetRunner"
    assert runner.model.neck.in_channels == list(runner.model.backbone.channels)
    assert config.model.neck.in_channels is None
