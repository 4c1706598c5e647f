"""Finds the records of runs: in folders, in files, in ledgers; what cannot be read is named and skipped.

A ledger is a text file with a record a line (JSON Lines), for runs of another machine. No record is changed by being
read: a run whose process is gone stays "running" in its file, and out of the tables.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import ValidationError

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.report.records.shared_copy import for_others
from rexdet.report.records.states import Found, identity, merge
from rexdet.report.records.visible import visible
from rexdet.runs.matrix import folder_name
from rexdet.runs.record import RECORD_NAME, SCHEMA_VERSION, RunRecord, first_error, write_record

LEDGER_ENDING = ".jsonl"
# What an editor of another system may put before the first line.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Where published records lie, and how each of them begins.
RECORDS_FOLDER = "records"
_BEGINNING = re.compile(rb"\s*\{\s*\"schema_version\"\s*:")
_LONGEST_BEGINNING = 256
_NO_RECORD = "holds no record of a run"
# A run folder's log of its steps: many lines, none of them a record.
_LOG_OF_STEPS = "steps"
_LONGEST_NAME = 150
# A record has some thousand letters; of a file of another kind no more than this is looked at.
_LONGEST_LINE = 16 * 2**20


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
        if not _exists(Path(path)):
            raise UserError("no such file or folder", shown(path), "name folders of runs, records or ledgers")
        told = len(found) + len(skipped)
        for file in _files(Path(path), skipped):
            for where, text in _texts(file, skipped):
                try:
                    record = parse(text)
                except ValueError as error:
                    skipped.append((where, str(error)))
                    continue
                found.append(Found(record, where, file.parent if file.name == RECORD_NAME else None))
        if len(found) + len(skipped) == told:
            skipped.append((shown(path), _NO_RECORD))
    if not found:
        reasons = [entry for entry in skipped if entry[1] != _NO_RECORD]
        why = f" ({reasons[0][0]}: {reasons[0][1]})" if reasons else ""
        raise UserError(f"no record of a run here{why}", ", ".join(map(shown, paths)), "name the --output of a run")
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


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text that every file takes: bytes that are no UTF-8 and control characters become backslash escapes."""
    return visible(os.fsencode(path).decode("utf-8", errors="backslashreplace"))


def write_ledger(runs: Sequence[Found], path: Path) -> None:
    """Write the runs as a ledger, a record a line."""
    lines = [one.record.model_dump_json() for one in runs]
    write_text_atomically(path, "".join(f"{line}\n" for line in lines))


def publish(runs: Sequence[Found], folder: Path) -> int:
    """Write the records of runs that are done for others, without what tells of one machine and its disk.

    Returns how many. They lie in `records` below the folder, where `read` finds them. A file that holds the same run is
    written anew unless it holds a later state; one that holds something else stays, and the record gets a number.
    """
    done = [one.record for one in runs if one.record.status == "done"]
    written: set[Path] = set()
    for record in done:
        copy = for_others(record)
        name = f"{folder_name(record.name)[:_LONGEST_NAME]}-{identity(record)[:12]}"
        for path in _numbered(folder / RECORDS_FOLDER / name):
            if path in written:
                continue
            there = _published(path)
            states = [Found(copy, "new"), *([] if there is None else [Found(there, "old")])]
            if path.exists() and (there is None or len(merge(states)) > 1):
                continue
            write_record(path, merge(states)[0].record)
            written.add(path)
            break
    return len(done)


def _numbered(path: Path) -> Iterator[Path]:
    """NAME.json, NAME-2.json, and so on."""
    yield path.with_name(f"{path.name}.json")
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}.json")
        number += 1


def _published(path: Path) -> RunRecord | None:
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError):
        return None


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


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that is longer than the disk takes, or a folder that may not be looked into.
        return False


def _files(path: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """The files of a path that may hold records. A record of a run folder hides no other below it."""
    if path.is_file():
        yield path
        return
    for folder, names in _folders(path, skipped):
        is_run = RECORD_NAME in names
        # Published records lie in a folder of whatever name; in one of this name also what no longer begins like one.
        is_theirs = folder.absolute().name == RECORDS_FOLDER
        for name in names:
            file = folder / name
            if name == RECORD_NAME:
                is_one = True
            elif name.endswith(LEDGER_ENDING):
                is_one = not (is_run and name.startswith(_LOG_OF_STEPS)) and _is_ledger(file)
            else:
                is_one = name.endswith(".json") and (is_theirs or (not is_run and _begins_like_a_record(file)))
            if is_one and not file.is_file():
                # A pipe would be waited for without an end.
                skipped.append((shown(file), "is no file that can be read"))
            elif is_one:
                yield file


def _folders(path: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder below a path with the names of its files; links are followed, and no folder is seen twice."""

    def skip(error: OSError) -> None:
        skipped.append((shown(error.filename or path), f"cannot be read: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=skip):
        there = os.stat(folder)
        if (there.st_dev, there.st_ino) in seen:
            folders.clear()
            continue
        seen.add((there.st_dev, there.st_ino))
        folders.sort()
        yield Path(folder), sorted(names)


def _is_ledger(file: Path) -> bool:
    """Whether the first line that is not blank is a record, of whatever version; a file called so is one anyway."""
    if "ledger" in file.name or not file.is_file():
        return True
    try:
        with file.open("rb") as lines:
            first = lines.readline(_LONGEST_LINE).removeprefix(_BYTE_ORDER_MARK).strip()
            while not first and (line := lines.readline(_LONGEST_LINE)):
                first = line.strip()
    except OSError:
        # It is named where it is to be read.
        return True
    if b'"schema_version"' not in first or b'"kind"' not in first:
        return False
    try:
        values = orjson.loads(first)
    except ValueError:
        # A record that was cut is named, as in any ledger.
        return True
    return isinstance(values, dict) and {"schema_version", "kind"} <= set(values)


def _begins_like_a_record(file: Path) -> bool:
    """Whether a JSON file begins with a record's first key; the files of a data set are long, and none begins so."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as opened:
            return _BEGINNING.match(opened.read(_LONGEST_BEGINNING).removeprefix(_BYTE_ORDER_MARK)) is not None
    except OSError:
        return False


def _texts(file: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """(where, JSON text) of each record that a file holds."""
    where = shown(file)
    try:
        content = file.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except OSError as error:
        skipped.append((where, f"cannot be read: {error.strerror}"))
        return
    if file.suffix == LEDGER_ENDING:
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield f"{where}:{number}", line
    else:
        yield where, content
