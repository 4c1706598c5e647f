"""Names of networks: a name -> how it is built, and what was published for it."""

from __future__ import annotations

from rexdet.zoo.open import build_backbone, create_backbone, create_model, load_weights, open_checkpoint
from rexdet.zoo.registry import identify, list_models, resolve

__all__ = [
    "build_backbone",
    "create_backbone",
    "create_model",
    "identify",
    "list_models",
    "load_weights",
    "open_checkpoint",
    "resolve",
]
