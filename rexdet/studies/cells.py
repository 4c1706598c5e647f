"""A study is a matrix of cells (network, setting, seed), each keyed by everything that its result hangs on.

A finished cell is never computed again, one that was stopped goes on where its state stands.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.runs import RunRecord, read_record, record_path
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
        return hashlib.sha256(json.dumps(self.as_values(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Readable, and safe as the name of a folder."""
        words = f"{self.network}-{self.setting}-seed{self.seed}-{self.key}"
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", words)

    @property
    def title(self) -> str:
        """For a person."""
        return f"{self.network} {self.setting} seed {self.seed}"

    def folder(self, output: Path) -> Path:
        """Where the cell's run lies."""
        return output / "cells" / self.name

    def train_images(self) -> ImageSet:
        """The training split; a process reads it once."""
        return _split(self.data, "train", self.protocol.image_size)

    def test_images(self) -> ImageSet:
        """The test split, labelled by the training split's classes; a process reads it once."""
        return _split(self.data, "test", self.protocol.image_size)


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
    fingerprint = _split(str(data), "train", protocol.image_size).fingerprint
    return [
        Cell(study, network, setting, seed, protocol, str(data), fingerprint, options)
        for seed in range(first_seed, first_seed + seeds)
        for network, names in settings.items()
        for setting in names
    ]


def finished(cell: Cell, output: Path) -> RunRecord | None:
    """The record of a cell that is done, else None."""
    folder = cell.folder(output)
    if not record_path(folder).exists():
        return None
    record = read_record(folder)
    return record if record.status == "done" else None


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
    records: dict[str, RunRecord] = {}
    failures: dict[str, str] = {}
    todo = []
    for cell in cells:
        record = finished(cell, output)
        if record is None:
            todo.append(cell)
        else:
            records[cell.name] = record
    with tqdm(total=len(cells), initial=len(records), desc="cells", unit="cell", disable=not progress) as bar:
        for cell, outcome in _computed(todo, make_job, output, processes, progress, command):
            bar.update()
            if isinstance(outcome, RunRecord):
                records[cell.name] = outcome
                accuracy = outcome.metrics["test"]["top1"] or 0.0
                took = f"{outcome.wall_time_s or 0.0:.0f} s"
                bar.write(f"{cell.title}: {100 * accuracy:.2f}% ({took})", file=sys.stderr)
            else:
                failures[cell.name] = outcome
                bar.write(f"{cell.title} failed: {outcome}", file=sys.stderr)
    return records, failures


def _computed(
    cells: Sequence[Cell], make_job: MakeJob, output: Path, processes: int, progress: bool, command: list[str] | None
) -> Iterator[tuple[Cell, RunRecord | str]]:
    """Each cell with its record, or the reason why there is none, as they end."""
    if processes <= 1 or len(cells) <= 1:
        for cell in cells:
            with _one_thread():
                yield cell, _compute(cell, make_job, output, progress, command)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(_compute, cell, make_job, output, False, command): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _compute(cell: Cell, make_job: MakeJob, output: Path, progress: bool, command: list[str] | None) -> RunRecord | str:
    try:
        return run_job(make_job(cell, output), progress=progress, command=command)
    except UserError as error:
        return str(error)


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
