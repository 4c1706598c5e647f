"""ResNets' weights in detectron2: the builder asks them where the stride stands, and a detector's file keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

import rexdet
from rexdet.detectron2 import build_bottom_up, check_config, merge_config, use_backbone
from rexdet.nets.resnet import stride_place
from rexdet.weights import cache
from rexdet.weights.layouts import layout_by_name

Make = Callable[..., CfgNode]
FPN = "build_rexdet_fpn_backbone"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of whoever runs it."""
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")


@pytest.fixture(scope="module")
def caffe2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 in Caffe2's names, as detectron2's R-50.pkl has them."""
    torch.manual_seed(0)
    state = layout_by_name("caffe2", "resnet").from_ours(rexdet.create_model("resnet50", 3).state_dict())
    path = tmp_path_factory.mktemp("caffe2") / "R-50.pkl"
    torch.save({"model": state}, path)
    return path


@pytest.fixture
def faster_rcnn(repository: Path, make_config: Make) -> CfgNode:
    cfg = make_config()
    merge_config(
        cfg, repository / "configs/faster_rcnn_rexnet.yaml", ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 8]
    )
    return cfg


def test_a_file_that_tells_how_its_network_is_built_is_opened_once(
    faster_rcnn: CfgNode, caffe2_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_backbone(faster_rcnn, "resnet50", caffe2_file)
    opened: list[object] = []
    open_checkpoint = rexdet.open_checkpoint

    def counted(source, *arguments, **options):
        opened.append(source)
        return open_checkpoint(source, *arguments, **options)

    monkeypatch.setattr(rexdet, "open_checkpoint", counted)
    assert stride_place(build_backbone(faster_rcnn)) == "1x1"
    build_bottom_up("resnet50", weights=str(caffe2_file))
    assert opened == [str(caffe2_file)] * 2


def test_caffe2s_file_brings_its_stride_and_its_pixels(faster_rcnn: CfgNode, caffe2_file: Path) -> None:
    cfg = faster_rcnn
    use_backbone(cfg, "resnet50", caffe2_file)
    assert (list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)) == ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0])
    assert cfg.INPUT.FORMAT == "BGR"
    check_config(cfg)
    backbone = build_backbone(cfg)
    assert stride_place(backbone) == "1x1"
    stored = torch.load(caffe2_file, weights_only=True)["model"]
    assert torch.equal(backbone.bottom_up.state_dict()["stem.conv.weight"], stored["conv1_w"])
    cfg.MODEL.REXDET.OVERRIDES = [["stride_in", "3x3"]]
    with pytest.raises(rexdet.UserError, match="stride_in 1x1 in the file, 3x3 in the model"):
        check_config(cfg)


def test_a_tag_brings_its_stride_also_where_only_the_detector_is_opened(
    faster_rcnn: CfgNode, caffe2_file: Path, tmp_path: Path
) -> None:
    cfg = faster_rcnn
    use_backbone(cfg, "resnet50", caffe2_file)
    detector = tmp_path / "model_final.pth"
    torch.save(
        {"model": {f"backbone.{key}": value for key, value in build_backbone(cfg).state_dict().items()}}, detector
    )
    cfg.MODEL.REXDET.NAME, cfg.MODEL.REXDET.WEIGHTS = "resnet50@d2_msra_in1k", ""
    cfg.MODEL.WEIGHTS = str(detector)
    check_config(cfg)
    assert stride_place(build_backbone(cfg)) == "1x1"


@pytest.mark.parametrize("place", ["1x1", "3x3"])
def test_a_detectors_file_says_where_its_stride_stands(
    faster_rcnn: CfgNode, caffe2_file: Path, tmp_path: Path, place: str
) -> None:
    cfg = faster_rcnn
    use_backbone(cfg, "resnet50", caffe2_file)
    weights = {f"backbone.{key}": value for key, value in build_backbone(cfg).state_dict().items()}
    detector = tmp_path / "model_final.pth"
    torch.save({"model": weights, "rexdet": {"format": 1, "stride_in": place}}, detector)
    cfg.MODEL.REXDET.WEIGHTS, cfg.MODEL.WEIGHTS = "", str(detector)
    check_config(cfg)
    assert stride_place(build_backbone(cfg)) == place


def test_detectron2s_own_detector_stays_refused(faster_rcnn: CfgNode, tmp_path: Path) -> None:
    stock = get_cfg()
    stock.MODEL.DEVICE = "cpu"
    stock.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    stock.MODEL.RESNETS.OUT_FEATURES = stock.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    state = build_backbone(stock).state_dict()
    detector = tmp_path / "model_final.pth"
    torch.save(
        {
            "model": {
                **{f"backbone.{key}": tensor for key, tensor in state.items()},
                "roi_heads.box_head.fc1.weight": torch.zeros(3, 3),
            }
        },
        detector,
    )
    cfg = faster_rcnn
    use_backbone(cfg, "resnet50")
    cfg.MODEL.WEIGHTS = str(detector)
    with pytest.raises(rexdet.UserError, match="holds a detector over a network in detectron2_resnet layout"):
        check_config(cfg)
    # As a backbone's file it opens, and says what it cannot tell.
    assert rexdet.open_checkpoint(detector).network == "resnet50"


def test_the_neck_follows_the_widths_of_the_authors_lwdna_file(faster_rcnn: CfgNode, tmp_path: Path) -> None:
    streams = (40, 80, 160, 320)
    channels = {
        f"stages.{stage}.{block}.{unit}": (width if unit in ("unit3", "projection") else 8 + block)
        for stage, (width, depth) in enumerate(zip(streams, (3, 4, 6, 3), strict=True))
        for block in range(depth)
        for unit in ("unit1", "unit2", "unit3", *(("projection",) if block == 0 else ()))
    }
    model = rexdet.create_model("resnet50", 3, channels={"stem": 12, **channels})
    path = tmp_path / "resnet50_lwdna.pt"
    torch.save(layout_by_name("lwdna", "resnet").from_ours(model.state_dict()), path)
    cfg = faster_rcnn
    with pytest.raises(rexdet.UserError) as caught:
        use_backbone(cfg, "resnet50_lwdna")
    assert str(cache.folder() / "resnet50_lwdna.pt") in str(caught.value)
    use_backbone(cfg, "resnet50_lwdna", path)
    check_config(cfg)
    backbone = build_backbone(cfg)
    assert [feature.channels for feature in backbone.bottom_up.features.values()] == list(streams)
    assert backbone.fpn_lateral5.in_channels == 320
