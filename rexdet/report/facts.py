"""What a record says of its run in the terms of the tables: which row it belongs to, and which setting it was.

A row is a network with a checkpoint (SHA-256), or with random weights. A setting is what was done with it: a detector
or a protocol, on which data, by which recipe. Runs that agree in both differ in their seed alone, and are averaged.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePath
from typing import Literal

from rexdet import published
from rexdet.published.protocols import DetectionProtocol, Protocol
from rexdet.runs.matrix import content_key
from rexdet.runs.record import RunRecord

Start = Literal["full", "frozen", "random"]
# detectron2 counts the stem and four stages.
ALL_STAGES = 5
UNKNOWN: Literal["unknown"] = "unknown"
# Which words of the published protocols' starting weights a published checkpoint of ours is, by its tag.
_SAME_WEIGHTS = {
    "d2_msra_in1k": ("MSRA's ResNets",),
    "d2_fair_in1k": ("FAIR's ResNeXt-101 32x8d",),
    "tv_in1k": ("torchvision's ResNets", "torchvision's IMAGENET1K_V1"),
}
_OF_THE_BACKBONE = {"initial_weights", "norm", "freeze_at"}
_TOOLBOXES = {"detectron2": "detectron2", "mmdet": "MMDetection"}
_DETECTORS = {
    "retinanet": "retinanet",
    "fasterrcnn": "faster_rcnn",
    "maskrcnn": "mask_rcnn",
    "cascadercnn": "cascade_rcnn",
    "singlestagedetector": "ssdlite",
    "generalizedrcnn": "faster_rcnn",
}


@dataclass(frozen=True)
class RowKey:
    """network: its zoo name, with what differs from the name's own. sha: of the checkpoint; "" for random weights."""

    network: str
    sha: str = ""

    @property
    def checkpoint(self) -> str:
        """The checkpoint for a narrow column."""
        return self.sha[:12] if self.sha else "random"


@dataclass(frozen=True)
class Setting:
    """What was done with a network.

    task: "detection" or "transfer". what: the detector's kind, or the head of a transfer number. dataset: a published
    data set's name where it is one. protocol: id of a published protocol that the run follows in every field but those
    of the backbone (start, norm, freezing), else of ours. content: of the images that were trained on and measured on;
    other images are another setting.
    """

    task: str
    what: str
    dataset: str
    protocol: str
    content: str = ""

    @property
    def title(self) -> str:
        """For the head of a column."""
        return " ".join(word for word in (self.what, self.dataset, self.protocol) if word)


def row_key(record: RunRecord) -> RowKey | None:
    """The row of a run; None for one that names no network."""
    network = record.network
    if network is None:
        return None
    name, sha = network.key
    if study := study_of(record):
        # What a search found differs from seed to seed: the setting of the study is the network of its table.
        return RowKey(f"{name} [{study[1]}]", sha or "")
    if network.overrides:
        changed = ", ".join(f"{key}={_short(value)}" for key, value in sorted(network.overrides.items()))
        name = f"{name} ({changed})"
    return RowKey(name, sha or "")


def study_of(record: RunRecord) -> tuple[str, str] | None:
    """(study, setting) of a study's cell, else None."""
    study, setting = _line(record.config, "study"), _line(record.config, "setting")
    return (study, setting) if study and setting else None


def start_of(record: RunRecord) -> Start:
    """Whether the backbone began from random weights, from a checkpoint and learnt, or stood still as a whole."""
    network = record.network
    if network is None or network.key[1] is None:
        return "random"
    return "frozen" if (network.freeze_at or 0) >= ALL_STAGES else "full"


def detection_setting(record: RunRecord) -> Setting:
    """The setting of a detection run."""
    protocol = detection_protocol(record)
    matching = _published_recipe(protocol)
    recipe = record.recipe.model_dump(mode="json", exclude={"differs_from_recipe"}) if record.recipe else {}
    # Norm, freezing and start belong to the backbone: runs that differ in them share a setting, in its three columns.
    told = {**recipe, "toolbox": protocol.toolbox, "train_size": protocol.train_size, "test_size": protocol.test_size}
    return Setting(
        task="detection",
        what=detector_of(record),
        dataset=_data_name(record),
        protocol=matching or f"ours-{content_key(told)[:6]}",
        content=_content(record),
    )


def transfer_settings(record: RunRecord) -> dict[str, Setting]:
    """The setting of each test number of a transfer run, by its group among the metrics."""
    protocol, dataset = transfer_protocol(record), transfer_dataset(record)
    content = f"{_content(record)} {content_key({'config': _same_for_all_seeds(record.config)})}"
    groups = [group for group in record.metrics if group == "test" or group.startswith("test_")]
    return {
        group: Setting("transfer", group.removeprefix("test").strip("_").replace("_", " "), dataset, protocol, content)
        for group in groups
    }


def transfer_protocol(record: RunRecord) -> str:
    """The protocol's name; for a study's cell the study's."""
    if study := study_of(record):
        return f"study {study[0]}"
    first = (record.config or "").partition("\n")[0]
    return first.removeprefix("# protocol ") if first.startswith("# protocol ") else "unnamed"


def transfer_dataset(record: RunRecord) -> str:
    """The data set's name on the command line; of a folder of one's own, the folder's."""
    named = _line(record.config, "dataset")
    train = record.data.train
    if named and named != "folder":
        return named
    path = PurePath(train.path) if train and train.path else None
    if path is None:
        return named or "unknown"
    return path.parent.name if path.name in ("train", "trainval") else path.name


def detector_of(record: RunRecord) -> str:
    """The detector's kind, as the published tables call it, or as its toolbox does."""
    return _detector_in(record.config or "", "segm" in record.metrics)


@lru_cache(maxsize=4096)
def _detector_in(config: str, with_masks: bool) -> str:
    if found := re.search(r"META_ARCHITECTURE: (\w+)", config):
        kind = "maskrcnn" if re.search(r"MASK_ON: true", config) and "RCNN" in found[1] else found[1].lower()
        return _DETECTORS.get(kind, found[1])
    if model := re.search(r"^model = dict\((.*?)^\w", config, re.MULTILINE | re.DOTALL):
        # The type of the whole stands among the outermost words of `model`, four blanks deep.
        types = re.findall(r"^    type='(\w+)'", model[1], re.MULTILINE)
        return _DETECTORS.get(types[-1].lower(), types[-1]) if types else "detector"
    if found := re.search(r"meta_arch\.(\w+)\.\w+", config):
        return found[1]
    return "mask detector" if with_masks else "detector"


def detection_protocol(record: RunRecord) -> DetectionProtocol:
    """What a detection run followed, in the words of a published protocol; what its record does not tell is unknown."""
    recipe, network = record.recipe, record.network
    train_size, test_size, augmentation = _sizes(record.config or "", record.engine)
    told = recipe.model_dump() if recipe else {}
    return DetectionProtocol(
        id="this run",
        title="this run",
        source="its record",
        place="record.json",
        kind="detection",
        toolbox=_TOOLBOXES.get(record.engine or "", record.engine or UNKNOWN),
        effective_batch=told.get("effective_batch") or UNKNOWN,
        optimizer=told.get("optimizer") or UNKNOWN,
        base_lr=UNKNOWN if told.get("base_lr") is None else float(told["base_lr"]),
        warm_up=told.get("warm_up") or UNKNOWN,
        schedule=told.get("schedule") or UNKNOWN,
        iterations=told.get("iterations") or UNKNOWN,
        epochs=_epochs(record),
        augmentation=augmentation,
        train_size=train_size,
        test_size=test_size,
        initial_weights=(network.source or network.key[1] if network else None) or "none",
        train_split=_split_name(record, "train"),
        test_split=_split_name(record, "val"),
        norm=(network.norm if network else None) or UNKNOWN,
        freeze_at=UNKNOWN if network is None or network.freeze_at is None else network.freeze_at,
    )


def protocol_differences(ours: Protocol, theirs: Protocol) -> dict[str, tuple[object, object]]:
    """Fields in which two recipes are not known to be equal; the same starting weights may have two names."""
    found = published.differences(ours, theirs)
    network, _, tag = str(ours.initial_weights).partition("@")
    for words in _SAME_WEIGHTS.get(tag, ()):
        if words in str(theirs.initial_weights) and (words != "torchvision's ResNets" or network.startswith("resnet")):
            found.pop("initial_weights", None)
    return found


@lru_cache(maxsize=4096)
def _published_recipe(protocol: DetectionProtocol) -> str | None:
    """The published protocol whose recipe it is, whatever the backbone started from and however much of it learnt."""
    for identifier, other in published.protocols().items():
        if isinstance(other, DetectionProtocol) and set(protocol_differences(protocol, other)) <= _OF_THE_BACKBONE:
            return identifier
    return None


@lru_cache(maxsize=4096)
def _sizes(config: str, engine: str | None) -> tuple[str, str, str]:
    """(size of training images, of test images, augmentation), in the words of the published protocols."""
    if engine == "detectron2" and "INPUT:" in config:
        return _detectron2_sizes(config)
    scales = re.findall(r"scale=\(\s*(\d+),\s*(\d+),?\s*\)", config)
    if engine == "mmdet" and scales:
        names = [re.search(rf"{name}_dataloader = dict\((.*?)^\w", config, re.M | re.S) for name in ("train", "val")]
        sizes = [re.search(r"scale=\(\s*(\d+),\s*(\d+),?\s*\)", part[1]) if part else None for part in names]
        train, test = (f"{size[1]} x {size[2]}" if size else UNKNOWN for size in sizes)
        return train, test, "flip" if "RandomFlip" in (names[0][1] if names[0] else "") else UNKNOWN
    return UNKNOWN, UNKNOWN, UNKNOWN


def _detectron2_sizes(config: str) -> tuple[str, str, str]:
    def number(key: str) -> str:
        found = re.search(rf"^  {key}: (\d+)", config, re.MULTILINE)
        return found[1] if found else "?"

    sides = re.search(r"^  MIN_SIZE_TRAIN:\n((?:  - \d+\n)+)", config, re.MULTILINE)
    shorter = [int(side) for side in re.findall(r"\d+", sides[1])] if sides else []
    steps = {after - before for before, after in pairwise(shorter)}
    span = ", ".join(map(str, shorter))
    if len(steps) == 1:
        span = f"{shorter[0]} to {shorter[-1]} in steps of {steps.pop()}"
    flip = re.search(r"RANDOM_FLIP: (\w+)", config)
    is_cropped = re.search(r"CROP:\n    ENABLED: true", config)
    words = ["flip"] if flip and flip[1] == "horizontal" else []
    words += ["crop"] if is_cropped else []
    return (
        f"shorter side {span}, longer at most {number('MAX_SIZE_TRAIN')}" if shorter else UNKNOWN,
        f"shorter side {number('MIN_SIZE_TEST')}, longer at most {number('MAX_SIZE_TEST')}",
        ", ".join(words) or "none",
    )


def _epochs(record: RunRecord) -> float | Literal["unknown"]:
    train, recipe = record.data.train, record.recipe
    if record.engine != "mmdet" or recipe is None or not train or not train.images or not recipe.effective_batch:
        return UNKNOWN
    # MMDetection's recipes count epochs; the record has the steps that they came to.
    steps = -(-train.images // recipe.effective_batch)
    epochs = (recipe.iterations or 0) / steps
    return float(round(epochs)) if epochs and abs(epochs - round(epochs)) < 1e-6 else UNKNOWN


def _split_name(record: RunRecord, which: Literal["train", "val"]) -> str:
    split = getattr(record.data, which)
    return UNKNOWN if split is None or not split.path else _name_of_file(split.path, split.images)


@lru_cache(maxsize=4096)
def _name_of_file(named: str, count: int | None) -> str:
    for name, images in (("train2017", (118_287, 117_266)), ("val2017", (5_000,))):
        if name in named and count in images:
            return f"COCO {name}"
    path = PurePath(named)
    folder = path.parent.parent.name if path.parent.name == "annotations" else path.parent.name
    return "/".join(part for part in (folder, path.stem.removeprefix("instances_")) if part)


def _data_name(record: RunRecord) -> str:
    name = _split_name(record, "val")
    return "coco-val2017" if name == "COCO val2017" else name


def _content(record: RunRecord) -> str:
    splits = (record.data.train, record.data.val)
    return " ".join((split.fingerprint or "?")[:12] if split else "-" for split in splits)


@lru_cache(maxsize=16384)
def _line(config: str | None, key: str) -> str:
    found = re.search(rf"^{key}: (.+)$", config or "", re.MULTILINE)
    return found[1].strip("'\" ") if found else ""


def _same_for_all_seeds(config: str | None) -> str:
    """A transfer configuration without what the row and the seed say already."""
    kept = []
    is_inside = False
    for line in (config or "").splitlines():
        if not line.startswith((" ", "-")):
            is_inside = line.partition(":")[0] in ("seed", "network", "checkpoint", "pixels", "overrides", "setting")
        if not is_inside:
            kept.append(line)
    return "\n".join(kept)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 24 else f"#{content_key({'value': text})[:6]}"
