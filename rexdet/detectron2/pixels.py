"""What pixels a config feeds to its network, held against what the network's weights were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode

import rexdet
from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError
from rexdet.weights import Checkpoint, Preprocessing, read_pixels
from rexdet.zoo import published
from rexdet.zoo.external_checkpoint import known_external
from rexdet.zoo.names import parse
from rexdet.zoo.open import is_published_name

# In units of 0 to 255: people round means and deviations to whole numbers.
TOLERANCE = 0.5

# How `Checkpoint.pixels_known_by` is told to a person.
_KNOWN_BY = {
    "sha": "known by the file's SHA-256",
    "metadata": "as the file says",
    "user": "as MODEL.REXDET.PIXELS says",
    "assumed": "assumed from the file's layout; MODEL.REXDET.PIXELS tells otherwise",
}


@dataclass(frozen=True)
class Pixels:
    """Normalisation in detectron2's units: a pixel in 0 to 255 becomes (pixel - mean) / std, channels in `order`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str

    def agrees_with(self, other: Pixels) -> bool:
        """Equal but for rounding to whole numbers."""
        return self.order == other.order and _close(self.mean, other.mean) and _close(self.std, other.std)

    def as_overrides(self) -> str:
        """As KEY VALUE pairs of a command line."""
        mean, std = list(self.mean), list(self.std)
        return f'MODEL.PIXEL_MEAN "{mean}" MODEL.PIXEL_STD "{std}" INPUT.FORMAT {self.order}'


def pixels_of_config(cfg: CfgNode) -> Pixels:
    """What `cfg` feeds to its network."""
    return Pixels(tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD), cfg.INPUT.FORMAT)


def pixels_for(settings: BackboneSettings) -> Pixels:
    """What a backbone wants to be fed: what its weights were trained with; ImageNet's for random weights, unless
    MODEL.REXDET.PIXELS says otherwise. Raises UserError where the weights cannot be opened.

    A published checkpoint is not fetched for this; the user's word against it is refused when it is opened.
    """
    if "@" in settings.source and is_published_name(settings.source):
        name = parse(settings.source)
        known = known_external(name) if name.package else published.entry(name).known()
        return _in_255(known.pixels)
    if settings.source:
        checkpoint = rexdet.open_checkpoint(settings.source, pixels=settings.pixels or None, network=settings.network)
        return _in_255(checkpoint.pixels)
    return _in_255(read_pixels(settings.pixels or "imagenet", "MODEL.REXDET.PIXELS"))


def check_pixels(given: Pixels, checkpoint: Checkpoint) -> None:
    """Raise UserError where the pixels given are not those that the checkpoint was trained with.

    The message prints both and the one line that puts it right.
    """
    trained = _in_255(checkpoint.pixels)
    if not given.agrees_with(trained):
        raise UserError(
            f"the config feeds pixels with mean {list(given.mean)}, std {list(given.std)}, {given.order}, "
            f"but {checkpoint.source} was trained with mean {list(trained.mean)}, std {list(trained.std)}, "
            f"{trained.order} ({_KNOWN_BY[checkpoint.pixels_known_by]})",
            fix=f"write {trained.as_overrides()}",
        )


def _close(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))


def _in_255(pixels: Preprocessing) -> Pixels:
    mean, std, order = pixels.detectron2_pixels()
    return Pixels(tuple(mean), tuple(std), order)
