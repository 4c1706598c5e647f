"""What a network was trained to see: channel means and deviations, channel order, sizes.

Weights without this knowledge load, train, and lose accuracy in silence: it travels with every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rexdet.errors import UserError

ORDERS = ("RGB", "BGR")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
_KEYS = ("mean", "std", "order", "value_range", "resize", "crop", "interpolation")
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Preprocessing:
    """Pixels as a network expects them: (x - mean) / std, x in 0 to 1.

    mean, std: one number a channel, for x in 0 to 1, always written in RGB order.
    order: in which order the network takes the channels, "RGB" or "BGR".
    value_range: 1 or 255: the range of pixel values in which the publisher states mean and std. It changes how they are
        printed, not what is computed.
    resize: pixels of the shorter side before the centre crop. crop: pixels of the crop's side. 0: not known.
    interpolation: of the resizing.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: str = "RGB"
    value_range: int = 1
    resize: int = 256
    crop: int = 224
    interpolation: str = "bicubic"

    def detectron2_pixels(self) -> tuple[list[float], list[float], str]:
        """(MODEL.PIXEL_MEAN, MODEL.PIXEL_STD, INPUT.FORMAT): 0 to 255, the channels in the order of FORMAT."""
        return _in_255(self.mean, self.order), _in_255(self.std, self.order), self.order

    def contradiction(self, mean: Sequence[float], std: Sequence[float], order: str) -> str:
        """How detectron2's PIXEL_MEAN, PIXEL_STD and FORMAT contradict these pixels, both told; "" where they agree."""
        own_mean, own_std, own_order = self.detectron2_pixels()
        same = order == own_order and _close(mean, own_mean) and _close(std, own_std)
        if same:
            return ""
        return (
            f"the config has PIXEL_MEAN {_round(mean)} PIXEL_STD {_round(std)} FORMAT {order}, "
            f"the checkpoint was trained with PIXEL_MEAN {own_mean} PIXEL_STD {own_std} FORMAT {own_order}"
        )

    def same_values(self, other: Preprocessing) -> bool:
        """The same numbers reach the network: mean, std and order. Sizes and interpolation may differ."""
        scaled = [255 * number for number in (*self.mean, *self.std)]
        theirs = [255 * number for number in (*other.mean, *other.std)]
        return self.order == other.order and _close(scaled, theirs)

    def as_mapping(self) -> dict[str, Any]:
        """Plain values: what `read_pixels` takes, and what sidecars and records hold."""
        scale = self.value_range
        return {
            "mean": [round(scale * number, 6) for number in self.mean],
            "std": [round(scale * number, 6) for number in self.std],
            "order": self.order,
            "value_range": self.value_range,
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
        }

    def __str__(self) -> str:
        mean, std = (", ".join(f"{number:g}" for number in numbers) for numbers in (self.mean, self.std))
        return f"mean {mean}, std {std}, {self.order}"


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

PRESETS: dict[str, Preprocessing] = {
    "imagenet": IMAGENET,
    "half": Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit_bgr": Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), order="BGR"),
    # The Caffe-trained ResNets of detectron2: 0 to 255, BGR, means subtracted, not divided.
    "caffe": Preprocessing(
        (123.675 / 255, 116.28 / 255, 103.53 / 255), (1 / 255, 1 / 255, 1 / 255), order="BGR", value_range=255
    ),
}


def read_pixels(word: str | Path | Mapping[str, Any] | Preprocessing, where: str = "pixels") -> Preprocessing:
    """What somebody says about pixels: a preset's name, a YAML file, a mapping, or a Preprocessing.

    A mapping has `mean` and `std` (three numbers in RGB order), and may have `order` (RGB), `value_range` (1: mean and
    std are for pixels of 0 to 1; 255), `resize` (256), `crop` (224) and `interpolation` (bicubic).
    Raises UserError for anything else, with what is wrong.
    """
    if isinstance(word, Preprocessing):
        return word
    if isinstance(word, Mapping):
        return _from_mapping(word, where)
    text = str(word)
    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    if not path.is_file():
        raise UserError(
            f"{text!r} is neither a preset ({', '.join(sorted(PRESETS))}) nor a file",
            where=where,
            fix="give one of them",
        )
    return _from_mapping(_read_yaml(path), str(path))


def sidecar_of(path: Path) -> Path:
    """Where a file's pixels may stand beside it: FILE.pixels.yaml."""
    return path.with_name(f"{path.name}.pixels.yaml")


def read_sidecar(path: Path) -> Preprocessing | None:
    """The pixels beside a file of weights, or None where there is no sidecar."""
    sidecar = sidecar_of(path)
    return _from_mapping(_read_yaml(sidecar), str(sidecar)) if sidecar.is_file() else None


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError("is not YAML text", where=str(path), fix="write mean: and std:") from error
    if isinstance(value, str) and value in PRESETS:
        return PRESETS[value].as_mapping()
    if not isinstance(value, Mapping):
        raise UserError("is not a mapping with mean: and std:", where=str(path), fix="write mean: and std:")
    return value


def _from_mapping(values: Mapping[str, Any], where: str) -> Preprocessing:
    unknown = [str(key) for key in values if key not in _KEYS]
    if unknown:
        raise UserError(f"unknown key {unknown[0]!r}", where=where, fix=f"the keys are {', '.join(_KEYS)}")
    value_range = values.get("value_range", 1)
    if value_range not in (1, 255) or isinstance(value_range, bool):
        raise UserError(f"value_range is {value_range!r}", where=where, fix="it is 1 or 255")
    mean, std = (_triple(values.get(key), key, where) for key in ("mean", "std"))
    if any(number <= 0 for number in std):
        raise UserError(f"std {list(std)} has a number that is not positive", where=where, fix="write three above 0")
    if value_range == 1 and (max(mean) > 1.0 or max(std) > 1.0):
        raise UserError(
            f"mean {list(mean)} and std {list(std)} are not for pixels of 0 to 1",
            where=where,
            fix="write value_range: 255, or divide them by 255",
        )
    order = values.get("order", "RGB")
    if order not in ORDERS:
        raise UserError(f"order is {order!r}", where=where, fix="it is RGB or BGR")
    interpolation = values.get("interpolation", "bicubic")
    if interpolation not in INTERPOLATIONS:
        raise UserError(f"interpolation is {interpolation!r}", where=where, fix=f"one of {', '.join(INTERPOLATIONS)}")
    resize, crop = (_size(values.get(key, default), key, where) for key, default in (("resize", 256), ("crop", 224)))
    scaled_mean, scaled_std = (tuple(number / value_range for number in triple) for triple in (mean, std))
    return Preprocessing(scaled_mean, scaled_std, order, int(value_range), resize, crop, interpolation)


def _triple(value: Any, key: str, where: str) -> tuple[float, float, float]:
    numbers = value if isinstance(value, list | tuple) else []
    good = len(numbers) == 3 and all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) for number in numbers
    )
    if not good:
        raise UserError(f"{key} is {value!r}", where=where, fix=f"write {key}: [R, G, B], three numbers")
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue


def _size(value: Any, key: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{key} is {value!r}", where=where, fix="a whole number of pixels")
    return value


def _in_255(numbers: Sequence[float], order: str) -> list[float]:
    scaled = [round(255.0 * number, 6) for number in numbers]
    return scaled[::-1] if order == "BGR" else scaled


def _close(one: Sequence[float], other: Sequence[float]) -> bool:
    # In units of 0 to 255; configs round to two or three decimals.
    return len(one) == len(other) and all(
        abs(a - b) <= 0.01 + _TOLERANCE * abs(b) for a, b in zip(one, other, strict=True)
    )


def _round(numbers: Sequence[float]) -> list[float]:
    return [round(float(number), 6) for number in numbers]
