"""SSDLite as its papers count it: its anchors, and MMDetection's head made to predict."""

from __future__ import annotations

from mmdet.models.dense_heads import SSDHead
from mmdet.models.task_modules.prior_generators import SSDAnchorGenerator
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class RexDetSSDAnchorGenerator(SSDAnchorGenerator):
    """SSD's anchors, with three on the first map: of ratio 1, 2 and 1/2, at its smallest size.

    Other maps keep the six that their ratios give. Source: Liu et al., arXiv 1512.02325, with the lowest map reduced as
    SSDLite detectors do (Sandler et al., arXiv 1801.04381, Sec. 6.2).
    """

    FIRST_MAP = 3

    def gen_base_anchors(self) -> list[Tensor]:
        """Corners of the anchors of one place, a tensor (A, 4) for each map."""
        first, *others = super().gen_base_anchors()
        # SSD's order is: the square of the smallest size, the larger square, then the ratios in pairs.
        return [first[[0, 2, 3]], *others]


@MODELS.register_module()
class RexDetSSDHead(SSDHead):
    """MMDetection's SSD head, which computes its losses itself and so has no `loss_cls`.

    The part that predicts, shared with other heads (mmdet 3.3.0), asks for it.
    """

    loss_cls = None
