"""What a record says of its data: their names, their content, and which part of them was used."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePath
from typing import Literal

from rexdet.published.protocols import UNKNOWN
from rexdet.runs.matrix import content_key
from rexdet.runs.parts import DataSplit
from rexdet.runs.record import RunRecord

# Of instances_{train,val}2017.json: images (all, and those with annotations), annotations. Of those to train on a few
# are left out where their boxes are mended.
_COCO = (
    ("train2017", (118_287, 117_266), range(859_500, 860_002)),
    ("val2017", (5_000,), range(36_781, 36_782)),
)


def split_name(split: DataSplit | None) -> str:
    """A split in the words of the published protocols; of one's own data the folder and the file."""
    if split is None or not split.path:
        return UNKNOWN
    return _name_of_file(split.path, split.images, split.annotations)


def data_name(record: RunRecord) -> str:
    """The data set that a detection run was measured on."""
    name = split_name(record.data.val)
    return "coco-val2017" if name == "COCO val2017" else name


def images_key(record: RunRecord) -> str:
    """The fingerprints of what was trained on and measured on; where some could not be read, of which those were."""
    splits = (record.data.train, record.data.val)
    words = [(split.fingerprint or "?")[:12] if split else "-" for split in splits]
    return " ".join(words + ([content_key({"unread": record.partial})] if record.partial else []))


def part_words(record: RunRecord) -> str:
    """ "500 training images, part of the evaluation"; "" where all was used."""
    splits = (("training", record.data.train), ("test", record.data.val))
    words = [
        f"{split.images:,} {name} images" if split.images is not None else f"part of the {name} images"
        for name, split in splits
        if split is not None and split.limited
    ]
    return ", ".join(words + (["part of the evaluation"] if record.partial else []))


def epochs_of(record: RunRecord) -> float | Literal["unknown"]:
    """Passes through the training images, where MMDetection's recipe counts them and the steps come to whole ones."""
    train, recipe = record.data.train, record.recipe
    if record.engine != "mmdet" or recipe is None or not train or not train.images or not recipe.effective_batch:
        return "unknown"
    steps = -(-train.images // recipe.effective_batch)
    whole, rest = divmod(recipe.iterations or 0, steps)
    return "unknown" if rest or not whole else float(whole)


@lru_cache(maxsize=4096)
def _name_of_file(named: str, images: int | None, annotations: int | None) -> str:
    """A file that is called as COCO's is COCO's where it holds what COCO's does, as far as its record tells."""
    for name, counts, annotated in _COCO:
        if name in named and images in counts and (annotations is None or annotations in annotated):
            return f"COCO {name}"
    path = PurePath(named)
    folder = path.parent.parent.name if path.parent.name == "annotations" else path.parent.name
    return "/".join(part for part in (folder, path.stem.removeprefix("instances_")) if part) or named
