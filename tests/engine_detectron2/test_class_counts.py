"""A trained detector into a config with another number of classes: what is harmless, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from rexdet.detectron2 import merge_config, use_backbone
from rexdet.detectron2.resume import load_detector
from rexdet.errors import UserError
from rexdet.session.checkpoints import FORMAT

Make = Callable[..., CfgNode]
NARROW = {
    "retinanet": ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RETINANET.NUM_CONVS", 1],
    "mask_rcnn": ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16],
}


@pytest.fixture(params=NARROW)
def detector(request: pytest.FixtureRequest, repository: Path, make_config: Make) -> Callable[[int], nn.Module]:
    """(number of classes) -> a small detector with random weights."""

    def make(classes: int) -> nn.Module:
        cfg = make_config()
        counts = ["MODEL.RETINANET.NUM_CLASSES", classes, "MODEL.ROI_HEADS.NUM_CLASSES", classes]
        merge_config(cfg, repository / f"configs/{request.param}_rexnet.yaml", [*NARROW[request.param], *counts])
        cfg.MODEL.DEVICE = "cpu"
        use_backbone(cfg, "rexnet_0.6")
        return build_model(cfg)

    return make


def test_another_number_of_classes_resets_the_head_alone(detector: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    trained = detector(80).state_dict()
    names = {"format": FORMAT, "classes": {"names": [f"class {number}" for number in range(80)]}}
    model = detector(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lines = load_detector(model, {"model": trained, "rexdet": names}, "model_final.pth")
    backbone = [key for key in trained if key.startswith("backbone.bottom_up.")]
    assert f"backbone {len(backbone)} of {len(backbone)}" in lines[0]
    (reset,) = lines[1:]
    assert reset.startswith("head reset because classes 80 ")
    assert "3 (expected)" in reset
    for key, value in model.state_dict().items():
        same_shape = value.shape == trained[key].shape
        assert torch.equal(value, trained[key] if same_shape else before[key])


def test_the_same_number_of_classes_resets_nothing(detector: Callable[[int], nn.Module]) -> None:
    trained = detector(3).state_dict()
    model = detector(3)
    (line,) = load_detector(model, {"model": trained}, "model_final.pth")
    assert f"{len(trained)} of {len(trained)}" in line
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


def test_anything_else_that_differs_is_an_error_and_changes_nothing(detector: Callable[[int], nn.Module]) -> None:
    model = detector(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stem = "backbone.bottom_up.stem.conv.weight"
    trained = detector(80).state_dict()
    lacking = {key: value for key, value in trained.items() if key != stem}
    wider = {**trained, stem: torch.zeros(48, 3, 3, 3)}
    for wrong in (lacking, wider):
        with pytest.raises(UserError, match=r"backbone\.bottom_up\.stem\.conv\.weight"):
            load_detector(model, {"model": wrong}, "model_final.pth")
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
