"""A study is a matrix of cells (network, setting, seed), each keyed by everything that its result hangs on.

A finished cell is never computed again, one that was stopped goes on where its state stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import yaml

from rexdet.runs import RunRecord, matrix
from rexdet.transfer.images import ImageSet, read_split
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.protocols import Protocol

# Results of the same cell by another version of the study's code are not mixed.
VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    options: what the study was told beside the matrix, plain values. protocol: of the training.
    data: the folder that holds train/ and test/. fingerprint: of its training split.
    """

    study: str
    network: str
    setting: str
    seed: int
    protocol: Protocol
    data: str
    fingerprint: str
    options: dict[str, Any] = field(default_factory=dict)

    def as_values(self) -> dict[str, Any]:
        """Everything that the result hangs on, in plain values. The folder's name is not among it, its content is."""
        return {
            "version": VERSION,
            "study": self.study,
            "network": self.network,
            "setting": self.setting,
            "seed": self.seed,
            "options": self.options,
            "protocol": self.protocol.model_dump(),
            "training_images": self.fingerprint,
        }

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of `as_values`."""
        return matrix.content_key(self.as_values())

    @property
    def name(self) -> str:
        """Readable, and safe as the name of a folder."""
        return matrix.folder_name(self.network, self.setting, f"seed{self.seed}", self.key)

    @property
    def title(self) -> str:
        """For a person."""
        return f"{self.network} {self.setting} seed {self.seed}"

    def folder(self, output: Path) -> Path:
        """Where the cell's run lies."""
        return output / "cells" / self.name

    def train_images(self) -> ImageSet:
        """The training split; a process reads it once."""
        return _split(self.data, "train", self.protocol.size())

    def test_images(self) -> ImageSet:
        """The test split, labelled by the training split's classes; a process reads it once."""
        return _split(self.data, "test", self.protocol.size())


MakeJob = Callable[[Cell, Path], Job]


@lru_cache(maxsize=4)
def _split(data: str, split: str, size: int) -> ImageSet:
    classes = None if split == "train" else _split(data, "train", size).classes
    return read_split(data, split, size, classes=classes)


def make_cells(
    study: str,
    settings: Mapping[str, Sequence[str]],
    *,
    seeds: int,
    protocol: Protocol,
    data: str | Path,
    options: dict[str, Any],
    first_seed: int = 0,
) -> list[Cell]:
    """Every (network, setting, seed), seed by seed, so that a matrix that is cut short has equal numbers of runs.

    settings: network -> its settings. Reads the training split. Raises UserError as `read_split` does.
    """
    fingerprint = _split(str(data), "train", protocol.size()).fingerprint
    return [
        Cell(study, network, setting, seed, protocol, str(data), fingerprint, options)
        for seed in range(first_seed, first_seed + seeds)
        for network, names in settings.items()
        for setting in names
    ]


def run_cells(
    cells: Sequence[Cell],
    make_job: MakeJob,
    output: Path,
    *,
    processes: int = 1,
    progress: bool = True,
    command: list[str] | None = None,
) -> tuple[dict[str, RunRecord], dict[str, str]]:
    """Compute every cell that is not done. Returns the records by the cells' names, and why others failed.

    processes: how many train at once, each on one thread: so a result is the same whatever their number. A cell that
    fails does not stop the others.
    """
    alone = processes <= 1 or len(cells) <= 1
    by_name = {cell.name: cell for cell in cells}
    with _one_thread() if alone else nullcontext():
        outcome = matrix.run_cells(
            list(by_name),
            partial(_compute, by_name, make_job, output, progress and alone, command),
            folder=lambda name: by_name[name].folder(output),
            title=lambda name: by_name[name].title,
            tell=_told,
            workers=matrix.Workers(processes, torch.set_num_threads, (1,)),
            progress=progress,
        )
    return outcome.records, outcome.failures


def _compute(
    cells: Mapping[str, Cell], make_job: MakeJob, output: Path, progress: bool, command: list[str] | None, name: str
) -> RunRecord:
    return run_job(make_job(cells[name], output), progress=progress, command=command)


def _told(name: str, record: RunRecord) -> str:
    accuracy = record.metrics["test"]["top1"] or 0.0
    return f"{100 * accuracy:.2f}% ({record.wall_time_s or 0.0:.0f} s)"


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def config_text(cell: Cell) -> str:
    """What a cell's record holds as its configuration: `Cell.as_values` as YAML."""
    return yaml.safe_dump(cell.as_values(), sort_keys=False, allow_unicode=True)
