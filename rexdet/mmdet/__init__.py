"""rexdet's backbones in MMDetection: `custom_imports = dict(imports=["rexdet.mmdet"])` in a config is all it takes.

Importing this module provides mmcv's operators where no compiled ones are installed, registers `RexDetBackbone`,
`RexDetRunner`, `RexDetCocoMetric` and what SSDLite needs with MMDetection, and lets torch's safe loading open
mmengine's own checkpoints.
"""

from __future__ import annotations

from rexdet.mmdet.operators import provide_operators

# Before anything below imports mmcv.ops.
provide_operators()

from rexdet.mmdet.backbone import RexDetBackbone  # noqa: E402
from rexdet.mmdet.fit import complete_config  # noqa: E402
from rexdet.mmdet.metric import RexDetCocoMetric  # noqa: E402
from rexdet.mmdet.runner import RexDetRunner  # noqa: E402
from rexdet.mmdet.safe_loading import allow_mmengine_checkpoints  # noqa: E402
from rexdet.mmdet.ssdlite import RexDetSSDAnchorGenerator, RexDetSSDHead  # noqa: E402

__all__ = [
    "RexDetBackbone",
    "RexDetCocoMetric",
    "RexDetRunner",
    "RexDetSSDAnchorGenerator",
    "RexDetSSDHead",
    "complete_config",
]

allow_mmengine_checkpoints()
