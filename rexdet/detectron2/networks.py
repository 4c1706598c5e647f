"""From the settings of a config to a network with random weights."""

from __future__ import annotations

from torch import nn

from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError
from rexdet.nets import ReXNet


def create_network(settings: BackboneSettings, *, norm: str, in_channels: int = 3) -> nn.Module:
    """The network that `settings` names, with random weights.

    Raises UserError for an unknown network or argument, or a value out of range.
    """
    family, _, width = settings.network.rpartition("_")
    arguments = {"drop_path": settings.drop_path, "norm": norm, "in_channels": in_channels, **settings.overrides}
    if family not in ("rexnet", "rexnet_lite"):
        raise UserError(
            f"no network is called {settings.network!r}", "MODEL.REXDET.NAME", "write one such as rexnet_1.0"
        )
    try:
        return ReXNet(float(width), **{"lite": family == "rexnet_lite", **arguments})
    except (TypeError, ValueError) as error:
        raise UserError(str(error), f"the network {settings.network}") from error
