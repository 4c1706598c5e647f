"""The configs that travel with rexdet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.detectron2.levels import check_heads
from rexdet.errors import UserError

KINDS = {
    "retinanet": "COCO-Detection/retinanet_R_50_FPN",
    "faster_rcnn": "COCO-Detection/faster_rcnn_R_50_FPN",
    "mask_rcnn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN",
}


def load(repository: Path, name: str, *pairs: object) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, repository / "configs" / f"{name}.yaml", pairs)
    return cfg


def flat(cfg: CfgNode, place: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in cfg.items():
        leaves |= flat(value, f"{place}{key}.") if isinstance(value, CfgNode) else {f"{place}{key}": value}
    return leaves


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ["1x", "3x"])
def test_the_baseline_is_detectron2s_own_config(repository: Path, kind: str, schedule: str) -> None:
    ours = flat(load(repository, f"{kind}_r50" + ("" if schedule == "1x" else "_3x")))
    theirs = get_cfg()
    theirs.merge_from_file(model_zoo.get_config_file(f"{KINDS[kind]}_{schedule}.yaml"))
    different = {key for key, value in flat(theirs).items() if ours[key] != value}
    # detectron2's base config describes a mask head where none is built, too.
    assert not {key for key in different if theirs.MODEL.MASK_ON or "ROI_MASK_HEAD" not in key}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ["", "_3x"])
def test_ours_differs_from_the_baseline_in_network_and_pixels_alone(repository: Path, kind: str, schedule: str) -> None:
    ours, baseline = (flat(load(repository, f"{kind}_{network}{schedule}")) for network in ("rexnet", "r50"))
    different = {key for key, value in ours.items() if baseline[key] != value}
    assert different == {
        "MODEL.WEIGHTS",
        "MODEL.BACKBONE.NAME",
        "MODEL.REXDET.NAME",
        "MODEL.RESNETS.OUT_FEATURES",
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "INPUT.FORMAT",
    }
    assert ours["MODEL.REXDET.NAME"] == "rexnet_1.0@nav_in1k"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_config_says_is_what_use_backbone_would_say(repository: Path, kind: str) -> None:
    written, set_together = (load(repository, f"{kind}_rexnet") for _ in range(2))
    use_backbone(set_together, "rexnet_1.0@nav_in1k")
    different = {key for key, value in flat(written).items() if flat(set_together)[key] != value}
    assert different == {"MODEL.REXDET.NORM"}
    assert set_together.MODEL.REXDET.NORM == "FrozenBN"


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_without_its_tag_is_the_same_run_from_random_weights(repository: Path, kind: str) -> None:
    tagged = load(repository, f"{kind}_rexnet")
    random = tagged.clone()
    use_backbone(random, "rexnet_1.0")
    different = {key for key, value in flat(tagged).items() if flat(random)[key] != value}
    assert different == {"MODEL.REXDET.NAME", "MODEL.REXDET.NORM", "MODEL.BACKBONE.FREEZE_AT"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["rexnet_1.3", "rexnet_lite_1.0"])
def test_another_network_is_one_override(repository: Path, kind: str, name: str) -> None:
    cfg = load(repository, f"{kind}_rexnet", "MODEL.REXDET.NAME", name, "MODEL.DEVICE", "meta")
    check_config(cfg, training=False)
    with torch.device("meta"):
        model = build_model(cfg)
    channels = {shape.channels for shape in model.backbone.bottom_up.output_shape().values()}
    assert model.backbone.fpn_lateral5.in_channels in channels
    check_heads(cfg, model.backbone.bottom_up.features)


def test_the_published_weights_are_what_is_loaded(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path))
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    with pytest.raises(UserError, match="rexnet"):
        check_config(load(repository, "retinanet_rexnet", "MODEL.DEVICE", "cpu"))


def test_bases_are_found_from_any_folder(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"_BASE_: {repository / 'configs/mask_rcnn_rexnet_3x.yaml'}\nSOLVER:\n  BASE_LR: 0.005\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(mine))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.MODEL.MASK_ON) == (270000, 0.005, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shipped_config_trains(
    repository: Path, kind: str, small_training: Callable[[CfgNode, Path], None], weights_file: Path, tmp_path: Path
) -> None:
    from detectron2.engine import DefaultTrainer

    cfg = load(
        repository, f"{kind}_rexnet", "MODEL.REXDET.NAME", "rexnet_1.0", "MODEL.REXDET.WEIGHTS", str(weights_file)
    )
    small_training(cfg, tmp_path)
    check_config(cfg)
    trainer = DefaultTrainer(cfg)
    trainer.train()
    key = "bottom_up.blocks.15.project.conv.weight"
    trained = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"][f"backbone.{key}"]
    assert not torch.equal(trained, torch.load(weights_file, weights_only=True)[key.partition(".")[2]])
