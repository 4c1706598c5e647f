"""Every backbone in a detector: built, and trained for two steps on pictures of noise.

What no table of shapes shows: that a network's maps fit the necks, that gradients reach its first layer and that
numbers stay finite, in both kinds of detector.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from rexdet.errors import UserError

DETECTORS = ("retinanet", "faster_rcnn")
STEPS = 2
BATCH, HEIGHT, WIDTH = 2, 96, 128
CLASSES = 2
# Small enough for any network from random weights, large enough to move a float32.
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class SweepRow:
    """One network in one detector.

    channels: of the maps that the neck reads. parameters: learnable numbers of the whole detector.
    losses: sum of the losses at each step. seconds: building and training. problem: "" where it trains.
    """

    network: str
    detector: str
    channels: tuple[int, ...]
    parameters: int
    losses: tuple[float, ...]
    seconds: float
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as plain JSON values; a loss that is not finite is null."""
        losses = [loss if math.isfinite(loss) else None for loss in self.losses]
        return {**asdict(self), "channels": list(self.channels), "losses": losses}


def sweep(names: Iterable[str], told: Callable[[SweepRow], None] = lambda row: None) -> list[SweepRow]:
    """Build every network in RetinaNet and in Faster R-CNN with random weights and train two steps, on the CPU.

    told: called with each row as soon as it is known. A network that cannot be built or trained is a row that says why;
    the others go on.
    """
    rows = []
    for name in names:
        for kind in DETECTORS:
            row = _try(name, kind)
            told(row)
            rows.append(row)
    return rows


def _try(name: str, kind: str) -> SweepRow:
    from rexdet.detectron2.quiet import without_warnings

    start = time.perf_counter()
    detector: nn.Module | None = None
    losses: list[float] = []
    problem = ""
    try:
        with without_warnings():
            detector = build(name, kind)
        losses, problem = train(detector)
    except UserError as error:
        problem = str(error)
    except Exception as error:
        # Whatever it is, it is this network's row, and the command ends with a status that says so.
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    return SweepRow(
        network=name,
        detector=kind,
        channels=_channels(detector),
        parameters=sum(part.numel() for part in detector.parameters()) if detector is not None else 0,
        losses=tuple(losses),
        seconds=time.perf_counter() - start,
        problem=problem,
    )


def build(name: str, kind: str) -> nn.Module:
    """The shipped detector of that kind over a network with random weights, for two classes, on the CPU.

    Raises UserError for an unknown network or one without the maps.
    """
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from rexdet.configs import get_config
    from rexdet.detectron2 import check_config, merge_config, use_backbone

    cfg = get_cfg()
    merge_config(cfg, get_config(f"{kind}_rexnet"), [])
    use_backbone(cfg, name)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = CLASSES
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    check_config(cfg)
    torch.manual_seed(0)
    return build_model(cfg).train()


def train(detector: nn.Module) -> tuple[list[float], str]:
    """Two steps of SGD on noise; returns the losses and what went wrong ("" for nothing)."""
    from detectron2.utils.events import EventStorage

    batch = _noise()
    learning = {name: part for name, part in detector.named_parameters() if part.requires_grad}
    before = {name: part.detach().clone() for name, part in learning.items()}
    optimizer = torch.optim.SGD(learning.values(), lr=LEARNING_RATE, momentum=0.9)
    losses = []
    with EventStorage(0):
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.stack(list(detector(batch).values())).sum()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    if not all(math.isfinite(loss) for loss in losses):
        return losses, "a loss is not finite"
    silent = [name for name, part in learning.items() if part.grad is None]
    if silent:
        return losses, f"no gradient reaches {silent[0]}" + (f" and {len(silent) - 1} more" if silent[1:] else "")
    broken = [name for name, part in learning.items() if not torch.isfinite(part).all()]
    if broken:
        return losses, f"{broken[0]} is not finite"
    first = next(name for name in learning if name.endswith("weight"))
    still = torch.equal(learning[first], before[first])
    return losses, f"{first} did not move" if still else ""


def _noise() -> list[dict[str, Any]]:
    """A batch of pictures of noise with two objects each, the same every time."""
    from detectron2.structures import Boxes, Instances

    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(BATCH):
        objects = Instances((HEIGHT, WIDTH))
        objects.gt_boxes = Boxes(torch.tensor([[8.0, 12.0, 60.0, 80.0], [50.0, 30.0, 120.0, 90.0]]))
        objects.gt_classes = torch.tensor([0, 1])
        image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, "instances": objects, "height": HEIGHT, "width": WIDTH})
    return batch


def _channels(detector: nn.Module | None) -> tuple[int, ...]:
    if detector is None:
        return ()
    backbone: Any = detector.backbone
    return tuple(shape.channels for shape in backbone.bottom_up.output_shape().values())
