"""The protocol of a transfer run, read off its record in the words of the published ones."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from rexdet.published.protocols import UNKNOWN, ClassificationProtocol
from rexdet.report.records.facts import same_for_all_seeds
from rexdet.report.records.groups import Group
from rexdet.report.records.recorded_config import read_yaml
from rexdet.runs.parts import Recipe
from rexdet.runs.record import RunRecord

# Of torchvision's random resized crop: a protocol that keeps it does not print it.
_USUAL_SCALE = (0.08, 1.0)
# No number of an augmentation is beyond it.
_LARGEST = 1e9


def classification_protocols(group: Group) -> tuple[ClassificationProtocol, ...]:
    """What the records of the group tell of their protocol, each once; a field that one does not tell is "unknown"."""
    return tuple(dict.fromkeys(_protocol(one.record, group) for one in group.runs))


def _protocol(record: RunRecord, group: Group) -> ClassificationProtocol:
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
            "optimizer": (recipe.optimizer or "").replace(",", "") or UNKNOWN,
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
    steps = re.fullmatch(r"(x\S+) at (\d{1,12}(?:, \d{1,12})*)", told or "")
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
    """What is done to training images: "random resized crop, flip"; "none" where nothing is, "unknown" where the
    configuration does not tell it in words that a transfer run writes.
    """
    return _augmentation(same_for_all_seeds(record.config))


@lru_cache(maxsize=4096)
def _augmentation(config: str) -> str:
    content = read_yaml(config)
    protocol = content.get("protocol") if isinstance(content, dict) else None
    if not isinstance(protocol, dict):
        return UNKNOWN
    asked = protocol.get("augmentation")
    if asked is not None and not isinstance(asked, dict):
        return UNKNOWN
    try:
        return ", ".join(_parts(asked or {})) or "none"
    except ValueError:
        return UNKNOWN


def _parts(asked: dict[str, Any]) -> list[str]:
    """Raises ValueError for a part that is not what a transfer run writes."""
    parts = []
    crop = asked.get("random_resized_crop")
    if crop is not None:
        low, high = _scale(crop)
        own = "" if (low, high) == _USUAL_SCALE else f" {low:g} to {high:g}"
        parts.append(f"random resized crop{own}")
    if asked.get("pad"):
        parts.append(f"crop from {_number(asked['pad']):g} pixels of padding")
    if asked.get("flip"):
        parts.append("flip")
    if asked.get("mixup"):
        parts.append(f"mixup {_number(asked['mixup']):g}")
    return parts


def _scale(crop: Any) -> tuple[float, float]:
    scale = crop.get("scale", _USUAL_SCALE) if isinstance(crop, dict) else _USUAL_SCALE
    if not isinstance(scale, list | tuple) or len(scale) != 2:
        raise ValueError(f"{scale!r} is no range")
    return _number(scale[0]), _number(scale[1])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ValueError(f"{value!r} is no number")
    return float(value)
