"""What a detector of MMDetection multiplies for its boxes, as its record counts it."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from torch import Tensor, nn

from rexdet.session.detector_complexity import PROPOSALS


class _DenseBoxes(nn.Module):
    """(1, C, H, W) -> the outputs of a dense head on the maps of backbone and neck."""

    def __init__(self, detector: SingleStageDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        return self.detector.bbox_head(self.detector.extract_feat(images))


class _ProposedBoxes(nn.Module):
    """(1, C, H, W) -> the outputs of the box head, or of each of a cascade, for every proposal."""

    def __init__(self, detector: TwoStageDetector) -> None:
        super().__init__()
        self.detector = detector
        heads = detector.roi_head
        cascaded = isinstance(heads, CascadeRoIHead)
        self.heads = nn.ModuleList(heads.bbox_head if cascaded else [heads.bbox_head])
        pooler = heads.bbox_roi_extractor[0] if cascaded else heads.bbox_roi_extractor
        self.region = (PROPOSALS, pooler.out_channels, *pooler.roi_layers[0].output_size)

    def forward(self, images: Tensor) -> list[Any]:
        self.detector.rpn_head(self.detector.extract_feat(images))
        regions = images.new_empty(self.region)
        return [head(regions) for head in self.heads]


def multiplying_part(detector: nn.Module) -> nn.Module | None:
    """What a detector multiplies for its boxes, without anchors, losses and suppression; None where nobody knows.

    Single-stage detectors, and two-stage ones with standard or cascaded heads over an RPN.
    """
    if isinstance(detector, SingleStageDetector):
        return _DenseBoxes(detector)
    if (
        isinstance(detector, TwoStageDetector)
        and type(detector.roi_head) in (StandardRoIHead, CascadeRoIHead)
        and isinstance(detector.rpn_head, RPNHead)
    ):
        return _ProposedBoxes(detector)
    return None
