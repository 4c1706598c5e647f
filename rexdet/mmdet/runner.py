"""MMDetection's runner for configs over networks of ours: `runner_type = "RexDetRunner"`."""

from __future__ import annotations

import copy
from typing import Any

from mmdet.registry import RUNNERS
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from rexdet.mmdet.fit import complete_config


@RUNNERS.register_module()
class RexDetRunner(Runner):
    """mmengine's runner, after what follows from the backbone is filled into the config and checked."""

    @classmethod
    def from_cfg(cls, cfg: Config | ConfigDict) -> Any:
        """As in mmengine. Raises UserError as `rexdet.mmdet.complete_config` does."""
        completed = copy.deepcopy(cfg)
        complete_config(completed)
        return super().from_cfg(completed)
