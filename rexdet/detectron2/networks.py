"""From the settings of a config to a network with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

import rexdet
from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError
from rexdet.zoo.names import parse


def create_network(settings: BackboneSettings, *, norm: str, in_channels: int = 3) -> nn.Module:
    """The network that `settings` names, with random weights.

    Raises UserError for an unknown network or argument, a network of another package, a value out of range, and an
    argument with a key of its own.
    """
    package = parse(settings.name).package
    if package:
        raise UserError(
            f"{settings.name} is a network of {package}, and the builders for detectron2 take rexdet's own",
            "MODEL.REXDET.NAME",
            "take one that `rexdet.list_models()` lists",
        )
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
