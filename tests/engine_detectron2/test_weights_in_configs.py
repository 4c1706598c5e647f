"""What a config's weights, pixels, norms and freezing mean together (backbones' files and whole detectors')."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model

import rexdet
from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.errors import UserError
from rexdet.nets.layers import BatchNorm2d, FrozenBatchNorm2d

Make = Callable[..., CfgNode]
Give = Callable[[CfgNode], None]
FPN = "build_rexdet_fpn_backbone"


@pytest.fixture
def detector_config(repository: Path, make_config: Make) -> CfgNode:
    """A small RetinaNet over ReXNet-1.0, random."""
    cfg = make_config()
    merge_config(
        cfg, repository / "configs/retinanet_rexnet.yaml", ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 8]
    )
    use_backbone(cfg, "rexnet_1.0")
    return cfg


@pytest.fixture
def detector_file(detector_config: CfgNode, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "model_final.pth"
    torch.save({"model": build_model(detector_config).state_dict(), "iteration": 3}, path)
    return path


# --- a backbone's weights


def test_a_classifiers_file_fills_the_backbone(make_config: Make, imagenet_pixels: Give, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file))
    imagenet_pixels(cfg)
    check_config(cfg)
    backbone = build_backbone(cfg)
    stored = torch.load(weights_file, weights_only=True)
    assert all(torch.equal(value, stored[key]) for key, value in backbone.state_dict().items())
    reference = rexdet.create_model("rexnet_1.0")
    reference.load_state_dict(stored)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference.eval().forward_features(image)
        for name, value in backbone.eval()(image).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


def test_another_networks_file_is_refused(make_config: Make, imagenet_pixels: Give, weights_file: Path) -> None:
    cfg = make_config(NAME="rexnet_1.3", WEIGHTS=str(weights_file))
    imagenet_pixels(cfg)
    for check in (check_config, build_backbone):
        with pytest.raises(UserError, match=r"use rexnet_1\.0"):
            check(cfg)


def test_a_missing_file_is_refused(make_config: Make) -> None:
    with pytest.raises(UserError, match="no such file"):
        build_backbone(make_config(WEIGHTS="nowhere.pth"))


# --- norms and freezing (decision 6)


def kinds_of_norms(model: torch.nn.Module) -> set[type]:
    return {
        type(part) for part in model.modules() if isinstance(part, BatchNorm2d | FrozenBatchNorm2d | torch.nn.GroupNorm)
    }


def test_norm_and_freezing_with_and_without_weights(
    make_config: Make, imagenet_pixels: Give, weights_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_weights = make_config(WEIGHTS=str(weights_file))
    imagenet_pixels(with_weights)
    backbone = build_backbone(with_weights)
    assert kinds_of_norms(backbone) == {FrozenBatchNorm2d}
    frozen = {name.split(".")[0] + name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"stemconv", "blocks0", "blocks1", "blocks2"}
    caplog.clear()
    random = build_backbone(make_config())
    assert kinds_of_norms(random) == {BatchNorm2d}
    assert all(parameter.requires_grad for parameter in random.parameters())
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "random weights" in lines[0]
    assert "FREEZE_AT 2 counts as 0" in lines[0]


def test_an_explicit_norm_holds(make_config: Make, imagenet_pixels: Give, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file), NORM="BN")
    imagenet_pixels(cfg)
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    assert kinds_of_norms(build_backbone(cfg)) == {BatchNorm2d}
    assert kinds_of_norms(build_backbone(make_config(NORM="GN"))) == {torch.nn.GroupNorm}
    cfg.MODEL.REXDET.NORM = "GN"
    with pytest.raises(UserError, match="norm"):
        build_backbone(cfg)


def test_a_frozen_norm_without_statistics_is_refused(make_config: Make) -> None:
    for check in (check_config, build_backbone):
        with pytest.raises(UserError, match="frozen norm without statistics"):
            check(make_config(NORM="FrozenBN"))


def test_a_freezing_that_cannot_be_is_refused(make_config: Make, imagenet_pixels: Give, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file))
    imagenet_pixels(cfg)
    cfg.MODEL.BACKBONE.FREEZE_AT = 6
    with pytest.raises(UserError, match="from 0"):
        build_backbone(cfg)


# --- pixels (decision 3)


def test_stock_pixels_are_refused_and_the_line_shown_puts_it_right(make_config: Make, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file))
    messages = set()
    for check in (check_config, build_backbone):
        with pytest.raises(UserError) as caught:
            check(cfg)
        messages.add(str(caught.value))
    (message,) = messages
    assert "[103.53, 116.28, 123.675], std [1.0, 1.0, 1.0], BGR" in message
    assert "[123.675, 116.28, 103.53], std [58.395, 57.12, 57.375], RGB" in message
    import shlex

    merge_config(cfg, None, shlex.split(message.partition("; write ")[2]))
    build_backbone(cfg)


@pytest.mark.parametrize("change", ["order", "std", "mean"])
def test_each_of_the_three_is_held_against_the_checkpoint(
    make_config: Make, imagenet_pixels: Give, weights_file: Path, change: str
) -> None:
    cfg = make_config(WEIGHTS=str(weights_file))
    imagenet_pixels(cfg)
    if change == "order":
        cfg.INPUT.FORMAT = "BGR"
    elif change == "std":
        cfg.MODEL.PIXEL_STD = [57.375, 57.12, 60.0]
    else:
        cfg.MODEL.PIXEL_MEAN = [127.5, 127.5, 127.5]
    with pytest.raises(UserError, match="was trained with"):
        build_backbone(cfg)


def test_rounding_is_no_contradiction(make_config: Make, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file))
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = [124.0, 116.3, 103.5], [58.4, 57.0, 57.4], "RGB"
    build_backbone(cfg)


def test_the_users_word_on_pixels(make_config: Make, weights_file: Path) -> None:
    cfg = make_config(WEIGHTS=str(weights_file), PIXELS="half")
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = [127.5] * 3, [127.5] * 3, "RGB"
    build_backbone(cfg)
    cfg.MODEL.REXDET.PIXELS = ""
    with pytest.raises(UserError, match="assumed from the file's layout"):
        build_backbone(cfg)
    cfg.MODEL.REXDET.PIXELS = "imagenet"
    with pytest.raises(UserError, match=r"as MODEL\.REXDET\.PIXELS says"):
        build_backbone(cfg)


def test_a_random_network_takes_any_pixels(make_config: Make) -> None:
    build_backbone(make_config())


# --- MODEL.WEIGHTS (decision 1)


@pytest.mark.parametrize(
    "address",
    [
        "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
        "catalog://ImageNetPretrained/MSRA/R-50",
        "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl",
    ],
)
def test_detectron2s_own_models_are_refused_by_their_address(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    from detectron2.utils.file_io import PathManager

    monkeypatch.setattr(PathManager, "get_local_path", lambda *_: pytest.fail("something was to be downloaded"))
    cfg = make_config(FPN)
    cfg.MODEL.WEIGHTS = address
    for check in (check_config, build_backbone):
        with pytest.raises(UserError, match="use_backbone") as caught:
            check(cfg)
        assert address in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_whole_detector_of_ours_is_taken_and_no_other_weights_are_opened(
    detector_config: CfgNode, detector_file: Path
) -> None:
    cfg = detector_config
    cfg.MODEL.WEIGHTS = str(detector_file)
    cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "", 2
    cfg.MODEL.REXDET.WEIGHTS = "this/file/does/not/exist.pth"
    check_config(cfg)
    backbone = build_model(cfg).backbone
    assert kinds_of_norms(backbone.bottom_up) == {FrozenBatchNorm2d}
    assert not backbone.bottom_up.stem.conv.weight.requires_grad
    stored = torch.load(detector_file, weights_only=True)["model"]
    assert torch.equal(backbone.bottom_up.stem.conv.weight, stored["backbone.bottom_up.stem.conv.weight"])
    cfg.MODEL.REXDET.WEIGHTS = ""
    cfg.MODEL.REXDET.NAME = "rexnet_1.0@nav_in1k"
    build_model(cfg)


def test_a_detector_over_another_width_is_refused(detector_config: CfgNode, detector_file: Path) -> None:
    detector_config.MODEL.WEIGHTS = str(detector_file)
    detector_config.MODEL.REXDET.NAME = "rexnet_1.3"
    for check in (check_config, build_model):
        with pytest.raises(UserError, match=r"use rexnet_1\.0"):
            check(detector_config)


def test_a_detector_that_lacks_its_stem_is_refused(detector_config: CfgNode, detector_file: Path) -> None:
    content = torch.load(detector_file, weights_only=True)
    del content["model"]["backbone.bottom_up.stem.conv.weight"]
    torch.save(content, detector_file)
    detector_config.MODEL.WEIGHTS = str(detector_file)
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        build_model(detector_config)


def test_a_backbones_file_in_the_detectors_place_is_refused(detector_config: CfgNode, weights_file: Path) -> None:
    detector_config.MODEL.WEIGHTS = str(weights_file)
    with pytest.raises(UserError, match=r"classifier alone.*use_backbone\(cfg, \"rexnet_1\.0\", weights="):
        build_model(detector_config)


def test_a_foreign_file_in_the_detectors_place_is_refused(detector_config: CfgNode, tmp_path: Path) -> None:
    import pickle

    import numpy as np

    resnet = {f"res2.{block}.conv1.weight": np.zeros((64, 64, 1, 1), np.float32) for block in range(3)}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": resnet, "__author__": "torchvision"}))
    detector_config.MODEL.WEIGHTS = str(path)
    with pytest.raises(UserError, match="use_backbone") as caught:
        build_model(detector_config)
    assert str(path) in str(caught.value)
    detector_config.MODEL.WEIGHTS = str(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="no such file"):
        build_model(detector_config)


# --- use_backbone


def test_use_backbone_sets_everything_together(make_config: Make, weights_file: Path) -> None:
    cfg = make_config()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.WEIGHTS = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    use_backbone(cfg, "rexnet_1.0", weights_file)
    assert cfg.MODEL.WEIGHTS == ""
    assert cfg.MODEL.BACKBONE.NAME == "build_retinanet_rexdet_fpn_backbone"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert dict(cfg.MODEL.REXDET)["WEIGHTS"] == str(weights_file)
    check_config(cfg)
    assert kinds_of_norms(build_backbone(cfg).bottom_up) == {FrozenBatchNorm2d}


def test_use_backbone_without_weights_says_so(make_config: Make, caplog: pytest.LogCaptureFixture) -> None:
    cfg = make_config(FPN)
    use_backbone(cfg, "rexnet_1.3")
    assert "rexnet_1.3: random weights, BN, nothing frozen" in caplog.text
    assert (cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT) == ("BN", 0)


def test_use_backbone_of_a_published_checkpoint_needs_no_download(make_config: Make) -> None:
    cfg = make_config(FPN)
    use_backbone(cfg, "rexnet_1.0@nav_in1k")
    assert (cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT, cfg.INPUT.FORMAT) == ("FrozenBN", 2, "RGB")
    with pytest.raises(UserError, match=r"published: rexnet_1\.0@nav_in1k"):
        use_backbone(cfg, "rexnet_1.0@nobody")


def test_the_last_use_backbone_wins_and_an_own_norm_stays(make_config: Make) -> None:
    cfg, fresh = make_config(FPN), make_config(FPN)
    for name in ("rexnet_1.3", "rexnet_1.0@nav_in1k"):
        use_backbone(cfg, name)
    use_backbone(fresh, "rexnet_1.0@nav_in1k")
    assert cfg == fresh
    cfg.MODEL.REXDET.NORM = "SyncBN"
    for name in ("rexnet_1.3", "rexnet_1.0@nav_in1k"):
        use_backbone(cfg, name)
        assert cfg.MODEL.REXDET.NORM == "SyncBN"


def test_a_use_backbone_that_fails_leaves_the_config_alone(make_config: Make) -> None:
    cfg = make_config(FPN)
    before = cfg.clone()
    for name, weights in (("rexnte_1.0", None), ("rexnet_1.0", "nowhere.pth"), ("rexnet_1.0@nav_in1k", "mine.pth")):
        with pytest.raises(UserError):
            use_backbone(cfg, name, weights)
        assert cfg == before


def test_use_backbone_follows_the_users_word_on_pixels(make_config: Make, weights_file: Path) -> None:
    cfg = make_config(FPN, PIXELS="half")
    use_backbone(cfg, "rexnet_1.0", weights_file)
    assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ([127.5] * 3, [127.5] * 3)
    build_backbone(cfg)
