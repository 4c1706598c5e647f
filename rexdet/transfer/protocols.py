"""Protocols: how a classifier is trained, in a small YAML file each (`transfer/*.yaml`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

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


class Augmentation(_Part):
    """pad: pixels of border that a random crop moves within, 0 for none. flip: left and right are changed at random."""

    pad: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False


class Protocol(_Part):
    """How a classifier is trained. Exactly one of `epochs` and `steps` is given.

    image_size: side of the network's input in pixels; images of another shape are scaled to it, whole.
    learning_rate: after the warm-up, whose share of all steps is `warm_up`. weight_decay: on every parameter.
    bn_momentum: PyTorch's, None for the network's own. ema: decay of the averaged weights, None to keep none; they are
    what is evaluated then. drop_path: rate of the network's last block, given when it is built. pixels: mean and std
    for networks without a checkpoint, as `rexdet.weights.pixels.read_pixels` takes them; a checkpoint's own come first.
    """

    name: Annotated[str, Field(min_length=1)]
    source: str = ""
    image_size: Annotated[int, Field(ge=8, le=1024)]
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    steps: Count | None = None
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    warm_up: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    schedule: Schedule
    augmentation: Augmentation = Augmentation()
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    bn_momentum: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    pixels: str | dict[str, Any] = "imagenet"

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        self.preprocessing()
        return self

    def preprocessing(self) -> Preprocessing:
        """What the network sees of a pixel where no checkpoint says so."""
        try:
            return read_pixels(self.pixels, f"protocol {self.name}")
        except UserError as error:
            raise ValueError(str(error)) from error

    def total_steps(self, images: int) -> int:
        """Optimiser steps of the whole training on that many images, at least 1."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(float(self.epochs or 0.0) * images / self.batch_size))

    def changed(self, **values: Any) -> Protocol:
        """The protocol with other values; `epochs` takes the place of `steps` and the other way round.

        Raises UserError for a value out of range.
        """
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if values.get(one) is not None:
                values.setdefault(other, None)
        return _validated({**self.model_dump(), **values}, f"protocol {self.name}")


def protocol_folder() -> Path:
    """The folder of the shipped protocols: inside the package of an installed wheel, `transfer/` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_protocols"
    return installed if installed.is_dir() else package.parent / "transfer"


def list_protocols() -> list[str]:
    """The names of the shipped protocols, sorted."""
    return sorted(path.stem for path in protocol_folder().glob("*.yaml"))


def read_protocol(name: str | Path) -> Protocol:
    """A shipped protocol by name ("cifar"), or one of the user's by its file (ends in .yaml).

    Raises UserError (one line): no such protocol or file, no YAML, a field missing, unknown or out of range.
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
    return _validated(values, str(path))


def _validated(values: dict[str, Any], where: str) -> Protocol:
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{place}: {message}" if place else message, where) from None
