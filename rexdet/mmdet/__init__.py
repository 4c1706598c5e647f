"""rexdet's backbones in MMDetection: `custom_imports = dict(imports=["rexdet.mmdet"])` in a config is all it takes.

Importing this module provides mmcv's operators where no compiled ones are installed, and registers `RexDetBackbone` in
`mmdet.registry.MODELS`.
"""

from __future__ import annotations

from rexdet.mmdet.operators import provide_operators

# Before anything below imports mmcv.ops.
provide_operators()

from rexdet.mmdet.backbone import RexDetBackbone  # noqa: E402

__all__ = ["RexDetBackbone"]
