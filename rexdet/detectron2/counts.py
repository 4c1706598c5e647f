"""What Faster and Mask R-CNN over a named network cost, counted as the ReXNet paper's Tables 7 and 9 are.

The counting rule, found by trying which one gives every printed number (arXiv 2007.00992v3): a feature pyramid of 256
channels over res2 to res5 (the last convolution of the network left out), 90 classes, and the backbone's norms frozen,
so that their scale and shift are no parameters. Multiply-accumulates are those of a 1280 x 800 image with 1,000
proposals, without the mask head. Heads are detectron2's; torchvision's have rows for the background's boxes and masks,
which makes 4,100 (Faster) to 4,357 (Mask) parameters more.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor, nn

from rexdet.configs import get_config
from rexdet.detectron2.merge import merge_config
from rexdet.detectron2.quiet import without_warnings
from rexdet.detectron2.use import use_backbone
from rexdet.nets.complexity import count
from rexdet.zoo.costs import DetectorCost, printed_of

CLASSES = 90
HEIGHT, WIDTH = 800, 1280
PROPOSALS = 1000
KINDS = ("faster_rcnn", "mask_rcnn")
RULE = (
    f"Faster and Mask R-CNN with detectron2's heads: pyramid over res2 to res5, {CLASSES} classes, the backbone's "
    f"norms not counted (frozen); multiply-accumulates at {WIDTH} x {HEIGHT} with {PROPOSALS:,} proposals, mask head "
    "left out. The paper's ReXNet rows follow this rule; its ResNet and ResNeXt rows do not all (its tables print "
    "202.2 and 206.5 for one ResNet-50)"
)


class _UpToBoxes(nn.Module):
    """What a two-stage detector multiplies for its boxes: (1, 3, H, W) -> the box head's features of every proposal."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.proposal_head = detector.proposal_generator.rpn_head
        self.levels = tuple(detector.proposal_generator.in_features)
        self.box_head = detector.roi_heads.box_head
        self.box_predictor = detector.roi_heads.box_predictor
        side = detector.roi_heads.box_pooler.output_size
        self.region = (PROPOSALS, detector.backbone.output_shape()["p2"].channels, *side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(images)
        self.proposal_head([maps[level] for level in self.levels])
        return self.box_predictor(self.box_head(images.new_empty(self.region)))


def detector_cost(name: str, kind: str) -> DetectorCost:
    """The cost of a detector over a named network, by the rule above.

    kind: "faster_rcnn" or "mask_rcnn". Raises UserError for a network without maps at strides 4 to 32.
    """
    with without_warnings(), torch.device("meta"):
        detector = build_model(_config(name, kind))
    norms = [part for part in detector.backbone.bottom_up.modules() if isinstance(part, nn.BatchNorm2d)]
    affine = sum(parameter.numel() for norm in norms for parameter in norm.parameters())
    parameters = sum(parameter.numel() for parameter in detector.parameters()) - affine
    macs = count(_UpToBoxes(detector), (1, 3, HEIGHT, WIDTH)).macs
    return DetectorCost(name, kind, parameters, macs, printed_of(name, kind))


def _config(name: str, kind: str) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, get_config(f"{kind}_rexnet"), ["MODEL.ROI_HEADS.NUM_CLASSES", CLASSES])
    use_backbone(cfg, name)
    cfg.MODEL.DEVICE = "meta"
    return cfg
