"""What of an MMDetection config follows from its backbone: channels of what reads it, and the pixels it is fed.

A value of None is filled in; one that somebody typed is held against the right one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from mmengine.config import Config

from rexdet.errors import UserError
from rexdet.mmdet.backbone import draft_settings
from rexdet.mmdet.networks import BackboneSettings, checkpoint_that_tells, create_network, open_weights
from rexdet.weights import Preprocessing, read_pixels
from rexdet.zoo import published
from rexdet.zoo.names import parse
from rexdet.zoo.open import is_published_name

BACKBONE = "RexDetBackbone"
# In units of 0 to 255: people round means and deviations to whole numbers.
TOLERANCE = 0.5

_KNOWN_BY = {
    "sha": "known by the file's SHA-256",
    "metadata": "as the file says",
    "user": "as pixels says",
    "assumed": "assumed from the file's layout; model.backbone.pixels tells otherwise",
}


def complete_config(cfg: Config, *, check_pixels: bool = True) -> None:
    """Fill in, in place, what follows from each backbone of ours in `cfg.model`, and check what is there.

    check_pixels: False where a whole detector's file is loaded, and the pixels are those that it was trained with.
    Raises UserError: a neck or head with other channels than the backbone gives, pixels unlike those that the weights
    were trained with (the message has both values), or a backbone that cannot be built.
    """
    for path, detector in _detectors(cfg.model, "model"):
        backbone = detector["backbone"]
        settings = draft_settings(backbone)
        channels = draft_channels(settings)
        _fit_readers(detector, path, channels, settings.name)
        if check_pixels:
            _fit_pixels(detector, path, settings)


def draft_channels(settings: BackboneSettings) -> tuple[int, ...]:
    """Channels of each map of the backbone, without memory for its tensors."""
    weights = checkpoint_that_tells(settings)
    if parse(settings.name).package:
        network = create_network(settings, weights)
    else:
        with torch.device("meta"):
            network = create_network(settings, weights)
    features: Mapping[str, Any] = network.features  # type: ignore[assignment]
    return tuple(feature.channels for feature in features.values())


def _detectors(node: Any, path: str) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """Every part of a model that has a backbone of ours, with where it stands."""
    if not isinstance(node, MutableMapping):
        return
    backbone = node.get("backbone")
    if isinstance(backbone, Mapping) and str(backbone.get("type", "")).rpartition(".")[2] == BACKBONE:
        yield path, node
    for key, value in node.items():
        if key != "backbone":
            yield from _detectors(value, f"{path}.{key}")


# -- channels -------------------------------------------------------------------------------------------------------


def _fit_readers(detector: MutableMapping[str, Any], path: str, channels: tuple[int, ...], name: str) -> None:
    neck = detector.get("neck")
    if neck is None:
        # Heads without a neck read the backbone itself.
        for key in ("bbox_head", "rpn_head"):
            if isinstance(detector.get(key), MutableMapping):
                _fit(detector[key], "in_channels", f"{path}.{key}", channels, name)
        return
    first, where = (neck, f"{path}.neck") if isinstance(neck, MutableMapping) else (neck[0], f"{path}.neck[0]")
    _fit(first, "in_channels", where, channels, name)
    if str(first.get("type")).rpartition(".")[2] == "SSDNeck":
        # It hands the backbone's maps on, and the head reads all of its own.
        extra = tuple(first["out_channels"])[len(channels) :]
        _fit(first, "out_channels", where, (*channels, *extra), name)
        first["in_channels"], first["out_channels"] = tuple(first["in_channels"]), tuple(first["out_channels"])
        if isinstance(detector.get("bbox_head"), MutableMapping):
            _fit(detector["bbox_head"], "in_channels", f"{path}.bbox_head", first["out_channels"], name)


def _fit(node: MutableMapping[str, Any], key: str, path: str, channels: tuple[int, ...], name: str) -> None:
    given = node.get(key)
    if given is None:
        node[key] = channels[-1] if given is None and len(channels) == 1 else list(channels)
        return
    if isinstance(given, int):
        # A neck or head that reads one map; which of them is its own business, as long as there is such a map.
        if given not in channels:
            raise _other_channels(f"{path}.{key}", given, channels[-1] if len(channels) == 1 else list(channels), name)
        return
    filled = [right if value is None else value for value, right in zip(given, channels, strict=False)]
    if len(given) != len(channels) or filled != list(channels):
        raise _other_channels(f"{path}.{key}", list(given), list(channels), name)
    node[key] = type(given)(filled) if isinstance(given, tuple | list) else filled


def _other_channels(where: str, given: Any, right: Any, name: str) -> UserError:
    return UserError(
        f"is {given}, but the maps of {name} have {right} channels",
        where,
        f"write None, which is filled in, or {right}",
    )


# -- pixels ---------------------------------------------------------------------------------------------------------


def _fit_pixels(detector: MutableMapping[str, Any], path: str, settings: BackboneSettings) -> None:
    """mean, std and bgr_to_rgb of the data preprocessor: MMDetection reads pictures as BGR, 0 to 255."""
    node = detector.get("data_preprocessor")
    if not isinstance(node, MutableMapping):
        return
    trained, known_by = _pixels_for(settings)
    mean, std, order = trained.detectron2_pixels()
    if node.get("rgb_to_bgr"):
        raise UserError("is True, but pictures are read as BGR", f"{path}.data_preprocessor.rgb_to_bgr", "write False")
    typed = {key: node[key] for key in ("mean", "std", "bgr_to_rgb") if node.get(key) is not None}
    right = {"mean": mean, "std": std, "bgr_to_rgb": order == "RGB"}
    wrong = [key for key, value in typed.items() if not _agree(value, right[key])]
    if wrong and settings.source:
        raise UserError(
            f"the config feeds pixels with {_words(typed)}, but {settings.source} was trained with {_words(right)} "
            f"({known_by})",
            f"{path}.data_preprocessor",
            "write mean=None, std=None, bgr_to_rgb=None, which follow the weights",
        )
    for key, value in right.items():
        if node.get(key) is None:
            node[key] = value


def _pixels_for(settings: BackboneSettings) -> tuple[Preprocessing, str]:
    """What the weights were trained with, and how that is known; ImageNet's for random ones."""
    if settings.source and is_published_name(settings.source):
        # Not fetched for this; the file is verified when it is loaded.
        return published.entry(parse(settings.source).without_rule).pixels, "published"
    if settings.source:
        checkpoint = open_weights(settings)
        return checkpoint.pixels, _KNOWN_BY[checkpoint.pixels_known_by]
    return read_pixels(settings.pixels or "imagenet", "model.backbone.pixels"), "random weights"


def _agree(given: Any, right: Any) -> bool:
    if isinstance(right, bool):
        return bool(given) == right
    numbers = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == len(right)
    return numbers and all(abs(a - b) <= TOLERANCE for a, b in zip(given, right, strict=True))


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {list(value) if isinstance(value, Sequence) else value}" for key, value in values.items())
