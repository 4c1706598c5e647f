"""What is known of a data set before it is opened: classes, splits, metric, where it comes from, how it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rexdet.errors import UserError
from rexdet.transfer.fold import Fold
from rexdet.transfer.layouts.entries import Layout
from rexdet.transfer.metrics import Metric

# Share of the training images to choose by where there is no official validation split (PAPERS.md E1: the protocol's
# authors publish no share; SimCLR-style evaluation code takes a fifth with seed 0).
HELD_OUT_SHARE = 0.2
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Download:
    """An archive or file of the data set's publishers. into: folder below the data root that it belongs into."""

    url: str
    md5: str
    into: str = ""


@dataclass(frozen=True)
class DatasetFacts:
    """One row of the table of data sets.

    name: of the command line. title: of the paper. classes, splits: how many classes, and images by split ("train",
    "val" where it is official, "test"); None and {} where only the folder knows. metric: the standard's, "top1" or
    "mean_per_class". source: of these facts. layout: how it lies on the disk. put: which files go where, for people.
    downloads: where the publishers keep it, empty where they no longer do. size: of the downloads, for people.
    rule: which of several readings of the set this is, as the record tells it. options: other readings, NAME:OPTION,
    with what they change. fold: of a folder that is cut into some.
    """

    name: str
    title: str
    classes: int | None
    splits: Mapping[str, int]
    metric: Metric
    source: str
    put: str
    layout: Layout
    downloads: tuple[Download, ...] = ()
    size: str = ""
    rule: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fold: Fold | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's configuration says of the set, beside the fingerprint of its training images."""
        if self.fold is None:
            return {"dataset": self.name}
        return {"dataset": self.name, "fold": self.fold.number, "folds": self.fold.of, "all_images": self.fold.images}

    @property
    def tuning(self) -> str:
        """What hyper-parameters are chosen by."""
        if "val" in self.splits:
            return "the official validation split"
        return f"{HELD_OUT_SHARE:.0%} of each training class, held out"

    def chosen(self, option: str) -> DatasetFacts:
        """The facts of NAME:OPTION. Raises UserError for an option that there is not."""
        if option not in self.options:
            there = ", ".join(f"{self.name}:{known}" for known in self.options) or "none"
            raise UserError(f"there is no {self.name}:{option}", "--dataset", f"there are {there}")
        return replace(self, name=f"{self.name}:{option}", options={}, **self.options[option])
