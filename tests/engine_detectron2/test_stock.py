"""detectron2's own ResNets are told in words of ours, and a baseline's configuration counts as ours beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed")

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

from rexdet.detectron2 import merge_config
from rexdet.detectron2.plan import Plan
from rexdet.detectron2.stock import describe_stock
from rexdet.report.records.shaping import shaping_key
from rexdet.runs.parts import Network

BUILDER = "build_retinanet_resnet_fpn_backbone"


def described(change: Callable[[CfgNode], None], weights: str = "", config: str = "retinanet_R_50_FPN_1x") -> Network:
    """What a record says of the backbone of a config of detectron2's model zoo."""
    cfg = model_zoo.get_config(f"COCO-Detection/{config}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    change(cfg)
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    plan = cast(Plan, SimpleNamespace(detector_weights=weights))
    return describe_stock(Network(name=cfg.MODEL.BACKBONE.NAME), getattr(backbone, "bottom_up", backbone), plan)


def resnets(**values: Any) -> Callable[[CfgNode], None]:
    """Sets keys of MODEL.RESNETS."""
    return lambda cfg: cfg.MODEL.RESNETS.update(values)


@pytest.mark.parametrize(
    ("change", "name", "overrides"),
    [
        (resnets(), "resnet50", {"stride_in": "1x1"}),
        (resnets(STRIDE_IN_1X1=False), "resnet50", {}),
        (resnets(DEPTH=101), "resnet101", {"stride_in": "1x1"}),
        (resnets(DEPTH=18, RES2_OUT_CHANNELS=64), "resnet18", {}),
        (resnets(NUM_GROUPS=32, WIDTH_PER_GROUP=4, STRIDE_IN_1X1=False), "resnext50_32x4d", {}),
        (resnets(DEPTH=101, NUM_GROUPS=32, WIDTH_PER_GROUP=8, STRIDE_IN_1X1=False), "resnext101_32x8d", {}),
        (resnets(WIDTH_PER_GROUP=32), "resnext50_1x32d", {"stride_in": "1x1"}),
        # What none of our names fits keeps its builder's.
        (resnets(STEM_OUT_CHANNELS=32), BUILDER, {}),
        (resnets(RES2_OUT_CHANNELS=128), BUILDER, {}),
    ],
)
def test_a_resnet_is_told_by_our_name(change: Callable[[CfgNode], None], name: str, overrides: dict[str, str]) -> None:
    part = described(change)
    assert (part.name, part.overrides) == (name, overrides)
    assert (part.norm, part.freeze_at, part.source, part.sha256) == ("FrozenBN", 2, None, None)


def test_a_dilated_stage_has_none_of_our_names() -> None:
    def change(cfg: CfgNode) -> None:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        cfg.MODEL.RESNETS.RES5_DILATION = 2

    assert described(change).name == "build_resnet_backbone"


def test_three_stages_are_a_resnet_too() -> None:
    part = described(resnets(), config="faster_rcnn_R_50_C4_1x")
    assert (part.name, part.overrides) == ("resnet50", {"stride_in": "1x1"})


@pytest.mark.parametrize(("norm", "told"), [("BN", "BN"), ("GN", "GN"), ("FrozenBN", "FrozenBN")])
@pytest.mark.parametrize("freeze_at", [0, 1, 3, 5])
def test_norm_and_freezing_are_those_of_what_learns(norm: str, told: str, freeze_at: int) -> None:
    def change(cfg: CfgNode) -> None:
        cfg.MODEL.RESNETS.NORM = norm
        cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at

    part = described(change)
    assert part.freeze_at == freeze_at
    # Freezing makes the norms of what stands still FrozenBN, of the last stage only where all does.
    assert part.norm == ("FrozenBN" if freeze_at == 5 and norm == "BN" else told)


def test_the_file_of_weights_is_told_by_its_hash_and_its_published_name(tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    torch.save({"model": {"stem.conv1.weight": torch.zeros(1)}}, path)
    part = described(resnets(), str(path))
    assert (part.source, part.sha256) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    gone = described(resnets(), str(tmp_path / "gone.pkl"))
    assert (gone.source, gone.sha256) == (str(tmp_path / "gone.pkl"), None)


def test_a_file_of_the_model_zoo_has_its_published_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path))
    part = described(resnets(), "detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    assert part.source == "resnet50@d2_msra_in1k"
    other = "detectron2://ImageNetPretrained/nobody/knows.pkl"
    assert described(resnets(), other).source == other


def test_a_whole_detector_says_nothing_of_what_its_backbone_began_from(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(1)}}, path)
    part = described(resnets(), str(path))
    assert (part.source, part.sha256) == (str(path), None)


@pytest.mark.parametrize("schedule", ["", "_3x"])
@pytest.mark.parametrize("kind", ["retinanet", "faster_rcnn", "mask_rcnn"])
def test_the_shipped_baselines_have_the_key_of_what_stands_beside_them(
    repository: Path, kind: str, schedule: str
) -> None:
    def key(name: str, network: str, *pairs: object) -> str:
        cfg = get_cfg()
        merge_config(cfg, repository / "configs" / f"{name}.yaml", pairs)
        return shaping_key(cfg.dump(), "detectron2", batch_is_told=True, network=network)

    baseline = key(f"{kind}_r50{schedule}", "resnet50")
    assert baseline == key(f"{kind}_rexnet{schedule}", "rexnet_1.0")
    assert baseline == key(f"{kind}_r50{schedule}", "resnet101", "MODEL.RESNETS.DEPTH", 101)
    assert baseline != key(f"{kind}_r50{schedule}", "resnet50", "MODEL.FPN.OUT_CHANNELS", 64)
    # Where the row names the builder alone, all of the backbone counts.
    builder = "build_retinanet_resnet_fpn_backbone" if kind == "retinanet" else "build_resnet_fpn_backbone"
    unnamed = key(f"{kind}_r50{schedule}", builder)
    assert unnamed != baseline
    assert unnamed != key(f"{kind}_r50{schedule}", builder, "MODEL.RESNETS.RES5_DILATION", 2)
