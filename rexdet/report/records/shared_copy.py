"""The copy of a record that goes to others: what was done and what came out, without the folders of one machine."""

from __future__ import annotations

import re
from pathlib import PurePath

from rexdet.runs.parts import Data, DataSplit
from rexdet.runs.record import RunRecord

# Folders that are named for their part in a data set: the one above them is named for the set.
_PARTS = ("annotations", "train", "trainval", "val", "test")
_MARKS = ("/", "./", "../", "~")
# Not the two slashes of an address, nor one between words and numbers.
_PATH_IN_TEXT = re.compile(
    r"""(?:\bfile://|(?<![\w./~-])(?<!:(?=//)))(?:~|\.\.?)?/(?:[^\s'",\])}/]+/)*([^\s'",\])}/]+)"""
)


def for_others(record: RunRecord) -> RunRecord:
    """A copy without process, files and (but for benchmarks) machine; of paths only what names a thing is left.

    Of data that is the file or folder, with the folders that are needed to call the set by its name; of the words of
    the command, of the configuration and of the weights' source, the last part.
    """
    network = record.network
    if network is not None and network.source and network.source.startswith(_MARKS):
        network = network.model_copy(update={"source": PurePath(network.source).name})
    return record.model_copy(
        update={
            "process": None,
            # A latency without its processor says nothing.
            "hardware": record.hardware if record.kind == "benchmark" else None,
            "files": {},
            "config": config_for_others(record.config),
            "command": [_word_for_others(word) for word in record.command],
            "data": Data(train=_split(record.data.train), val=_split(record.data.val)),
            "network": network,
        }
    )


def config_for_others(config: str | None) -> str | None:
    """The configuration with the last part alone of every path that leads anywhere on a disk."""
    return _PATH_IN_TEXT.sub(r"\1", config) if config and "/" in config else config


def _word_for_others(word: str) -> str:
    if word.startswith(_MARKS):
        return PurePath(word).name
    # "--data-root=/home/me/coco", and what an engine is told with KEY=VALUE.
    return config_for_others(word) or word


def _split(split: DataSplit | None) -> DataSplit | None:
    if split is None:
        return None
    places = {"path": _named(split.path), "images_path": _named(split.images_path)}
    return split.model_copy(update=places)


def _named(path: str | None) -> str | None:
    """The end of a path that says what it is: "coco/annotations/instances_val2017.json", "flowers17/train"."""
    if path is None or not path.startswith(_MARKS):
        return path
    parts = [part for part in PurePath(path).parts if part not in ("/", "..", "~", ".")]
    kept = parts[-1:]
    while len(kept) < len(parts) and (PurePath(kept[0]).suffix or kept[0] in _PARTS):
        kept = parts[-len(kept) - 1 :]
    return "/".join(kept)
