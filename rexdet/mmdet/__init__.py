"""rexdet's backbones in MMDetection: `custom_imports = dict(imports=["rexdet.mmdet"])` in a config is all it takes.

Importing this module provides mmcv's operators where no compiled ones are installed.
"""

from __future__ import annotations

from rexdet.mmdet.operators import provide_operators

provide_operators()
