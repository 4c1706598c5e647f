"""Fills a model from a checkpoint: everything or nothing, and a report of what went where."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets.resnet import stride_place
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.layouts import LAYOUTS, find_networks
from rexdet.weights.matching import copy_into, match
from rexdet.weights.resnet_shapes import ResNetShape
from rexdet.weights.sanity import suspicions
from rexdet.weights.shape_base import differ, in_words
from rexdet.weights.shapes import CLASSIFIER_KEYS, first_difference, read_shape

HEADS = ("auto", "keep", "reset")
_LISTED = 4
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    source: the file or name. layout, prefix, part: as in Checkpoint. kind: what the file was taken for.
    loaded, expected: tensors filled, and those that the model has; counters of norms and a reset head do not count.
    missing: tensors of the model that the file lacks. unexpected: those of the file that the model has no place for.
    mismatched: tensors of another shape, with both shapes in words. difference: the first hyper-parameter that differs.
    head: "kept", "reset" or "none" (the model has none). head_note: why it was reset.
    beyond: tensors of the file behind the model's last feature map, left out as they should be.
    warnings: what is suspicious about the weights.
    """

    source: str
    layout: str
    kind: str
    loaded: int
    expected: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    difference: str = ""
    advice: str = ""
    head: str = "none"
    head_note: str = ""
    beyond: int = 0
    prefix: str = ""
    part: str = ""
    other_parts: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is missing, nothing unexpected, nothing of another shape, and both compute the same."""
        return not (self.missing or self.unexpected or self.mismatched or self.difference)

    def text(self) -> str:
        """The report for a person: the network, the head, what was left out, and what is wrong, a line each."""
        share = 100 * self.loaded // self.expected if self.expected else 100
        under = f", found under {self.part!r}" if self.part else ""
        filled = "network" if self.head == "kept" else "backbone"
        lines = [
            f"{self.source}: a {self.kind} in {self.layout} layout{under}",
            f"{filled} {share}% loaded: {self.loaded} of {self.expected} tensors",
        ]
        if self.head_note:
            lines.append(self.head_note)
        if self.beyond:
            lines.append(f"left out, as the model ends before them: {self.beyond} tensors (expected)")
        if self.other_parts:
            lines.append(f"also in the file, not taken: {', '.join(map(repr, self.other_parts))} (part= chooses)")
        if self.ignored:
            lines.append(f"also in the file, ignored: {_some(self.ignored)}")
        lines.extend(f"suspicious: {warning}" for warning in self.warnings)
        if not self.ok:
            lines.append(self.problem())
        return "\n".join(lines)

    def problem(self) -> str:
        """What is wrong, in one line; "" when nothing is."""
        if self.ok:
            return ""
        if self.difference:
            return f"another network: {self.difference}"
        parts = []
        if self.missing:
            parts.append(f"missing in the file: {_some(self.missing)}")
        if self.unexpected:
            parts.append(f"no place in the model for: {_some(self.unexpected)}")
        if self.mismatched:
            parts.append(f"of another shape: {_some(self.mismatched)}")
        return "; ".join(parts)

    def raise_if_wrong(self) -> None:
        """Raise UserError, in one line, unless the report is `ok`."""
        if not self.ok:
            fix = self.advice or "use a whole file of this very network"
            raise UserError(f"does not fit: {self.problem()}", where=self.source, fix=fix)


NameOf = Callable[[Mapping[str, Tensor]], tuple[str, dict[str, Any]] | None]


def _no_name(state: Mapping[str, Tensor]) -> None:
    return None


def fill(
    model: nn.Module,
    checkpoint: Checkpoint,
    head: str = "auto",
    strict: bool = True,
    name_of: NameOf = _no_name,
) -> LoadReport:
    """Copy a checkpoint's tensors into `model` (a network of ours, or a Backbone of one), in its dtype and device.

    head: "keep" (the classifier must fit), "reset" (it is left as it is), "auto" (kept if it fits, left as it is where
        the class count differs or the model has none).
    strict: raise UserError unless everything fits; the model is then untouched. Otherwise what fits is copied, and
        the report says what was not.

    name_of: the zoo name that fits a state, for the advice in an error.

    Raises UserError for a model that is not one of our networks, too.
    """
    if head not in HEADS:
        raise UserError(f"head is {head!r}", where="load_weights", fix=f"one of {', '.join(HEADS)}")
    target = _bare(model).state_dict()
    _check_model(target)
    plan = _compare(target, checkpoint, head, name_of, stride_place(model))
    if strict:
        plan.report.raise_if_wrong()
    copy_into(target, plan.copies)
    if plan.report.ok:
        logger.info("%s", plan.report.text())
    else:
        logger.warning("%s", plan.report.text())
    return plan.report


def compare(model: nn.Module, checkpoint: Checkpoint, head: str = "auto", name_of: NameOf = _no_name) -> LoadReport:
    """The report that `fill` would give, without changing the model; it may live on the meta device."""
    target = _bare(model).state_dict()
    _check_model(target)
    return _compare(target, checkpoint, head, name_of, stride_place(model)).report


@dataclass(frozen=True)
class _Plan:
    report: LoadReport
    copies: Mapping[str, Tensor]


def _compare(
    target: Mapping[str, Tensor], checkpoint: Checkpoint, head: str, name_of: NameOf, stride_in: str | None
) -> _Plan:
    state = checkpoint.tensors
    classifier = [key for key in target if _is_classifier(key)]
    in_file = [key for key in state if _is_classifier(key)]
    head_fits = bool(classifier) and all(
        key in state and state[key].shape == target[key].shape for key in (*classifier, *in_file) if key in target
    )
    fate, note = _head_fate(target, checkpoint, head, classifier, head_fits)
    found = match(target, state, skipped=classifier if fate == "reset" else ())
    beyond = [key for key in found.left if _is_beyond(key, target)]
    unexpected = [key for key in found.left if key not in beyond and not (fate == "reset" and _is_classifier(key))]
    unexpected += checkpoint.extra
    if fate == "kept":
        unexpected += checkpoint.head_extra

    own = read_shape(target)
    trouble = found.missing or unexpected or found.mismatched
    difference = first_difference(checkpoint.shape, own) if trouble else ""
    if not trouble and differ(checkpoint.stride_in, stride_in):
        difference = in_words("stride_in", checkpoint.stride_in, stride_in)
    report = LoadReport(
        source=checkpoint.source,
        layout=checkpoint.layout,
        kind=checkpoint.kind,
        loaded=found.loaded,
        expected=len(found.wanted),
        missing=found.missing,
        unexpected=tuple(unexpected),
        mismatched=found.mismatched,
        difference=difference,
        advice=_advice(checkpoint, difference, found.missing, name_of(target) if difference else None),
        head=fate,
        head_note=note,
        beyond=len(beyond),
        prefix=checkpoint.prefix,
        part=checkpoint.part,
        other_parts=checkpoint.other_parts,
        ignored=checkpoint.ignored,
        warnings=(*suspicions(state), *doubts(checkpoint)),
    )
    return _Plan(report, found.copies)


def _head_fate(
    target: Mapping[str, Tensor], checkpoint: Checkpoint, head: str, classifier: list[str], fits: bool
) -> tuple[str, str]:
    """("kept" | "reset" | "none", why in words)."""
    if not classifier:
        return "none", ""
    classes = int(target[classifier[0]].shape[0])
    theirs = checkpoint.shape.classes
    if head == "reset":
        return "reset", "head reset because you asked for it (expected)"
    if head == "keep" or fits or theirs is None or theirs == classes:
        return "kept", ""
    return "reset", f"head reset because classes {theirs} -> {classes} (expected)"


def doubts(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What cannot be told from a file and changes what is computed."""
    shape = checkpoint.shape
    if not isinstance(shape, ResNetShape) or shape.block != "bottleneck" or checkpoint.stride_in is not None:
        return ()
    is_torchvisions = checkpoint.prefix.endswith("backbone.body.")
    is_mmdetections = checkpoint.layout == "torchvision" and checkpoint.kind == "detector" and not is_torchvisions
    if checkpoint.layout != "detectron2_resnet" and not is_mmdetections:
        return ()
    words = (
        "no tensor tells where its stride stands: detectron2's own R-50 and R-101 and MMDetection's caffe style have "
        'stride_in="1x1", and where nothing is said rexdet builds stride_in="3x3"'
    )
    return (words,)


def _advice(
    checkpoint: Checkpoint,
    difference: str,
    missing: tuple[str, ...],
    model: tuple[str, dict[str, Any]] | None,
) -> str:
    if difference.startswith("stride_in "):
        return f'build the model with stride_in="{checkpoint.stride_in}"'
    if difference.startswith("norm "):
        return f'build the model with norm="{"BN" if checkpoint.shape.norm == "batch" else "GN"}"'
    if difference and checkpoint.network:
        model_is_named = model is not None and not model[1]
        without = "" if checkpoint.overrides or model_is_named else " without overrides that change its shape"
        return f"use {checkpoint.network_in_words}{without}"
    if difference:
        return "build the model with the file's hyper-parameters"
    if missing and all(_is_classifier(key) for key in missing):
        return 'the file has no classifier: load with head="reset" to train a new one'
    return ""


def _is_classifier(key: str) -> bool:
    return key in CLASSIFIER_KEYS


def _position(key: str) -> tuple[int, ...]:
    """Where a tensor stands in the order of computation: the part of the network, then its block's numbers."""
    top, *rest = key.split(".")
    order = {"stem": 0, "blocks": 1, "stages": 1, "penultimate": 2, "head": 3}
    return order.get(top, -1), *map(int, takewhile(str.isdigit, rest))


def _is_beyond(key: str, target: Mapping[str, Tensor]) -> bool:
    """The tensor lies behind the last module of a model without a classifier."""
    if any(name.startswith("head.") for name in target):
        return False
    return _position(key) > max(_position(name) for name in target)


def _bare(model: nn.Module) -> nn.Module:
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return model.module if isinstance(model, wrappers) else model


def _check_model(target: Mapping[str, Tensor]) -> None:
    keys = tuple(target)
    ours = [layout.keys for layout in LAYOUTS if layout.name == "ours"]
    matches = [match for match in find_networks(target) if match.layout.name == "ours"]
    nested = [match.prefix.rstrip(".") for match in matches if match.prefix]
    if nested:
        raise UserError(
            "the model is a larger one around one of rexdet's networks",
            where="load_weights",
            fix=f"give model.{nested[0]}",
        )
    foreign = min(([key for key in keys if not known.fullmatch(key)] for known in ours), key=len)
    if foreign or not keys:
        raise UserError(
            f"the model is not one of rexdet's networks (it has {foreign[0] if foreign else 'no tensors'})",
            where="load_weights",
            fix="build it with rexdet.create_model or rexdet.create_backbone",
        )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
