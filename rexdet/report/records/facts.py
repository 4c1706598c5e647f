"""What a record says of its run in the terms of the tables: which row it belongs to, and which setting it was.

A row is a network with a checkpoint (SHA-256), or with random weights. A setting is what was done with it: a detector
or a protocol, on which data, by which recipe. Runs that agree in both differ in their seed alone, and are averaged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Literal

from rexdet import published
from rexdet.published.protocols import DetectionProtocol, Protocol
from rexdet.report.records.config_words import detector_in, sizes_in
from rexdet.report.records.data_words import data_name, epochs_of, images_key, part_words, split_name
from rexdet.report.records.recorded_config import without_one_run
from rexdet.report.records.shaping import keeps_statistics, shaping_key
from rexdet.report.records.zoo_detectors import departures
from rexdet.runs.matrix import content_key
from rexdet.runs.parts import Network
from rexdet.runs.record import RunRecord
from rexdet.transfer.fold import Fold

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
UNHASHED = "unhashed "
_LONGEST_FILE_NAME = 32
# A ResNet's stride stands where its weights had it in training: published tables have one name for both.
_OF_THE_WEIGHTS = {"stride_in"}
_OF_THE_BACKBONE = {"initial_weights", "norm", "freeze_at"}
_TOOLBOXES = {"detectron2": "detectron2", "mmdet": "MMDetection"}
# How a batch is divided shapes no number; what it comes to stands beside it.
_DIVISION = {"per_process_batch", "accumulation", "world_size"}


@dataclass(frozen=True)
class RowKey:
    """network: its zoo name, with what differs from the name's own. sha: of the checkpoint; "" for random weights, and
    UNHASHED with where it came from for one of which the record tells no more.
    """

    network: str
    sha: str = ""

    @property
    def is_hashed(self) -> bool:
        """Whether the checkpoint is known by its SHA-256."""
        return bool(self.sha) and not self.sha.startswith(UNHASHED)

    @property
    def checkpoint(self) -> str:
        """The checkpoint for a narrow column."""
        if self.sha and not self.is_hashed:
            return PurePath(self.sha.removeprefix(UNHASHED)).name[:_LONGEST_FILE_NAME] or "unknown"
        return self.sha[:12] if self.sha else "random"


@dataclass(frozen=True)
class Setting:
    """What was done with a network.

    task: "detection" or "transfer". what: the detector's kind, or the head of a transfer number. dataset: a published
    data set's name where it is one. protocol: id of a published protocol that the run follows in every field but those
    of the backbone (start, norm, freezing), else of ours. images: fingerprints of those that were trained on and
    measured on. config: key of all that shapes the numbers. part: which part of the data it was, in words; "" for all
    of it. variant: norm and freezing of the backbone, in words. Runs that differ in any of these are never averaged.

    images_mark, config_mark, variant_mark: what tells it from others of the same title; "" where nothing has to.
    choice_mark: what the row's configuration has that another of the same row and title has not; it is in no title, for
    a column holds a row once, whatever a search chose.
    """

    task: str
    what: str
    dataset: str
    protocol: str
    images: str = ""
    config: str = ""
    part: str = ""
    variant: str = ""
    images_mark: str = ""
    config_mark: str = ""
    variant_mark: str = ""
    choice_mark: str = ""

    @property
    def data(self) -> str:
        """The data set for people: with the part of it that was used, and the mark of its images."""
        return _with_marks(self.dataset, self.part, self.images_mark)

    @property
    def recipe(self) -> str:
        """The protocol for people, with the mark of its configuration."""
        return _with_marks(self.protocol, self.config_mark)

    @property
    def title(self) -> str:
        """For the head of a column."""
        return " ".join(word for word in (self.what, self.data, _with_marks(self.recipe, self.variant_mark)) if word)

    @property
    def family(self) -> str:
        """What was done, whatever the data set: numbers of a family may be looked at over data sets."""
        words = (self.what, self.recipe) if self.task == "detection" else (self.recipe, self.what)
        return _with_marks(" ".join(word for word in words if word), self.part)

    @property
    def shared(self) -> Setting:
        """The setting whatever the backbone's norm and freezing: that of a column, which variants share."""
        return replace(self, variant="", variant_mark="") if self.variant or self.variant_mark else self


def row_key(record: RunRecord) -> RowKey | None:
    """The row of a run; None for one that names no network."""
    network = record.network
    if network is None:
        return None
    name, sha = network.name, _checkpoint(network)
    if study := study_of(record):
        # What a search found differs from seed to seed: the setting of the study is the network of its table.
        return RowKey(f"{name} [{study[1]}]", sha)
    if network.overrides:
        changed = ", ".join(f"{key}={_short(value)}" for key, value in sorted(network.overrides.items()))
        name = f"{name} ({changed})"
    return RowKey(name, sha)


def published_name(record: RunRecord) -> str:
    """The network as published tables call it: with what differs from its name, but for what its weights tell."""
    row, network = row_key(record), record.network
    if row is None or network is None or study_of(record) or set(network.overrides) - _OF_THE_WEIGHTS:
        return row.network if row else ""
    return network.name


def _checkpoint(network: Network) -> str:
    """The SHA-256 of the checkpoint; "" for random weights."""
    _, sha = network.key
    return sha or (f"{UNHASHED}{network.source}" if network.source else "")


def study_of(record: RunRecord) -> tuple[str, str] | None:
    """(study, setting) of a study's cell, else None."""
    study, setting = _line(record.config, "study"), _line(record.config, "setting")
    return (study, setting) if study and setting else None


def start_of(record: RunRecord) -> Start:
    """Whether the backbone began from random weights, from a checkpoint and learnt, or stood still as a whole."""
    network = record.network
    if network is None or not _checkpoint(network):
        return "random"
    return "frozen" if (network.freeze_at or 0) >= ALL_STAGES else "full"


def variant_words(norm: str | None, freeze_at: int | None, *, keeps_statistics: bool = False) -> str:
    """ "FrozenBN, first 2 frozen": norm and freezing of a backbone; "" where neither is told.

    freeze_at: stages that do not learn, as detectron2 counts. keeps_statistics: its batch norms never update theirs.
    """
    words = [f"{norm} with fixed statistics" if keeps_statistics and norm != "FrozenBN" else norm] if norm else []
    if freeze_at is not None:
        first = f"first {freeze_at} frozen" if freeze_at < ALL_STAGES else "all frozen"
        words.append(first if freeze_at else "nothing frozen")
    return ", ".join(words)


def detection_setting(record: RunRecord) -> Setting:
    """The setting of a detection run."""
    protocol, recipe, network = detection_protocol(record), record.recipe, record.network
    batch_is_told = recipe is not None and recipe.effective_batch is not None
    left_out = {"differs_from_recipe", *(_DIVISION if batch_is_told else ())}
    told = recipe.model_dump(mode="json", exclude=left_out) if recipe else {}
    name = network.name if network else ""
    shaping = shaping_key(record.config, record.engine, batch_is_told=batch_is_told, network=name)
    config = content_key({**told, "toolbox": protocol.toolbox, "config": shaping})
    has_weights = network is not None and bool(_checkpoint(network))
    return Setting(
        task="detection",
        what=detector_of(record),
        dataset=data_name(record),
        protocol=(not departures(record) and _published_recipe(protocol)) or f"ours-{config[:6]}",
        images=images_key(record),
        config=config,
        part=part_words(record),
        variant=variant_words(
            network.norm if network else None,
            network.freeze_at if network else None,
            keeps_statistics=keeps_statistics(record.config, record.engine, has_weights=has_weights),
        ),
    )


def transfer_settings(record: RunRecord) -> dict[str, Setting]:
    """The setting of each test number of a transfer run, by its group among the metrics."""
    protocol, dataset = transfer_protocol(record), transfer_dataset(record)
    images, part = images_key(record), part_words(record)
    if fold := fold_of(record):
        # Each fold has images of its own: what they share is the folder that was cut.
        images, part = f"- {fold.images[:12]}", ", ".join(filter(None, (part, f"{fold.of} folds")))
    config = content_key({"config": same_for_all_seeds(record.config)})
    groups = [group for group in record.metrics if group == "test" or group.startswith("test_")]
    heads = {group: group.removeprefix("test").strip("_").replace("_", " ") for group in groups}
    return {group: Setting("transfer", head, dataset, protocol, images, config, part) for group, head in heads.items()}


def fold_of(record: RunRecord) -> Fold | None:
    """Which fold of a folder a transfer run was tested on; None where there are no folds."""
    if record.kind != "transfer" or "\nall_images: " not in (record.config or ""):
        # Nearly always, and asked for every run of every cell.
        return None
    number, count, images = (_line(record.config, key) for key in ("fold", "folds", "all_images"))
    return Fold(int(number), int(count), images) if number.isdecimal() and count.isdecimal() and images else None


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
    return detector_in(without_one_run(record.config or ""), "segm" in record.metrics)


def detection_protocol(record: RunRecord) -> DetectionProtocol:
    """What a detection run followed, in the words of a published protocol; what its record does not tell is unknown."""
    recipe, network = record.recipe, record.network
    train_size, test_size, augmentation = sizes_in(without_one_run(record.config or ""), record.engine)
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
        epochs=epochs_of(record),
        augmentation=augmentation,
        train_size=train_size,
        test_size=test_size,
        initial_weights=(network.source or network.key[1] if network else None) or "none",
        train_split=split_name(record.data.train),
        test_split=split_name(record.data.val),
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


def _with_marks(text: str, *marks: str) -> str:
    told = ", ".join(mark for mark in marks if mark)
    return f"{text} ({told})" if told else text


def _line(config: str | None, key: str) -> str:
    """The value of a key at the left margin of a configuration; "" where it is not there."""
    _, _, rest = f"\n{config or ''}".partition(f"\n{key}: ")
    return rest.partition("\n")[0].strip("'\" ")


def same_for_all_seeds(config: str | None) -> str:
    """A transfer configuration without what the row and the seed (or the fold) say already."""
    kept = []
    left_out = {"seed", "network", "checkpoint", "pixels", "overrides", "setting"}
    if _line(config, "fold"):
        left_out |= {"fold", "training_images"}
    is_inside = False
    for line in (config or "").splitlines():
        if not line.startswith((" ", "-")):
            is_inside = line.partition(":")[0] in left_out
        if not is_inside:
            kept.append(line)
    return "\n".join(kept)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 24 else f"#{content_key({'value': text})[:6]}"
