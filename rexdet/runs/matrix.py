"""A matrix of runs: each cell keyed by everything that its result hangs on, computed once, whoever asks.

A finished cell is never computed again, one that was stopped goes on where its state stands, one that fails stops no
other. The cells lie in folders whose names end in their keys, so that nothing but their content decides.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.runs.record import RunRecord, read_record, record_path

KEY_DIGITS = 12

Cell = TypeVar("Cell", bound=Hashable)


def content_key(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of plain values, in whatever order they stand."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def folder_name(*words: str) -> str:
    """Words as the name of a folder: joined by hyphens, with nothing that a file system or a shell minds."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(words))


def finished(folder: Path) -> RunRecord | None:
    """The record of a run that is done, else None."""
    if not record_path(folder).exists():
        return None
    record = read_record(folder)
    return record if record.status == "done" else None


@dataclass
class Outcome(Generic[Cell]):
    """What came of a matrix: the record of each cell that is done, and why each of the others is not."""

    records: dict[Cell, RunRecord] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Workers:
    """Processes that compute cells at once. prepare: called in each of them first, with its arguments."""

    count: int = 1
    prepare: Callable[..., object] | None = None
    arguments: tuple[Any, ...] = ()


def run_cells(
    cells: Sequence[Cell],
    compute: Callable[[Cell], RunRecord],
    *,
    folder: Callable[[Cell], Path],
    title: Callable[[Cell], str] = str,
    tell: Callable[[Cell, RunRecord], str] | None = None,
    look: Callable[[Path], RunRecord | None] = finished,
    passable: type[UserError] = UserError,
    workers: Workers = Workers(),
    progress: bool = True,
) -> Outcome[Cell]:
    """Compute every cell that is not done, in their order, or in several processes at once.

    compute: gives a cell's record, or raises `passable`, which is the cell's failure and stops no other; what else it
        raises ends the matrix. With several workers it goes to other processes: it must be a module's function (or a
        partial of one). folder: where a cell's run lies. title: a cell for a person. tell: a line about a computed one.
    look: the record of a cell that is not to be computed (again), from its folder.
    """
    outcome: Outcome[Cell] = Outcome()
    todo = []
    for cell in cells:
        record = look(folder(cell))
        if record is None:
            todo.append(cell)
        else:
            outcome.records[cell] = record
    with tqdm(total=len(cells), initial=len(outcome.records), desc="cells", unit="cell", disable=not progress) as bar:
        for cell, result in _computed(todo, compute, passable, workers):
            bar.update()
            if isinstance(result, RunRecord):
                outcome.records[cell] = result
                line = tell(cell, result) if tell else "done"
            else:
                outcome.failures[cell] = result
                line = f"failed: {result}"
            bar.write(f"{title(cell)}: {line}", file=sys.stderr)
    # In the order of the cells, whichever ended first.
    outcome.records = {cell: outcome.records[cell] for cell in cells if cell in outcome.records}
    return outcome


def _computed(
    cells: Sequence[Cell], compute: Callable[[Cell], RunRecord], passable: type[UserError], workers: Workers
) -> Iterator[tuple[Cell, RunRecord | str]]:
    """Each cell with its record, or the reason why there is none, as they end."""
    if workers.count <= 1 or len(cells) <= 1:
        for cell in cells:
            yield cell, _outcome(compute, passable, cell)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers.count, mp_context=spawn, initializer=workers.prepare, initargs=workers.arguments
    ) as pool:
        futures = {pool.submit(_outcome, compute, passable, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(compute: Callable[[Cell], RunRecord], passable: type[UserError], cell: Cell) -> RunRecord | str:
    try:
        return compute(cell)
    except passable as error:
        return str(error)
