"""What training does to a backbone inside a detector: freezing, precision, single images, memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from rexdet.detectron2 import merge_config, use_backbone
from rexdet.nets.layers import BatchNorm2d, DropPath

Shrink = Callable[[CfgNode, Path], None]
Make = Callable[..., CfgNode]


@pytest.fixture
def retinanet(repository: Path, make_config: Make) -> Callable[..., CfgNode]:
    """(name, weights, *pairs) -> a RetinaNet with a narrow neck over that backbone, on the CPU."""

    def make(name: str = "rexnet_0.6", weights: Path | None = None, *pairs: object) -> CfgNode:
        cfg = make_config()
        narrow = ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RETINANET.NUM_CONVS", 1]
        merge_config(cfg, repository / "configs/retinanet_rexnet.yaml", [*narrow, "MODEL.RETINANET.NUM_CLASSES", 2])
        use_backbone(cfg, name, weights)
        merge_config(cfg, None, pairs)
        return cfg

    return make


def batch(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    """Inputs of a detector: random images of the sizes (height, width), one object on each."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for height, width in sizes:
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.tensor([[4.0, 6.0, width * 0.7, height * 0.8]]))
        instances.gt_classes = torch.tensor([1])
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        inputs.append({"image": image, "instances": instances, "height": height, "width": width})
    return inputs


def losses(model: nn.Module, inputs: list[dict[str, Any]]) -> torch.Tensor:
    with EventStorage():
        return torch.stack(list(model.train()(inputs).values())).sum()


@pytest.mark.parametrize("freeze_at", [0, 1, 2, 3, 4, 5])
def test_frozen_stages_keep_every_bit(
    retinanet: Callable[..., CfgNode],
    weights_file: Path,
    small_training: Shrink,
    tmp_path: Path,
    freeze_at: int,
) -> None:
    """Three steps with momentum and a large weight decay, the optimiser being detectron2's own."""
    cfg = retinanet("rexnet_1.0", weights_file)
    small_training(cfg, tmp_path)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.REXDET.NORM = "BN"  # the stages that learn move their statistics, too
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.BASE_LR = 3, 0, 0.01
    cfg.SOLVER.WEIGHT_DECAY = cfg.SOLVER.WEIGHT_DECAY_NORM = 0.1
    trainer = DefaultTrainer(cfg)
    backbone = trainer.model.backbone.bottom_up
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    trainer.train()
    after = backbone.state_dict()
    frozen = tuple(f"{step.path}." for step in backbone.frozen_steps())
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert not {key for key in changed if key.startswith(frozen)}
    learning = {key for key in after if key.endswith(("conv.weight", "running_mean")) and not key.startswith(frozen)}
    assert bool(learning) == (freeze_at < 5)
    assert learning <= changed
    assert all(
        not part.training for step in backbone.frozen_steps() for part in backbone.get_submodule(step.path).modules()
    )


def test_one_image_of_an_odd_size_is_a_training_batch(retinanet: Callable[..., CfgNode]) -> None:
    model = build_model(retinanet())
    total = losses(model, batch((45, 67)))
    total.backward()
    assert math.isfinite(total.item())
    gradients = [parameter.grad for parameter in model.backbone.bottom_up.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_images_of_different_odd_sizes_are_one_batch(retinanet: Callable[..., CfgNode]) -> None:
    model = build_model(retinanet())
    assert math.isfinite(losses(model, batch((45, 67), (71, 33))).item())
    with torch.no_grad():
        (first, second) = model.eval()(batch((45, 67), (71, 33)))
    assert first["instances"].image_size == (45, 67)
    assert second["instances"].image_size == (71, 33)


def test_bfloat16_autocast_trains(retinanet: Callable[..., CfgNode]) -> None:
    torch.manual_seed(0)
    model = build_model(retinanet())
    # Not smaller: on a map of 1 x 1, torch 2.11's bfloat16 gradient of a 3 x 3 kernel with stride 2 (p7) is undefined.
    inputs = batch((96, 96), (96, 96))
    expected = losses(model, inputs).item()
    with torch.autocast("cpu", torch.bfloat16):
        total = losses(model, inputs)
    total.backward()
    assert total.item() == pytest.approx(expected, rel=0.05)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_activation_checkpointing_changes_no_number(retinanet: Callable[..., CfgNode]) -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build_model(retinanet("rexnet_0.6", None, "MODEL.REXDET.ACT_CHECKPOINT", checkpointing))
        assert model.backbone.bottom_up.activation_checkpointing is checkpointing
        losses(model, batch((64, 64), (64, 64))).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((model.state_dict(), gradients))
    (states, gradients), (other_states, other_gradients) = results
    assert all(torch.equal(states[key], other_states[key]) for key in states)
    assert all(torch.equal(gradients[key], other_gradients[key]) for key in gradients)


def test_drop_path_reaches_the_blocks_with_a_shortcut(retinanet: Callable[..., CfgNode]) -> None:
    model = build_model(retinanet("rexnet_0.6", None, "MODEL.REXDET.DROP_PATH", 0.2))
    rates = [part.rate for part in model.backbone.bottom_up.modules() if isinstance(part, DropPath)]
    assert max(rates) == pytest.approx(0.2)
    assert len(rates) == 11  # 16 blocks, 5 of which change the stride or narrow
    assert math.isfinite(losses(model, batch((64, 64), (64, 64))).item())


def test_channels_last_gives_the_same_maps(retinanet: Callable[..., CfgNode]) -> None:
    backbone = build_model(retinanet()).backbone.bottom_up.eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(image)
        maps = backbone.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    for name, value in maps.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


def test_a_frozen_norm_in_training_does_not_move(
    retinanet: Callable[..., CfgNode], weights_file: Path, tmp_path: Path, small_training: Shrink
) -> None:
    cfg = retinanet("rexnet_1.0", weights_file)
    small_training(cfg, tmp_path)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 2, 0
    trainer = DefaultTrainer(cfg)
    backbone = trainer.model.backbone.bottom_up
    assert not [part for part in backbone.modules() if isinstance(part, BatchNorm2d)]
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    trainer.train()
    assert before
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_weight_decay_of_norms_follows_detectron2s_key(
    retinanet: Callable[..., CfgNode], tmp_path: Path, small_training: Shrink
) -> None:
    from detectron2.solver import build_optimizer

    cfg = retinanet()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0.5, 0.0
    model = build_model(cfg)
    decays = {
        id(p): group["weight_decay"] for group in build_optimizer(cfg, model).param_groups for p in group["params"]
    }
    backbone = model.backbone.bottom_up
    assert decays[id(backbone.stem.norm.weight)] == 0.0
    assert decays[id(backbone.stem.conv.weight)] == 0.5
