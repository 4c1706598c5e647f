"""From the settings of a config to a network with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from rexdet.detectron2.config import BackboneSettings
from rexdet.detectron2.start import Start, find_start, open_start
from rexdet.errors import UserError
from rexdet.weights import Checkpoint
from rexdet.zoo.names import names_weights, parse
from rexdet.zoo.open import asks_its_weights, network_spec
from rexdet.zoo.published import entry
from rexdet.zoo.registry import LWDNA_RESNET50


def checkpoint_that_tells(settings: BackboneSettings, detector: str = "") -> Checkpoint | None:
    """The weights that say how their network is built (where a ResNet's stride stands); None where nothing asks them.

    detector: the whole detector's file that will be loaded, or "". Raises UserError where a file cannot be opened.
    """
    if parse(settings.network).package or not asks_its_weights(settings.network):
        return None
    start = find_start(detector, settings)
    name = parse(settings.name)
    is_told_without_its_file = name.tag != "" and name.base != LWDNA_RESNET50
    if start is Start.RANDOM or (start is Start.BACKBONE and is_told_without_its_file):
        # checkpoints.yaml tells of a published file what no tensor does: a config can be made before it is fetched.
        return None
    return open_start(start, settings, detector)


def create_network(
    settings: BackboneSettings, *, norm: str, in_channels: int = 3, weights: Checkpoint | None = None
) -> nn.Module:
    """The network that `settings` names, with random weights.

    weights: those that it will be filled with, as far as they say how it is built (`checkpoint_that_tells`).

    Raises UserError for an unknown network or argument, a value out of range, and an argument with a key of its own.
    """
    elsewhere = {
        "norm": "set MODEL.REXDET.NORM",
        "drop_path": "set MODEL.REXDET.DROP_PATH",
        "weights": "set MODEL.REXDET.WEIGHTS",
        "num_classes": "leave it out: a backbone has no classifier",
        "in_channels": "leave it out: it is the length of MODEL.PIXEL_MEAN",
    }
    for name in settings.overrides:
        if name in elsewhere:
            raise UserError(f"{name} does not belong here", "MODEL.REXDET.OVERRIDES", elsewhere[name])
    spec, told = network_spec(settings.network, weights)
    published = entry(parse(settings.name).without_rule).overrides if names_weights(settings.name) else {}
    arguments: dict[str, Any] = {"norm": norm, **published, **told, **settings.overrides}
    if settings.drop_path > 0.0:
        arguments["drop_path"] = settings.drop_path
    if in_channels != 3:
        arguments["in_channels"] = in_channels
    return spec.build(**arguments)
