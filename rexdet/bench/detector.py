"""What the adapter costs over the bare network, and what freezing saves in a whole detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rexdet.bench.alternate import alternate
from rexdet.nets.features import run_steps

SIZE, QUICK_SIZE = 256, 64
BATCH = 4


def run(network: str = "rexnet_1.0", *, rounds: int = 15, quick: bool = False) -> list[dict[str, Any]]:
    """Rows of one run: adapter over bare network (forward), RetinaNet's step with FREEZE_AT 2 over 0, at 256 px.

    quick: at 64 px, to see that it works.
    """
    size, least = (QUICK_SIZE, 1) if quick else (SIZE, 3)
    return [*_adapter_rows(network, rounds, size), *_freezing_rows(network, max(rounds // 3, least), size)]


def _adapter_rows(network: str, rounds: int, size: int) -> list[dict[str, Any]]:
    from rexdet.zoo import create_model

    bare: Any = create_model(network).eval()
    detector: Any = _retinanet(network, freeze_at=0)
    adapter = detector.backbone.bottom_up.eval()
    x = torch.randn(BATCH, 3, size, size)
    steps = bare.steps[:-1]
    wanted = adapter.out_features

    def run_bare() -> object:
        with torch.no_grad():
            return run_steps(bare, steps, x, wanted)

    def run_adapter() -> object:
        with torch.no_grad():
            return adapter(x)

    seconds = alternate({"bare": run_bare, "adapter": run_adapter}, rounds, "adapter")
    return [{"what": f"adapter / bare network, {size} px", "ratio": round(seconds["adapter"] / seconds["bare"], 3)}]


def _freezing_rows(network: str, rounds: int, size: int) -> list[dict[str, Any]]:
    rows = []
    for norm in ("FrozenBN", "BN"):
        functions = {f"FREEZE_AT {at}": _step(_retinanet(network, freeze_at=at, norm=norm), size) for at in (0, 2)}
        seconds = alternate(functions, rounds, f"RetinaNet step, {norm}")
        ratio = seconds["FREEZE_AT 2"] / seconds["FREEZE_AT 0"]
        rows.append({"what": f"RetinaNet step, FREEZE_AT 2 / 0, {norm}, {size} px", "ratio": round(ratio, 3)})
    return rows


def _retinanet(network: str, *, freeze_at: int, norm: str = "BN") -> nn.Module:
    """detectron2's RetinaNet over the network; random weights, frozen as asked for (which a builder would not do)."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    import rexdet.detectron2 as plugin
    from rexdet.configs import get_config
    from rexdet.detectron2.backbone import RexDetBackbone
    from rexdet.zoo import build_backbone

    cfg = get_cfg()
    plugin.merge_config(cfg, get_config("retinanet_rexnet"))
    cfg.MODEL.DEVICE = "cpu"
    plugin.use_backbone(cfg, network)
    detector = build_model(cfg)
    bottom_up: Any = detector.backbone.bottom_up
    frozen = build_backbone(network, bottom_up.out_features, norm=norm, freeze_at=freeze_at)
    frozen.__class__ = RexDetBackbone
    detector.backbone.bottom_up = frozen
    return detector.train()


def _step(detector: nn.Module, size: int) -> Callable[[], None]:
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    instances = Instances((size, size))
    instances.gt_boxes = Boxes(torch.tensor([[0.08, 0.12, 0.47, 0.62], [0.23, 0.23, 0.94, 0.78]]) * size)
    instances.gt_classes = torch.tensor([1, 2])
    batch = [
        {"image": torch.randint(0, 255, (3, size, size)).float(), "instances": instances, "height": size, "width": size}
        for _ in range(BATCH)
    ]
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with EventStorage(0):
            torch.stack(list(detector(batch).values())).sum().backward()
        optimizer.step()

    return step
