"""Opens a data set: its lists are checked against the facts, its training images are read, its test split is sealed."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from rexdet.errors import UserError
from rexdet.transfer.facts import HELD_OUT_SEED, HELD_OUT_SHARE, DatasetFacts
from rexdet.transfer.images import ImageFile, Listing, StoredImage, is_picture
from rexdet.transfer.layouts.entries import Entries, check_md5
from rexdet.transfer.metrics import Metric
from rexdet.transfer.scan import Scanned, scan
from rexdet.transfer.splits import SealedTest, held_out

logger = logging.getLogger(__name__)

# Training images that cannot be read are left out up to this share of the split (and one in any case).
UNREADABLE_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set whose test split is sealed.

    train: images to train on. val: those to choose by where the set has an official split for it, else None.
    """

    facts: DatasetFacts
    train: Listing
    val: Listing | None
    test: SealedTest

    @property
    def name(self) -> str:
        """As on the command line: "aircraft:family"."""
        return self.facts.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return self.train.classes

    @property
    def metric(self) -> Metric:
        """What the field reports on this set."""
        return self.facts.metric

    @property
    def notes(self) -> tuple[str, ...]:
        """By which rule the set was split and its classes counted, and what was mended or left out, a line each."""
        rule = (f"{self.name}: {self.facts.rule}",) if self.facts.rule else ()
        return rule + self.train_and_val().notes

    def tuning_split(self, seed: int = HELD_OUT_SEED) -> tuple[Listing, Listing]:
        """Images to train on and to choose by, apart: the official ones, else a share of each class, by the seed."""
        if self.val is not None:
            return self.train, self.val
        kept, held = held_out(self.train.labels.tolist(), HELD_OUT_SHARE, seed)
        if not held:
            raise UserError("no class has two images: there is nothing to choose by", self.train.folder, "give val/")
        return self.train.subset(kept, "train"), self.train.subset(held, "val")

    def train_and_val(self) -> Listing:
        """Everything that the chosen network is trained on, always in this order."""
        return self.train if self.val is None else self.train.joined(self.val)

    def described(self) -> str:
        """One line for a person."""
        parts = [f"{len(self.train):,} train"]
        if self.val is not None:
            parts.append(f"{len(self.val):,} val")
        metric = {"top1": "top-1", "mean_per_class": "mean per class"}[self.metric]
        rule = f" ({self.facts.rule})" if self.facts.rule else ""
        return (
            f"{self.name}{rule}: {len(self.classes)} classes, {' + '.join(parts)} images, test sealed "
            f"({self.test.description}); {metric}"
        )


def open_layout(
    facts: DatasetFacts, place: Path, *, check_counts: bool = True, has_val: bool | None = None, progress: bool = False
) -> Dataset:
    """Open the set that lies in `place`. Nothing of its test split is read.

    check_counts: as `open_dataset`. has_val: there is a validation split; None for what the facts say. Raises UserError
    as `open_dataset` does.
    """
    opening = _Opening(facts, place, check_counts)
    has_val = "val" in facts.splits if has_val is None else has_val
    entries = {split: opening.read(split) for split in ("train", "val")[: 1 + has_val]}
    classes = opening.classes(entries["train"])
    if facts.layout.is_drawn:
        opening.check_count("test", len(facts.layout.read(place, "test").files))
    train = opening.training_listing("train", entries["train"], classes, progress)
    val = opening.training_listing("val", entries["val"], classes, progress) if has_val else None
    if val is not None and (shared := len(set(train.digests) & set(val.digests))):
        logger.warning("%s: %d images are in train and in val", place, shared)
    if (missing := facts.layout.missing(place, "test")) is not None:
        logger.warning("%s: the test split will not open: no %s%s", place, missing, facts.layout.hint(missing))
    training = frozenset(train.digests) | frozenset(val.digests if val is not None else ())
    count = f"{facts.splits['test']:,} images" if "test" in facts.splits else str(place)
    return Dataset(facts, train, val, SealedTest(lambda bar: opening.test_listing(classes, training, bar), count))


@dataclass(frozen=True)
class _Opening:
    """One data set while it is opened."""

    facts: DatasetFacts
    place: Path
    check_counts: bool

    def read(self, split: str) -> Entries:
        """The split's list: as long as the facts have it, from the official files, no image in it twice."""
        layout = self.facts.layout
        if (missing := layout.missing(self.place, split)) is not None:
            raise UserError(f"has no {missing}{layout.hint(missing)}", str(self.place), f"put there {self.facts.put}")
        if layout.hash_first:
            self._check_md5(split)
        entries = layout.read(self.place, split)
        self.check_count(split, len(entries.files))
        if not layout.hash_first:
            # A wrong count says more than a wrong hash.
            self._check_md5(split)
        name, times = Counter(file.name for file in entries.files).most_common(1)[0] if entries.files else ("", 0)
        if times != 1:
            what = f"{split} lists {name} {times} times" if times else f"{split} lists no images"
            raise UserError(what, str(self.place), "use the official list")
        return entries

    def _check_md5(self, split: str) -> None:
        for name, expected in self.facts.layout.md5.get(split, {}).items() if self.check_counts else ():
            paths = [self.place / part for part in name.split("|")]
            check_md5(next((path for path in paths if path.exists()), paths[0]), expected)

    def check_count(self, split: str, found: int) -> None:
        """Raise UserError, with both numbers, where a split is not as long as the official one."""
        expected = self.facts.splits.get(split)
        if not self.check_counts or expected is None or found == expected:
            return
        other = next((name for name, count in self.facts.splits.items() if count == found), None)
        swapped = f": that is its {other} split" if other else ""
        raise UserError(
            f"{split} has {found:,} images, and {self.facts.title} has {expected:,}{swapped}",
            str(self.place),
            f"use the official split, {self._official()}",
        )

    def _official(self) -> str:
        return " / ".join(f"{count:,} {name}" for name, count in self.facts.splits.items())

    def classes(self, train: Entries) -> tuple[str, ...]:
        """The classes, in the official order: those that have training images, which must be all."""
        there = frozenset(train.labels)
        found = tuple(name for name in train.classes if name in there)
        expected = self.facts.classes
        if self.check_counts and expected is not None and len(found) != expected:
            empty = next((name for name in train.classes if name not in there), None)
            first = f"; {empty!r} has no training image" if empty else ""
            rule = f" ({self.facts.rule})" if self.facts.rule else ""
            raise UserError(
                f"{len(found)} classes, and {self.facts.title} has {expected}{rule}{first}", str(self.place)
            )
        if len(found) < 2:
            raise UserError(f"{len(found)} class: there is nothing to tell apart", str(self.place))
        return found

    def training_listing(self, split: str, entries: Entries, classes: tuple[str, ...], progress: bool) -> Listing:
        """Images to train on or to choose by; a few that cannot be read are left out, and told."""
        labels = self._labels(split, entries, classes)
        scanned = scan(entries.files, self._key(), split, progress=progress)
        good = [index for index, found in enumerate(scanned) if found.problem is None]
        notes: tuple[str, ...] = ()
        if len(good) < len(scanned):
            text = _told(entries.files, scanned)
            if len(scanned) - len(good) > max(1, int(UNREADABLE_SHARE * len(scanned))):
                raise UserError(
                    f"{text}: more than {UNREADABLE_SHARE:.0%} of {split}", str(self.place), "repair the data set"
                )
            notes = (f"{split}: {text}: left out",)
            logger.warning("%s: %s", self.place, notes[0])
            if not good:
                raise UserError(f"{split} has no image that can be read", str(self.place), "repair the data set")
            gone = next((name for i, name in enumerate(classes) if i not in {labels[index] for index in good}), None)
            if split == "train" and gone is not None:
                raise UserError(f"class {gone!r} has no training image that can be read", str(self.place))
        return Listing(
            name=self.facts.name,
            split=split,
            files=tuple(entries.files[index] for index in good),
            labels=torch.tensor([labels[index] for index in good], dtype=torch.int64),
            classes=classes,
            digests=tuple(scanned[index].digest for index in good),
            folder=str(self.place),
            notes=notes,
        )

    def test_listing(self, classes: tuple[str, ...], training: frozenset[str], progress: bool) -> Listing:
        """The test split, whole; its notes say what a reader of its numbers should know.

        training: hashes of the images that were trained on or chosen by.
        """
        entries = self.read("test")
        labels = self._labels("test", entries, classes)
        scanned = scan(entries.files, self._key(), "test", progress=progress)
        if any(found.problem is not None for found in scanned):
            raise UserError(
                f"{_told(entries.files, scanned)}: an accuracy over a part of the test split is none",
                str(self.place),
                "repair them and start again: what was chosen is kept",
            )
        notes = []
        if shared := sum(found.digest in training for found in scanned):
            notes.append(f"test: {shared:,} of {len(scanned):,} images are training images too, byte by byte")
        if absent := len(classes) - len(set(labels)):
            notes.append(f"test: {absent} of {len(classes)} classes have no images")
        for note in notes:
            logger.warning("%s: %s", self.place, note)
        return Listing(
            name=self.facts.name,
            split="test",
            files=entries.files,
            labels=torch.tensor(labels, dtype=torch.int64),
            classes=classes,
            digests=tuple(found.digest for found in scanned),
            folder=str(self.place),
            notes=tuple(notes),
        )

    def _labels(self, split: str, entries: Entries, classes: tuple[str, ...]) -> list[int]:
        places = {name: index for index, name in enumerate(classes)}
        foreign = next((label for label in entries.labels if label not in places), None)
        if foreign is not None:
            raise UserError(
                f"{split} has images of class {foreign!r}, and train has none of it",
                str(self.place),
                "give the splits the same classes",
            )
        return [places[label] for label in entries.labels]

    def _key(self) -> str:
        return f"{self.facts.name} {self.place.resolve()}"


def _told(files: tuple[ImageFile, ...], scanned: list[Scanned]) -> str:
    """How many cannot be read, and the first of them."""
    bad = [(file, found.problem) for file, found in zip(files, scanned, strict=True) if found.problem is not None]
    told = f"{len(bad):,} of {len(files):,} images cannot be used, first {bad[0][0].where} ({bad[0][1]})"
    if len(bad) == len(files) and isinstance(files[0], StoredImage):
        # Another mirror may have other names: both are shown.
        there = next((path.name for path in sorted(files[0].path.parent.glob("*")) if is_picture(path.name)), None)
        told += f"; the list says {files[0].path.name}, the folder has {there}" if there else ""
    return told
