"""Protocols: how a classifier is trained, in a small YAML file each (`transfer/*.yaml`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rexdet.errors import UserError
from rexdet.weights.pixels import Preprocessing, read_pixels
from rexdet.zoo.names import near

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Schedule(_Part):
    """How the learning rate falls after the warm-up.

    kind: "cosine" (to 0 at the last step), "step" (times `factor` at each share of all steps in `at`) or "constant".
    """

    kind: Literal["cosine", "step", "constant"]
    at: list[Share] = Field(default_factory=list)
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if (self.kind == "step") != bool(self.at):
            raise ValueError("`at` lists where a step schedule falls, and belongs to no other kind")
        if sorted(self.at) != self.at:
            raise ValueError("the shares in `at` must rise")
        return self


class RandomResizedCrop(_Part):
    """A random part of the image, resized to the network's input, as torchvision's transform of that name draws it.

    scale: least and most of the image's area. ratio: least and most of width over height. keep_side: the store that
    the parts are cut from keeps each image with its shorter side scaled down to so many pixels (never up).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    keep_side: Annotated[int, Field(ge=8, le=4096)] = 320

    @model_validator(mode="after")
    def _check(self) -> RandomResizedCrop:
        for name, (low, high), most in (("scale", self.scale, 1.0), ("ratio", self.ratio, math.inf)):
            if not 0 < low <= high <= most:
                raise ValueError(f"{name} is {low:g} to {high:g}: give a rising pair above 0")
        return self


class Augmentation(_Part):
    """pad: pixels of border that a random crop moves within, 0 for none. flip: left and right are changed at random.

    random_resized_crop: given, a random part of the image is resized to the input; else the image is framed as for
    testing. mixup: alpha of the Beta distribution that two images of a batch are mixed by, 0 for none.
    """

    pad: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    random_resized_crop: RandomResizedCrop | None = None
    mixup: Annotated[float, Field(ge=0.0)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Augmentation:
        if self.pad and self.random_resized_crop:
            raise ValueError("pad and random_resized_crop are two ways to crop: give one")
        return self


class Grid(_Part):
    """What is tried before the test: every learning rate with every weight decay, chosen between by validation.

    weight_decay: empty for the protocol's own. over_learning_rate: the decay of a cell is its value divided by the
    cell's learning rate, since what a step takes off a weight is their product.
    """

    learning_rate: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)]
    weight_decay: list[Annotated[float, Field(ge=0.0)]] = Field(default_factory=list)
    over_learning_rate: bool = False

    @model_validator(mode="after")
    def _check(self) -> Grid:
        for name in ("learning_rate", "weight_decay"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} holds a value twice")
        return self


class _Common(_Part):
    """What every protocol has.

    source: where its fields come from. image_size: side of the network's input in pixels; None: the size that the
    checkpoint was trained at. framing: how an image reaches it, where no random part is taken: "whole" scales the whole
    of it, "centre" scales its shorter side to the checkpoint's `resize` (of another size: in the same proportion) and
    cuts the middle out. interpolation: "" for the checkpoint's own. pixels: mean and std for networks without a
    checkpoint, as `rexdet.weights.pixels.read_pixels` takes them; a checkpoint's own come first.
    """

    name: Annotated[str, Field(min_length=1)]
    source: str = ""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    framing: Literal["whole", "centre"] = "whole"
    interpolation: Literal["", "bilinear", "bicubic"] = ""
    pixels: str | dict[str, Any] = "imagenet"

    @model_validator(mode="after")
    def _check_pixels(self) -> _Common:
        self.preprocessing()
        return self

    def preprocessing(self) -> Preprocessing:
        """What the network sees of a pixel where no checkpoint says so."""
        try:
            return read_pixels(self.pixels, f"protocol {self.name}")
        except UserError as error:
            raise ValueError(str(error)) from error

    def size(self, pixels: Preprocessing | None = None) -> int:
        """Side of the input: the protocol's, else the checkpoint's."""
        return self.image_size or (pixels or self.preprocessing()).crop or 224


class ProbeProtocol(_Common):
    """A classifier on features that stay as they are: nothing of the network is trained.

    kind: "linear_probe", "knn" or "few_shot". tap: the feature, "penultimate" or one of res2 ... res5. neighbours,
    temperature, norm: of knn. shots, draws, ridge: of few_shot: images a class, how often they are drawn, the penalty.
    """

    kind: Literal["linear_probe", "knn", "few_shot"]
    tap: Literal["penultimate", "res2", "res3", "res4", "res5"] = "penultimate"
    batch_size: Annotated[int, Field(ge=1)] = 64
    neighbours: Annotated[list[Count], Field(min_length=1)] = [20]
    temperature: Annotated[float, Field(gt=0.0)] = 0.07
    norm: Literal["l2", "none"] = "l2"
    shots: Annotated[list[Count], Field(min_length=1)] = [1, 5, 10, 25]
    draws: Count = 1
    ridge: Annotated[float, Field(gt=0.0)] = 1024.0

    @property
    def from_scratch(self) -> bool:
        """Never: features of a random network are asked for by --from-scratch alone."""
        return False

    def changed(self, **values: Any) -> ProbeProtocol:
        """The protocol with other values. Raises UserError for one that a probe does not have or out of range."""
        return _validated(ProbeProtocol, {**self.model_dump(), **values}, f"protocol {self.name}")


class Protocol(_Common):
    """How a classifier is trained. Exactly one of `epochs` and `steps` is given.

    from_scratch: the network begins with random weights. learning_rate: after the warm-up, whose share of all steps is
    `warm_up`. momentum, nesterov: of sgd. weight_decay: on every parameter. grid: what is tried on validation before;
    None: nothing is. bn_momentum: PyTorch's; None for the network's own, "10/s" for min(10 / steps of an epoch, 0.1).
    ema: decay of the averaged weights, None to keep none; they are what is evaluated then. drop_path: rate of the
    network's last block, given when it is built. freeze: "none", "norms" (statistics stay, weights learn), "1" to "5"
    (so many stages, as detectron2 counts: 1 is the stem) or "backbone" (all but the classifier). amp: mixed precision.
    """

    kind: Literal["fine_tune"] = "fine_tune"
    from_scratch: bool = False
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    steps: Count | None = None
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0.0)]
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    grid: Grid | None = None
    warm_up: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    schedule: Schedule
    augmentation: Augmentation = Augmentation()
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    bn_momentum: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["10/s"] | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    freeze: Literal["none", "norms", "1", "2", "3", "4", "5", "backbone"] = "none"
    amp: Literal["bf16"] | None = None
    channels_last: bool = True
    compile: bool = False

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        return self

    def total_steps(self, images: int) -> int:
        """Optimiser steps of the whole training on that many images, at least 1."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(float(self.epochs or 0.0) * images / self.batch_size))

    def norm_momentum(self, images: int) -> float | None:
        """PyTorch's `momentum` of batch norms when that many images are trained on; None: the network's own.

        "10/s" is 1 - max(1 - 10/s, 0.9), with the share kept in TensorFlow's sense in brackets (arXiv 2002.05709, B.8).
        """
        if self.bn_momentum != "10/s":
            return self.bn_momentum
        return min(10 * self.batch_size / images, 0.1)

    def candidates(self) -> list[Protocol]:
        """The protocol with each learning rate and weight decay of its grid, in the grid's order; alone without one."""
        if self.grid is None:
            return [self]
        found = []
        for rate in self.grid.learning_rate:
            for decay in self.grid.weight_decay or [self.weight_decay]:
                share = decay / rate if self.grid.over_learning_rate else decay
                found.append(self.changed(learning_rate=rate, weight_decay=share, grid=None))
        return found

    def changed(self, **values: Any) -> Protocol:
        """The protocol with other values; `epochs` takes the place of `steps` and the other way round.

        Raises UserError for a value out of range.
        """
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if values.get(one) is not None:
                values.setdefault(other, None)
        return _validated(Protocol, {**self.model_dump(), **values}, f"protocol {self.name}")


AnyProtocol = Protocol | ProbeProtocol
_P = TypeVar("_P", Protocol, ProbeProtocol)


def protocol_folder() -> Path:
    """The folder of the shipped protocols: inside the package of an installed wheel, `transfer/` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_protocols"
    return installed if installed.is_dir() else package.parent / "transfer"


def list_protocols() -> list[str]:
    """The names of the shipped protocols, sorted."""
    return sorted(path.stem for path in protocol_folder().glob("*.yaml"))


def read_protocol(name: str | Path) -> Protocol:
    """A shipped protocol of training by name ("cifar"), or one of the user's by its file (ends in .yaml).

    Raises UserError (one line): no such protocol or file, no YAML, a field missing, unknown or out of range, a probe.
    """
    protocol = read_any_protocol(name)
    if isinstance(protocol, ProbeProtocol):
        raise UserError(f"{protocol.name} is a probe: it trains no network", str(name), "name a protocol of training")
    return protocol


def read_any_protocol(name: str | Path) -> AnyProtocol:
    """A shipped protocol by name, of training or a probe, or one of the user's by its file (ends in .yaml).

    Raises UserError as `read_protocol`.
    """
    shipped = protocol_folder() / f"{name}.yaml"
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else shipped
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = list_protocols()
        close = near(str(name), known) or known
        raise UserError(
            f"there is no protocol {str(name)!r}",
            fix=f"there are {', '.join(close)}, or give a file that ends in .yaml",
        ) from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"not a protocol file ({error})", str(path)) from None
    if not isinstance(values, dict):
        raise UserError("not a protocol: no mapping", str(path), "transfer/cifar.yaml shows one")
    if values.get("kind", "fine_tune") == "fine_tune":
        return _validated(Protocol, values, str(path))
    return _validated(ProbeProtocol, values, str(path))


def _validated(kind: type[_P], values: dict[str, Any], where: str) -> _P:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{place}: {message}" if place else message, where) from None
