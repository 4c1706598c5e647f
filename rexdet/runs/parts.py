"""The parts that a run's record is made of: small, nested, every field described with its unit.

Unknown is None, never NaN, -1 or an empty string. Times are ISO 8601 in UTC; shares and COCO numbers are fractions,
0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
# What a float holds and a file keeps: a longer integer is a broken record's.
Count = Annotated[int, Field(ge=0, lt=2**64)]
Bytes = Count
Numbers = dict[str, float | None]

COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# Groups in which every number is one of COCO's, and what counts images of a class or of all in any other group.
_COCO_GROUPS = ("bbox", "segm")
_SHARES_OF_IMAGES = ("top1", "top5", "mean_per_class")


def utc_now() -> datetime:
    """The time now in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def check_shares(group: str, numbers: Numbers) -> None:
    """Raise ValueError for a share that is not 0 to 1 or null, such as pycocotools' -1 for what is not there.

    group: of the metrics. Shares are all numbers of bbox and segm, and accuracies wherever they stand; losses, counts
    and times are not.
    """
    for key in numbers if group in _COCO_GROUPS else _SHARES_OF_IMAGES:
        value = numbers.get(key)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{group} {key} is {value}: 0 to 1, or null where there is no ground truth")


class Part(BaseModel):
    """What every part shares: unknown keys, NaN and infinity are refused, also when a field is set later."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_assignment=True)


class Pixels(Part):
    """What the network's input looks like."""

    mean: list[float] = Field(
        description="subtracted per channel, in channel order `order` and on the scale of `range`"
    )
    std: list[float] = Field(description="divided by per channel, same order and scale as `mean`")
    order: Literal["RGB", "BGR"] = Field(description="channel order of the input")
    range: Literal[1, 255] = Field(description="largest pixel value before the mean is subtracted")


class Network(Part):
    """The network and the checkpoint that it started from."""

    name: str = Field(description="zoo name, for example rexnet_1.0")
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict, description="hyper-parameters that differ from the name's own"
    )
    sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the checkpoint; null: started from random initialisation"
    )
    origin_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the published file that ours was converted from; null: not converted"
    )
    source: str | None = Field(default=None, description="where the checkpoint came from, as given: name@tag or file")
    layout: str | None = Field(default=None, description="key layout of the checkpoint file")
    pixels: Pixels | None = Field(default=None, description="mean, std, channel order and value range of the input")
    pixels_known_by: Literal["sha", "metadata", "user", "assumed"] | None = Field(
        default=None, description="how the pixels of the checkpoint are known; null: no checkpoint"
    )
    licence: str | None = Field(default=None, description="licence of the checkpoint")
    norm: str | None = Field(default=None, description="norm layers of the backbone: BN, FrozenBN, SyncBN, GN")
    freeze_at: Count | None = Field(
        default=None, description="first stages frozen, counted as detectron2's FREEZE_AT; 0: none"
    )

    @field_validator("overrides")
    @classmethod
    def _check_overrides(cls, overrides: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in overrides.items():
            if not _is_plain(value):
                raise ValueError(f"{name} holds NaN, infinity or an integer beyond 64 bits")
        return overrides

    @property
    def key(self) -> tuple[str, str | None]:
        """(network, checkpoint): the row of a table that the run belongs to; the checkpoint by its origin's SHA-256."""
        return self.name, self.origin_sha256 or self.sha256


class Finding(Part):
    """One kind of fault that was found in the data."""

    action: Literal["accept", "mend", "skip", "refuse"] = Field(description="what was done about it")
    code: str = Field(description="kind of the fault")
    message: str = Field(default="", description="the fault in words")
    count: Count = Field(description="how often it was found")


class DataSplit(Part):
    """The images and annotations of one split."""

    path: str | None = Field(default=None, description="annotation file or data-set name, as given")
    images_path: str | None = Field(default=None, description="folder of the images, as given")
    fingerprint: Sha256 | None = Field(default=None, description="SHA-256 of the content that was read")
    images: Count | None = Field(default=None, description="images used")
    annotations: Count | None = Field(default=None, description="annotations of these images")
    classes: list[str] | None = Field(default=None, description="class names in the order of the network's outputs")
    findings: list[Finding] = Field(default_factory=list, description="faults found, by kind")
    limited: bool = Field(default=False, description="true: only a part was used on purpose (--limit-train)")


class Data(Part):
    """What was trained on and what was evaluated on."""

    train: DataSplit | None = Field(default=None, description="training split; null: no training")
    val: DataSplit | None = Field(default=None, description="split that `metrics` belong to; null: no evaluation")


class Recipe(Part):
    """How it was trained. The effective batch is per process x processes x accumulation; a contradiction is refused."""

    effective_batch: Count | None = Field(default=None, description="images per optimiser step, over all processes")
    per_process_batch: Count | None = Field(default=None, description="images per process and forward pass")
    accumulation: Count | None = Field(default=None, description="forward passes per optimiser step")
    world_size: Count | None = Field(default=None, description="processes that train together")
    optimizer: str | None = Field(
        default=None, description="optimiser, with momentum and weight decay where it has them"
    )
    base_lr: float | None = Field(default=None, description="learning rate after the warm-up, before any decay")
    warm_up: str | None = Field(default=None, description="warm-up in words: kind, steps, first factor")
    schedule: str | None = Field(default=None, description="decay in words: kind, steps, factor")
    iterations: Count | None = Field(default=None, description="optimiser steps of the whole run")
    amp: Literal["bf16", "fp16"] | None = Field(default=None, description="autocast type; null: float32")
    ema: Fraction | None = Field(default=None, description="decay of the averaged weights; null: none kept")
    differs_from_recipe: list[str] = Field(
        default_factory=list, description="where the run differs from the published recipe, a line each"
    )

    @model_validator(mode="after")
    def _check_batch(self) -> Recipe:
        factors = (self.per_process_batch, self.world_size, self.accumulation)
        if self.effective_batch is None or None in factors:
            return self
        product = (self.per_process_batch or 0) * (self.world_size or 0) * (self.accumulation or 0)
        if product != self.effective_batch:
            raise ValueError(
                f"effective_batch {self.effective_batch} is not "
                f"per_process_batch x world_size x accumulation = {product}"
            )
        return self


class DetectorComplexity(Part):
    """What the whole detector costs, neck and heads included."""

    parameters: Count = Field(
        description="learnable numbers, frozen ones counted too; the scale and shift of frozen norms are none"
    )
    macs: Count | None = Field(
        default=None,
        description="multiply-accumulates for the boxes of one picture, 1,000 proposals, no mask head; null: unknown",
    )
    height: Count = Field(description="of that picture, pixels")
    width: Count = Field(description="of that picture, pixels")


class WeightsFile(Part):
    """Which weights these are. A file may hold the averaged weights or the best ones instead of the last raw ones."""

    file: str | None = Field(
        default=None, description="file that holds them, relative to the run folder; null: not saved"
    )
    holds: Literal["raw", "ema"] = Field(description="raw: as trained; ema: averaged over the steps")
    selection: Literal["last", "best"] = Field(
        default="last", description="of the last step, or of the best evaluation"
    )
    iteration: Count | None = Field(default=None, description="optimiser steps that they have seen")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the file")


class PeriodicEvaluation(Part):
    """An evaluation during training."""

    iteration: Count = Field(description="optimiser steps done")
    holds: Literal["raw", "ema"] = Field(description="weights that were evaluated")
    metrics: dict[str, Numbers] = Field(description="as `metrics` of the record")

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: dict[str, Numbers]) -> dict[str, Numbers]:
        for group, numbers in metrics.items():
            check_shares(group, numbers)
        return metrics


class TimeShare(Part):
    """Shares of the wall time, 0 to 1, together 1; null: not measured. Forward and backward count together."""

    data: Fraction | None = Field(default=None, description="waiting for the next batch")
    backbone: Fraction | None = Field(default=None, description="backbone, forward and backward")
    neck_and_heads: Fraction | None = Field(default=None, description="everything else of the network, and the losses")
    evaluation: Fraction | None = Field(
        default=None, description="evaluation as a whole, its data and network included"
    )
    other: Fraction | None = Field(default=None, description="optimiser, checkpoints, logging, start-up")

    @model_validator(mode="after")
    def _check_sum(self) -> TimeShare:
        values = [
            v for v in (self.data, self.backbone, self.neck_and_heads, self.evaluation, self.other) if v is not None
        ]
        if sum(values) > 1.001:
            raise ValueError(f"the shares add up to {sum(values):.3f}, more than 1")
        return self


class PeakMemory(Part):
    """The most memory that the main process held at once."""

    host: Bytes | None = Field(default=None, description="resident memory of the main process, bytes")
    accelerator: Bytes | None = Field(default=None, description="tensors on its accelerator, bytes; null: none used")


# The code of an event: a final run learnt far less than its search's with the same hyper-parameters.
TRAINED_WORSE = "trained_worse"


class Event(Part):
    """Something that happened during the run and that a reader of its numbers should know."""

    time: AwareDatetime = Field(description="when it happened first")
    code: str = Field(description="kind of event, for example unreadable_image, checkpoint_fallback")
    message: str = Field(description="the event in words")
    count: Count = Field(default=1, description="how often it happened")


class Failure(Part):
    """Why the run did not finish."""

    message: str = Field(description="what happened, in one line")
    type: str | None = Field(default=None, description="class of the exception; null: stopped from outside")
    rank: Count = Field(default=0, description="number of the process that failed first")
    step: Count | None = Field(default=None, description="optimiser step at which it happened, counted from 1")
    loss_term: str | None = Field(default=None, description="loss term that was not finite")
    image_ids: list[int | str] | None = Field(default=None, description="images of the batch")
    module: str | None = Field(default=None, description="first module with an output that was not finite")
    replay_file: str | None = Field(
        default=None, description="saved batch and random state, relative to the run folder"
    )
    traceback: str | None = Field(default=None, description="where in the code; null for a mistake of the user's")


def relative_file(name: str) -> str:
    """`name` if it stays inside the run folder, so that the folder can be moved; else ValueError."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise ValueError(f"{name!r} is not a name relative to the run folder")
    return name


def differences(actual: Recipe, published: Recipe) -> list[str]:
    """Where `actual` departs from `published`, a line each: "effective_batch 2 instead of 16".

    Compared is what decides the result (effective batch, optimiser, learning rate, warm-up, schedule, steps, precision,
    averaging), as far as the published recipe states it; how the batch is divided among processes is not.
    """
    lines = []
    for field in ("effective_batch", "optimizer", "base_lr", "warm_up", "schedule", "iterations", "amp", "ema"):
        stated = field in published.model_fields_set
        ours, theirs = getattr(actual, field), getattr(published, field)
        if stated and ours != theirs:
            lines.append(f"{field} {_shown(ours)} instead of {_shown(theirs)}")
    return lines


def _is_plain(value: Any) -> bool:
    """Whether a JSON value can be written as JSON again, and its numbers be computed with."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 2**64


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
