"""Finds the records of runs: in folders, in files, in ledgers; what cannot be read is named and skipped.

A ledger is a text file with a record a line (JSON Lines), for runs of another machine. Nothing is written here: a run
whose process is gone stays "running" in its file, and out of the tables.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.report.shared_copy import config_for_others, for_others
from rexdet.runs.matrix import folder_name
from rexdet.runs.record import RECORD_NAME, SCHEMA_VERSION, RunRecord, first_error, write_record

LEDGER_ENDING = ".jsonl"


@dataclass(frozen=True)
class Found:
    """One run. where: the file (and line) that holds its record. folder: of the run, None where only a record is."""

    record: RunRecord
    where: str
    folder: Path | None = None


@dataclass(frozen=True)
class Reading:
    """What lies under the paths that were named.

    runs: each once, ordered by start. skipped: (where, why) of what is no record that this version can read.
    repeated: records that were there more than once, or in an earlier state of the same run.
    """

    runs: tuple[Found, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    repeated: int = 0


def read(paths: Sequence[str | os.PathLike[str]]) -> Reading:
    """Read every record under the paths: run folders, folders of runs, record files, ledgers.

    A run that is found twice counts once, in its latest state. Raises UserError for a path that does not exist, and
    where no record is found at all.
    """
    with _without_collections():
        return _read(paths)


def _read(paths: Sequence[str | os.PathLike[str]]) -> Reading:
    found: list[Found] = []
    skipped: list[tuple[str, str]] = []
    for path in paths:
        if not Path(path).exists():
            raise UserError("no such file or folder", str(path), "name folders of runs, records or ledgers")
        for file in _files(Path(path)):
            for where, text in _texts(file, skipped):
                try:
                    record = parse(text)
                except ValueError as error:
                    skipped.append((where, str(error)))
                    continue
                found.append(Found(record, where, file.parent if file.name == RECORD_NAME else None))
    if not found:
        why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise UserError(f"no record of a run here{why}", ", ".join(map(str, paths)), "name the --output of a run")
    runs = merge(found)
    return Reading(tuple(runs), tuple(skipped), len(found) - len(runs))


def parse(text: bytes) -> RunRecord:
    """A record from its JSON text. Raises ValueError, in one line, for what is none and for a newer version's."""
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        try:
            values = orjson.loads(text)
        except ValueError as reason:
            raise ValueError(f"not JSON: {reason}") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            newer = f"schema version {version}, this one reads up to {SCHEMA_VERSION}"
            raise ValueError(f"written by a newer rexdet: {newer}") from None
        raise ValueError(f"not a record of a run: {first_error(error)}") from None


def merge(found: Iterable[Found]) -> list[Found]:
    """Every run once, in its latest state, ordered by start and name.

    Two records are of one run where kind, name, start, seed, network, data and configuration agree, unless the one is
    seen to be no earlier or later state of the other: a different process wrote it although it was not resumed since.
    """
    kept: dict[str, list[Found]] = {}
    for one in found:
        states = kept.setdefault(_identity(one.record), [])
        for place, other in enumerate(states):
            if _is_same_run(one.record, other.record):
                states[place] = max(other, one, key=_lateness)
                break
        else:
            states.append(one)
    runs = [one for states in kept.values() for one in states]
    return sorted(runs, key=lambda one: (one.record.created, one.record.name, one.where))


def write_ledger(runs: Sequence[Found], path: Path) -> None:
    """Write the runs as a ledger, a record a line."""
    lines = [json.dumps(one.record.as_json(), ensure_ascii=False, allow_nan=False) for one in runs]
    write_text_atomically(path, "".join(f"{line}\n" for line in lines))


def publish(runs: Sequence[Found], folder: Path) -> int:
    """Write the records of runs that are done for others, without what tells of one machine and its disk.

    Returns how many. They lie in `records` below the folder, where `read` finds them.
    """
    done = [one.record for one in runs if one.record.status == "done"]
    for record in done:
        key = _identity(record)[:12]
        write_record(folder / "records" / f"{folder_name(record.name)}-{key}.json", for_others(record))
    return len(done)


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collection meanwhile: it would go through all records again for every few hundred more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # The records stay to the end: what is made of them later need not look at them again either.
        gc.freeze()
        if was_on:
            gc.enable()


def _files(path: Path) -> Iterator[Path]:
    """The files of a path that may hold records. A record of a run folder hides no other below it."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        if RECORD_NAME in names:
            yield Path(folder, RECORD_NAME)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(LEDGER_ENDING) and _is_ledger(name))
        if Path(folder).name == "records":
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".json") and name != RECORD_NAME)


def _is_ledger(name: str) -> bool:
    # A run folder holds other files of lines: the log of its steps.
    return "ledger" in name


def _texts(file: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """(where, JSON text) of each record that a file holds."""
    try:
        content = file.read_bytes()
    except OSError as error:
        skipped.append((str(file), f"cannot be read: {error.strerror}"))
        return
    if file.suffix == LEDGER_ENDING:
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield f"{file}:{number}", line
    else:
        yield str(file), content


def _identity(record: RunRecord) -> str:
    """What one run keeps through all its states and copies, as a hash."""
    network = record.network
    values: list[Any] = [
        record.kind,
        record.name,
        record.created.isoformat(),
        record.seed,
        record.engine,
        config_for_others(record.config),
        None if network is None else [*network.key, json.dumps(network.overrides, sort_keys=True)],
        None if record.data.train is None else record.data.train.fingerprint,
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _is_same_run(one: RunRecord, other: RunRecord) -> bool:
    early, late = sorted((one, other), key=lambda record: (len(record.resumed_at), record.updated))
    if late.resumed_at[: len(early.resumed_at)] != early.resumed_at:
        return False
    if early.process is None or late.process is None:
        # A published copy: the same content but for what tells of a machine.
        return _content(early) == _content(late)
    return early.process == late.process or len(late.resumed_at) > len(early.resumed_at)


def _content(record: RunRecord) -> dict[str, Any]:
    return for_others(record).model_dump()


def _lateness(one: Found) -> tuple[Any, ...]:
    record = one.record
    return (len(record.resumed_at), record.updated, one.folder is not None, record.hardware is not None)
