"""rexdet: detection and transfer-learning evaluation around ReXNet, ResNeXt, LW-DNA and the N:M rule.

The public names are loaded when they are first used, so that `import rexdet` loads torch and nothing heavier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "UserError": "rexdet.errors",
    "list_models": "rexdet.zoo",
    "create_model": "rexdet.zoo",
    "create_backbone": "rexdet.zoo",
    "open_checkpoint": "rexdet.zoo",
    "load_weights": "rexdet.zoo",
    "Checkpoint": "rexdet.weights",
    "LoadReport": "rexdet.weights",
    "Preprocessing": "rexdet.weights",
    "optimize_for_inference": "rexdet.inference",
    "get_config": "rexdet.configs",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from rexdet.configs import get_config as get_config
    from rexdet.errors import UserError as UserError
    from rexdet.inference import optimize_for_inference as optimize_for_inference
    from rexdet.weights import Checkpoint as Checkpoint
    from rexdet.weights import LoadReport as LoadReport
    from rexdet.weights import Preprocessing as Preprocessing
    from rexdet.zoo import create_backbone as create_backbone
    from rexdet.zoo import create_model as create_model
    from rexdet.zoo import list_models as list_models
    from rexdet.zoo import load_weights as load_weights
    from rexdet.zoo import open_checkpoint as open_checkpoint


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rexdet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
