"""The protocol of a transfer run, read off its record in the words of the published ones."""

from __future__ import annotations

import re
from typing import Any

import yaml

from rexdet.published.protocols import UNKNOWN, ClassificationProtocol
from rexdet.report.groups import Group
from rexdet.runs.parts import Recipe
from rexdet.runs.record import RunRecord

# The safe loader; where PyYAML was built with libyaml, in C, ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Of torchvision's random resized crop: a protocol that keeps it does not print it.
_USUAL_SCALE = (0.08, 1.0)


def classification_protocol(group: Group) -> ClassificationProtocol:
    """What a record of the group tells of its protocol; a field that it does not tell is "unknown"."""
    record = group.runs[0].record
    recipe, network = record.recipe or Recipe(), record.network
    size = testing_size(record)
    sides = re.findall(r"\d+", size)
    is_cifar = group.setting.dataset.startswith("cifar")
    return ClassificationProtocol.model_validate(
        {
            "id": "this run",
            "title": "this run",
            "source": "its record",
            "place": "record.json",
            "kind": "classification",
            "toolbox": "rexdet",
            "effective_batch": recipe.effective_batch or UNKNOWN,
            "optimizer": (recipe.optimizer or UNKNOWN).replace(",", ""),
            "base_lr": UNKNOWN if recipe.base_lr is None else float(recipe.base_lr),
            # A recipe without a warm-up has none.
            "warm_up": recipe.warm_up or ("none" if recipe.optimizer else UNKNOWN),
            "schedule": _schedule(record),
            "iterations": recipe.iterations or UNKNOWN,
            "epochs": _epochs(record),
            "augmentation": augmentation(record),
            # Training images have the network's size, as the test images have.
            "train_size": sides[0] if sides else UNKNOWN,
            "test_size": size,
            "initial_weights": (network.source or network.key[1] if network else None) or "none",
            "train_split": "CIFAR train" if is_cifar else "the data set's train and validation images",
            "test_split": "CIFAR test" if is_cifar else "the data set's test images",
            "runs": len(group.runs),
        }
    )


def _epochs(record: RunRecord) -> float | str:
    recipe, train = record.recipe, record.data.train
    if recipe is None or train is None or not (train.images and recipe.iterations and recipe.effective_batch):
        return UNKNOWN
    return round(recipe.iterations * recipe.effective_batch / train.images, 2)


def _schedule(record: RunRecord) -> str:
    """A fall at steps that are whole epochs (to a hundredth) is told in epochs, as papers do."""
    told = record.recipe.schedule if record.recipe else None
    epochs = _epochs(record)
    steps = re.fullmatch(r"(x\S+) at ([\d, ]+)", told or "")
    if steps is None or record.recipe is None or not isinstance(epochs, float):
        return told or UNKNOWN
    falls = [float(step) * epochs / (record.recipe.iterations or 1) for step in steps[2].split(", ")]
    if any(abs(fall - round(fall)) > 0.01 for fall in falls):
        return told or UNKNOWN
    return f"{steps[1]} at epochs {', '.join(str(round(fall)) for fall in falls)}"


def testing_size(record: RunRecord) -> str:
    """How test images reach the network: "centre crop 224 of shorter side 256", "224" for whole images."""
    for event in record.events:
        if event.code == "framing":
            if parts := re.search(r"shorter side to (\d+), middle (\d+) px", event.message):
                return f"centre crop {parts[2]} of shorter side {parts[1]}"
            if parts := re.search(r"whole to (\d+) px", event.message):
                return parts[1]
    return UNKNOWN


def augmentation(record: RunRecord) -> str:
    """What is done to training images: "random resized crop, flip"; "none" where nothing is."""
    try:
        content = yaml.load(record.config or "", _LOADER)
    except yaml.YAMLError:
        return UNKNOWN
    protocol = content.get("protocol") if isinstance(content, dict) else None
    if not isinstance(protocol, dict):
        return UNKNOWN
    asked = protocol.get("augmentation")
    return ", ".join(_parts(asked if isinstance(asked, dict) else {})) or "none"


def _parts(asked: dict[str, Any]) -> list[str]:
    parts = []
    crop = asked.get("random_resized_crop")
    if crop is not None:
        scale = tuple(crop.get("scale", _USUAL_SCALE)) if isinstance(crop, dict) else _USUAL_SCALE
        own = "" if scale == _USUAL_SCALE else f" {scale[0]:g} to {scale[1]:g}"
        parts.append(f"random resized crop{own}")
    if asked.get("pad"):
        parts.append(f"crop from {asked['pad']} pixels of padding")
    if asked.get("flip"):
        parts.append("flip")
    if asked.get("mixup"):
        parts.append(f"mixup {asked['mixup']:g}")
    return parts
