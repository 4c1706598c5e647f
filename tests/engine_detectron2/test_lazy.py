"""Our backbones in LazyConfigs: FCOS and RetinaNet as detectron2 writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2 import model_zoo
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer
from omegaconf import DictConfig, OmegaConf

from rexdet.detectron2 import RexDetBackbone, build_bottom_up, use_backbone
from rexdet.errors import UserError
from rexdet.nets.layers import FrozenBatchNorm2d

FCOS = "COCO-Detection/fcos_R_50_FPN_1x.py"


def shrink(cfg: DictConfig) -> DictConfig:
    cfg.model.num_classes = 2
    cfg.train.device = "cpu"
    cfg.optimizer.lr = 1e-3
    return cfg


def build(cfg: DictConfig) -> torch.nn.Module:
    try:
        return instantiate(cfg.model)
    except ValueError as error:
        # Version 0.6 gives the head's one-channel output a group norm of 32 groups.
        if "num_groups" in str(error):
            pytest.skip(f"this detectron2 cannot build FCOS's head: {error}")
        raise


def train_one_step(cfg: DictConfig, tiny_coco: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """As detectron2's tools/lazyconfig_train_net.py does it."""
    cfg.dataloader.train.dataset.names = tiny_coco
    cfg.dataloader.train.total_batch_size, cfg.dataloader.train.num_workers = 2, 0
    cfg.dataloader.train.mapper.augmentations = []
    cfg.dataloader.train.mapper.use_instance_mask = False
    model = build(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cfg.optimizer.params.model = model
    trainer = SimpleTrainer(model.train(), instantiate(cfg.dataloader.train), instantiate(cfg.optimizer))
    trainer.train(0, 1)
    return model, before


def test_fcos_trains(tiny_coco: str, weights_file: Path) -> None:
    cfg = shrink(model_zoo.get_config(FCOS))
    use_backbone(cfg, "rexnet_1.0", weights_file)
    assert cfg.train.init_checkpoint == ""
    assert list(cfg.model.pixel_mean) == [123.675, 116.28, 103.53]
    assert cfg.dataloader.train.mapper.image_format == cfg.dataloader.test.mapper.image_format == "RGB"
    model, before = train_one_step(cfg, tiny_coco)
    backbone = model.backbone.bottom_up
    assert isinstance(backbone, RexDetBackbone)
    stored = torch.load(weights_file, weights_only=True)
    after = model.state_dict()
    assert torch.equal(backbone.stem.conv.weight, stored["stem.conv.weight"])
    assert not backbone.stem.conv.weight.requires_grad
    assert {type(part) for part in backbone.modules() if "Norm" in type(part).__name__} == {FrozenBatchNorm2d}
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert "backbone.bottom_up.blocks.15.project.conv.weight" in changed
    assert "head.cls_score.weight" in changed


def test_fcos_from_random_weights_says_so(tiny_coco: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = shrink(model_zoo.get_config(FCOS))
    use_backbone(cfg, "rexnet_0.6")
    assert "rexnet_0.6: random weights, BN, nothing frozen" in caplog.text
    model, _ = train_one_step(cfg, tiny_coco)
    assert all(parameter.requires_grad for parameter in model.backbone.bottom_up.parameters())


def test_a_top_block_on_the_backbones_map_follows_its_channels() -> None:
    cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
    use_backbone(cfg, "rexnet_1.3")
    model = instantiate(cfg.model)
    assert model.backbone.top_block.p6.in_channels == 240
    assert list(model.backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert cfg.model.input_format == "RGB"


def test_another_network_keeps_what_the_backbone_was_given_beside_its_name(weights_file: Path) -> None:
    cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
    use_backbone(cfg, "rexnet_1.0", weights_file)
    cfg.model.backbone.bottom_up.update(drop_path=0.1, overrides={"depth": 1.2}, pixels="half", norm="FrozenBN")
    use_backbone(cfg, "rexnet_0.6")
    bottom_up = cfg.model.backbone.bottom_up
    assert (bottom_up.drop_path, bottom_up.overrides, bottom_up.norm) == (0.1, {"depth": 1.2}, "")
    assert list(cfg.model.pixel_mean) == [127.5, 127.5, 127.5]
    assert len(list(instantiate(cfg.model).backbone.bottom_up.blocks.children())) > 16


def test_a_whole_detectors_file_is_taken_and_nothing_else_is_opened(tmp_path: Path) -> None:
    cfg = shrink(model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py"))
    use_backbone(cfg, "rexnet_0.6")
    trained = instantiate(cfg.model)
    path = tmp_path / "model_final.pth"
    torch.save({"model": trained.state_dict()}, path)
    cfg.train.init_checkpoint = str(path)
    cfg.model.backbone.bottom_up.weights = "this/file/does/not/exist.pth"
    model = instantiate(cfg.model)
    expected = trained.backbone.bottom_up.state_dict()
    assert torch.equal(model.backbone.bottom_up.stem.conv.weight, expected["stem.conv.weight"])
    cfg.train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    with pytest.raises(UserError, match=r"R-50\.pkl"):
        instantiate(cfg.model.backbone.bottom_up)


def test_a_lazy_config_without_a_pyramid_is_told_what_to_write() -> None:
    with pytest.raises(UserError, match="build_bottom_up"):
        use_backbone(OmegaConf.create({"model": {"backbone": {"net": {}}}}), "rexnet_1.0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "rexnte_1.0"}, "did you mean"),
        ({"name": "rexnet_1.0@nav_in1k", "weights": "mine.pth"}, "one of the two"),
        ({"name": "rexnet_1.0", "norm": "LN"}, "BN, FrozenBN, SyncBN, GN"),
        ({"name": "rexnet_1.0", "norm": "FrozenBN"}, "without statistics"),
        ({"name": "rexnet_1.0", "out_features": ["res9"]}, "res9"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_bottom_up(**arguments)


def test_the_shipped_fcos_config(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = LazyConfig.load(str(repository / "configs/lazy/fcos_rexnet.py"))
    assert cfg.model.backbone.bottom_up.name == "rexnet_1.0@nav_in1k"
    assert cfg.model.backbone.bottom_up.freeze_at == 2
    assert cfg.train.init_checkpoint == ""
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train"} <= set(cfg)
    stock = model_zoo.get_config(FCOS)
    assert (cfg.optimizer.lr, cfg.train.max_iter) == (stock.optimizer.lr, stock.train.max_iter)
    use_backbone(cfg, "rexnet_0.6")
    assert build(cfg).backbone.bottom_up.output_shape()["res5"].channels == cfg_channels("rexnet_0.6")


def cfg_channels(name: str) -> int:
    return build_bottom_up(name).output_shape()["res5"].channels
