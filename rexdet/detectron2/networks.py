"""From the settings of a config to a network with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

import rexdet
from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError


def create_network(settings: BackboneSettings, *, norm: str, in_channels: int = 3) -> nn.Module:
    """The network that `settings` names, with random weights.

    Raises UserError for an unknown network or argument, a value out of range, and an argument with a key of its own.
    """
    own_keys = {"norm": "NORM", "drop_path": "DROP_PATH", "num_classes": "", "weights": "WEIGHTS"}
    for name in settings.overrides:
        if name in own_keys:
            key = own_keys[name]
            fix = f"set MODEL.REXDET.{key}" if key else "leave it out: a backbone has no classifier"
            raise UserError(f"{name} does not belong here", "MODEL.REXDET.OVERRIDES", fix)
    arguments: dict[str, Any] = {"norm": norm, **settings.overrides}
    if settings.drop_path > 0.0:
        arguments["drop_path"] = settings.drop_path
    if in_channels != 3:
        arguments["in_channels"] = in_channels
    return rexdet.create_model(settings.network, **arguments)
