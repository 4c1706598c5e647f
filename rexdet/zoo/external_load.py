"""Fills networks of timm and torchvision from checkpoints, with the report that our own networks get."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.load import HEADS, LoadReport
from rexdet.weights.matching import copy_into, match
from rexdet.weights.sanity import suspicions
from rexdet.zoo.external_network import ExternalNetwork

logger = logging.getLogger(__name__)
# Under this name a network of another package knows what it is.
IDENTITY = "rexdet_network"
BODY = "body."


def external_network(model: nn.Module) -> ExternalNetwork | None:
    """What network of another package a model of `create_model` or `create_backbone` is; None for ours and others."""
    found = getattr(_bare(model), IDENTITY, None)
    return found if isinstance(found, ExternalNetwork) else None


def fill_external(model: nn.Module, checkpoint: Checkpoint, head: str = "auto", strict: bool = True) -> LoadReport:
    """Copy a checkpoint into a network or a backbone of another package; arguments as in `rexdet.load_weights`.

    Raises UserError, in one line, where `strict` and not everything fits; the model is then untouched.
    """
    report, copies = _compare(model, checkpoint, head)
    if strict:
        report.raise_if_wrong()
    copy_into(_target(model), copies)
    logger.log(logging.INFO if report.ok else logging.WARNING, "%s", report.text())
    return report


def compare_external(model: nn.Module, checkpoint: Checkpoint, head: str = "auto") -> LoadReport:
    """The report that `fill_external` would give, without changing the model; it may live on the meta device."""
    return _compare(model, checkpoint, head)[0]


def _compare(model: nn.Module, checkpoint: Checkpoint, head: str) -> tuple[LoadReport, Mapping[str, Tensor]]:
    if head not in HEADS:
        raise UserError(f"head is {head!r}", where="load_weights", fix=f"one of {', '.join(HEADS)}")
    network = external_network(model)
    assert network is not None, "only for networks of other packages"
    target, state = _target(model), checkpoint.tensors
    classifier = [key for key in network.classifier_keys if key in target]
    fate, note = _head_fate(target, checkpoint, head, classifier)
    found = match(target, state, skipped=classifier if fate == "reset" else ())
    # A backbone has everything up to its last map, so what the network has beside that lies behind it.
    beyond = [key for key in found.left if key in network.shapes] if not classifier else []
    unexpected = (*(key for key in found.left if key not in beyond), *checkpoint.extra)
    if fate == "kept":
        unexpected += checkpoint.head_extra
    report = LoadReport(
        source=checkpoint.source,
        layout=checkpoint.layout,
        kind=checkpoint.kind,
        loaded=found.loaded,
        expected=len(found.wanted),
        missing=found.missing,
        unexpected=unexpected,
        mismatched=found.mismatched,
        difference=_difference(checkpoint, network) if found.missing or unexpected or found.mismatched else "",
        advice=f"use {checkpoint.network}" if checkpoint.network not in (None, network.name) else "",
        head=fate,
        head_note=note,
        beyond=len(beyond),
        prefix=checkpoint.prefix,
        part=checkpoint.part,
        other_parts=checkpoint.other_parts,
        ignored=checkpoint.ignored,
        warnings=suspicions(state),
    )
    return report, found.copies


def _difference(checkpoint: Checkpoint, network: ExternalNetwork) -> str:
    if checkpoint.network in (None, network.name):
        return ""
    return f"network {checkpoint.network} in the file, {network.name} in the model"


def _head_fate(
    target: Mapping[str, Tensor], checkpoint: Checkpoint, head: str, classifier: list[str]
) -> tuple[str, str]:
    """("kept" | "reset" | "none", why in words)."""
    if not classifier:
        return "none", ""
    classes, theirs = int(target[classifier[0]].shape[0]), checkpoint.shape.classes
    if head == "reset":
        return "reset", "head reset because you asked for it (expected)"
    if head == "keep" or theirs is None or theirs == classes:
        return "kept", ""
    return "reset", f"head reset because classes {theirs} -> {classes} (expected)"


def _target(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors under the keys of the package's classifier."""
    network = external_network(model)
    assert network is not None, "only for networks of other packages"
    state = _bare(model).state_dict()
    is_backbone = all(key.startswith(BODY) for key in state)
    return {network.canonical(key.removeprefix(BODY) if is_backbone else key): state[key] for key in state}


def _bare(model: nn.Module) -> nn.Module:
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return model.module if isinstance(model, wrappers) else model
