"""What Faster and Mask R-CNN over a named network cost, counted as the ReXNet paper's Tables 7 and 9 are.

The counting rule, found by trying which one gives every printed number (arXiv 2007.00992v3): a feature pyramid of 256
channels over res2 to res5 (the last convolution of the network left out), 90 classes, and the backbone's norms frozen,
so that their scale and shift are no parameters. Multiply-accumulates are those of a 1280 x 800 image with 1,000
proposals, without the mask head. Heads are detectron2's; torchvision's have rows for the background's boxes and masks,
which makes 4,100 (Faster) to 4,357 (Mask) parameters more.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from torch import Tensor, nn

from rexdet.configs import get_config
from rexdet.detectron2.merge import merge_config
from rexdet.detectron2.quiet import without_warnings
from rexdet.detectron2.use import use_backbone
from rexdet.nets.complexity import count
from rexdet.session.detector_complexity import HEIGHT, PROPOSALS, WIDTH
from rexdet.zoo.costs import DetectorCost, printed_of

CLASSES = 90
KINDS = ("faster_rcnn", "mask_rcnn")
RULE = (
    f"Faster and Mask R-CNN with detectron2's heads: pyramid over res2 to res5, {CLASSES} classes, the backbone's "
    f"norms not counted (frozen); multiply-accumulates at {WIDTH} x {HEIGHT} with {PROPOSALS:,} proposals, mask head "
    "left out. The paper's ReXNet rows follow this rule; its ResNet and ResNeXt rows do not all (its tables print "
    "202.2 and 206.5 for one ResNet-50)"
)


class _DenseBoxes(nn.Module):
    """What RetinaNet and FCOS multiply: (1, C, H, W) -> the head's outputs."""

    def __init__(self, detector: DenseDetector) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head
        self.levels = tuple(detector.head_in_features or detector.backbone.output_shape())

    def forward(self, images: Tensor) -> Any:
        maps = self.backbone(images)
        return self.head([maps[level] for level in self.levels])


class _ProposedBoxes(nn.Module):
    """What a two-stage detector multiplies for its boxes: (1, C, H, W) -> the box heads' outputs for every proposal."""

    def __init__(self, detector: GeneralizedRCNN) -> None:
        super().__init__()
        self.backbone = detector.backbone
        proposals, heads = cast(Any, detector.proposal_generator), cast(Any, detector.roi_heads)
        self.proposal_head = proposals.rpn_head
        self.levels = tuple(proposals.in_features)
        # A cascade has a head a stage, each over the regions of all proposals.
        cascaded = isinstance(heads, CascadeROIHeads)
        self.heads = nn.ModuleList(heads.box_head if cascaded else [heads.box_head])
        self.predictors = nn.ModuleList(heads.box_predictor if cascaded else [heads.box_predictor])
        channels = detector.backbone.output_shape()[heads.box_in_features[0]].channels
        self.region = (PROPOSALS, channels, *heads.box_pooler.output_size)

    def forward(self, images: Tensor) -> list[Any]:
        maps = self.backbone(images)
        self.proposal_head([maps[level] for level in self.levels])
        regions = images.new_empty(self.region)
        return [predictor(head(regions)) for head, predictor in zip(self.heads, self.predictors, strict=True)]


def multiplying_part(detector: nn.Module) -> nn.Module | None:
    """What a detector multiplies for its boxes, without anchors, losses and suppression; None where nobody knows.

    Of detectron2's own kinds: dense detectors, and R-CNNs with standard or cascaded heads over an RPN.
    """
    if isinstance(detector, DenseDetector):
        return _DenseBoxes(detector)
    if (
        isinstance(detector, GeneralizedRCNN)
        and type(detector.roi_heads) in (StandardROIHeads, CascadeROIHeads)
        and isinstance(detector.proposal_generator, RPN)
    ):
        return _ProposedBoxes(detector)
    return None


def detector_cost(name: str, kind: str) -> DetectorCost:
    """The cost of a detector over a named network, by the rule above.

    kind: "faster_rcnn" or "mask_rcnn". Raises UserError for a network without maps at strides 4 to 32.
    """
    with without_warnings(), torch.device("meta"):
        detector = build_model(_config(name, kind))
    norms = [part for part in detector.backbone.bottom_up.modules() if isinstance(part, nn.BatchNorm2d)]
    affine = sum(parameter.numel() for norm in norms for parameter in norm.parameters())
    parameters = sum(parameter.numel() for parameter in detector.parameters()) - affine
    macs = count(_ProposedBoxes(detector), (1, 3, HEIGHT, WIDTH)).macs
    return DetectorCost(name, kind, parameters, macs, printed_of(name, kind))


def _config(name: str, kind: str) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, get_config(f"{kind}_rexnet"), ["MODEL.ROI_HEADS.NUM_CLASSES", CLASSES])
    use_backbone(cfg, name)
    cfg.MODEL.DEVICE = "meta"
    return cfg
