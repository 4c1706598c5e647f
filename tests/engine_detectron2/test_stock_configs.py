"""detectron2's own configs with our networks, trained by a trainer that knows nothing of us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model

from rexdet.detectron2 import RexDetBackbone, check_config, use_backbone
from rexdet.errors import UserError

Shrink = Callable[[CfgNode, Path], None]
STOCK = [
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
]


def stock_config(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(name))
    return cfg


def train(cfg: CfgNode) -> DefaultTrainer:
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", STOCK)
def test_one_step_with_a_plain_trainer(name: str, small_training: Shrink, weights_file: Path, tmp_path: Path) -> None:
    cfg = stock_config(name)
    use_backbone(cfg, "rexnet_1.0", weights_file)
    small_training(cfg, tmp_path)
    check_config(cfg)
    trainer = train(cfg)
    backbone = trainer.model.backbone.bottom_up
    assert isinstance(backbone, RexDetBackbone)
    stored, now = torch.load(weights_file, weights_only=True), backbone.state_dict()
    assert torch.equal(now["stem.conv.weight"], stored["stem.conv.weight"])
    assert not torch.equal(now["blocks.15.project.conv.weight"], stored["blocks.15.project.conv.weight"])
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert torch.equal(saved["backbone.bottom_up.stem.conv.weight"], stored["stem.conv.weight"])


def test_only_the_builders_name_changed_builds_a_random_network_and_says_so(
    small_training: Shrink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = stock_config(STOCK[0])
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_rexdet_fpn_backbone"
    with pytest.raises(UserError, match=r"R-50\.pkl.*use_backbone"):
        build_model(cfg)
    cfg.MODEL.WEIGHTS = ""
    small_training(cfg, tmp_path)
    trainer = train(cfg)
    assert "random weights" in caplog.text
    assert all(parameter.requires_grad for parameter in trainer.model.backbone.bottom_up.parameters())


def test_a_detector_that_was_trained_goes_on_from_its_file(small_training: Shrink, tmp_path: Path) -> None:
    cfg = stock_config(STOCK[0])
    use_backbone(cfg, "rexnet_0.6")
    small_training(cfg, tmp_path / "first")
    first = train(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "first" / "model_final.pth")
    cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "", 5
    cfg.OUTPUT_DIR = str(tmp_path / "second")
    second = train(cfg)
    before, after = (trainer.model.backbone.bottom_up.state_dict() for trainer in (first, second))
    assert all(torch.equal(value, before[key]) for key, value in after.items())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", "C4"),
        ("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", "DC5"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "C4"),
    ],
)
def test_configs_that_rebuild_a_stage_are_refused(name: str, kind: str) -> None:
    cfg = stock_config(name)
    with pytest.raises(UserError, match=f"{kind} config"):
        use_backbone(cfg, "rexnet_1.0")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.NAME = "cpu", "", "build_rexdet_backbone"
    for check in (check_config, build_model):
        with pytest.raises(UserError, match=f"{kind} config") as caught:
            check(cfg)
        assert "\n" not in str(caught.value)


def faster_rcnn() -> CfgNode:
    cfg = stock_config(STOCK[1])
    use_backbone(cfg, "rexnet_1.0")
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_anchor_sizes_and_levels_that_do_not_pair_up_are_told_before_training() -> None:
    cfg = faster_rcnn()
    cfg.MODEL.REXDET.OUT_FEATURES = ["res3", "res4", "res5"]
    for check in (check_config, build_model):
        with pytest.raises(UserError) as caught:
            check(cfg)
        message = str(caught.value)
        assert "p3 (stride 8), p4 (16), p5 (32), p6 (64)" in message
        assert "[[32], [64], [128], [256], [512]]" in message
        assert "MODEL.RPN.IN_FEATURES asks for p2" in message
    # Asking for what there is leaves one size too many; then all fits.
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.REXDET.OUT_FEATURES
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
    with pytest.raises(UserError, match=r"has 5 entries .* for 4 levels"):
        build_model(cfg)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256]]
    check_config(cfg)
    build_model(cfg)


def test_heads_that_ask_for_levels_that_are_not_there_are_refused() -> None:
    cfg = faster_rcnn()
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p7"]
    with pytest.raises(UserError, match=r"MODEL\.ROI_HEADS\.IN_FEATURES asks for p7"):
        check_config(cfg)


def test_features_that_the_neck_asks_for_and_the_backbone_does_not_give_are_refused() -> None:
    cfg = faster_rcnn()
    cfg.MODEL.REXDET.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256]]
    for check in (check_config, build_model):
        with pytest.raises(UserError, match=r"MODEL\.FPN\.IN_FEATURES asks for res2"):
            check(cfg)


def test_gaps_between_feature_maps_are_refused_by_the_pyramids_builders() -> None:
    cfg = faster_rcnn()
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res4"]
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    for check in (check_config, build_model):
        with pytest.raises(UserError, match=r"strides double.*res2 \(stride 4\), res4 \(16\)"):
            check(cfg)


def test_the_order_of_features_does_not_matter(small_training: Shrink, tmp_path: Path) -> None:
    cfg = faster_rcnn()
    small_training(cfg, tmp_path)
    shuffled = cfg.clone()
    shuffled.MODEL.REXDET.OUT_FEATURES = ["res5", "res2", "res4", "res3"]
    shuffled.MODEL.FPN.IN_FEATURES = ["res4", "res5", "res3", "res2"]
    torch.manual_seed(0)
    plain = build_model(cfg).eval()
    torch.manual_seed(0)
    other = build_model(shuffled).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected, maps = plain.backbone(image), other.backbone(image)
    assert list(expected) == list(maps)
    assert all(torch.equal(expected[name], maps[name]) for name in maps)
