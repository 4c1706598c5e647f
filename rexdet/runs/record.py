"""The record that every run leaves: its schema, and how it is read and written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, NonNegativeFloat, ValidationError, field_validator

from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.runs.environment import Hardware
from rexdet.runs.notes import count_event, read_notes, remove_notes
from rexdet.runs.parts import (
    COCO_KEYS,
    Count,
    Data,
    DetectorComplexity,
    Event,
    Failure,
    Network,
    Numbers,
    Part,
    PeakMemory,
    PeriodicEvaluation,
    Recipe,
    TimeShare,
    WeightsFile,
    check_shares,
    relative_file,
    utc_now,
)
from rexdet.runs.process import Process, liveness

SCHEMA_VERSION: Literal[1] = 1
RECORD_NAME = "record.json"

Kind = Literal["detection", "transfer", "search", "benchmark"]
Status = Literal["running", "done", "failed", "killed"]


class RunRecord(Part):
    """One run: what was asked, what it ran on, what came out. Written to `record.json` in the run's folder."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="version of this schema")
    kind: Kind = Field(description="what kind of run it is")
    name: str = Field(description="name of the run")
    status: Status = Field(
        default="running",
        description="running; done; failed: an error ended it; killed: stopped from outside, or its process is gone",
    )
    created: AwareDatetime = Field(default_factory=utc_now, description="start of the run, UTC")
    updated: AwareDatetime = Field(default_factory=utc_now, description="last time the run wrote this record, UTC")
    finished: AwareDatetime | None = Field(default=None, description="end of the run, UTC; null: running, or not known")
    resumed_at: list[AwareDatetime] = Field(default_factory=list, description="times at which the run was resumed, UTC")
    command: list[str] = Field(
        default_factory=list, description="command line of the last start, word by word, paths as typed"
    )
    engine: str | None = Field(default=None, description="library that trained: detectron2, mmdet; null: ours alone")
    config: str | None = Field(default=None, description="the resolved configuration in the engine's own language")
    seed: Count | None = Field(default=None, description="seed of all random numbers")
    network: Network | None = Field(default=None, description="network and checkpoint it started from")
    detector_complexity: DetectorComplexity | None = Field(
        default=None, description="what the whole detector costs; null: no detector, or an older record"
    )
    data: Data = Field(default_factory=Data, description="data it trained and was evaluated on")
    recipe: Recipe | None = Field(default=None, description="how it was trained; null: no training")
    metrics: dict[str, Numbers] = Field(
        default_factory=dict,
        description="final numbers by group; bbox and segm hold the 12 COCO numbers, 0 to 1, null: no ground truth",
    )
    per_class: dict[str, dict[str, Numbers]] = Field(
        default_factory=dict, description="the same by group and class name; null: no ground truth"
    )
    partial: list[str] = Field(
        default_factory=list, description="why the metrics cover only a part, a line each; empty: they cover the whole"
    )
    evaluated_weights: WeightsFile | None = Field(default=None, description="weights that `metrics` belong to")
    final_weights: WeightsFile | None = Field(default=None, description="weights that the final file holds")
    evaluations: list[PeriodicEvaluation] = Field(
        default_factory=list, description="evaluations during training, in order"
    )
    wall_time_s: NonNegativeFloat | None = Field(
        default=None, description="wall time over all starts up to the last write, seconds"
    )
    images_per_second: NonNegativeFloat | None = Field(
        default=None, description="training images per second over all processes, evaluation excluded"
    )
    time_share: TimeShare | None = Field(default=None, description="where the wall time went")
    peak_memory: PeakMemory | None = Field(default=None, description="most memory held at once")
    events: list[Event] = Field(default_factory=list, description="what a reader of the numbers should know")
    files: dict[str, str] = Field(
        default_factory=dict, description="what the run wrote: role to name, relative to its folder"
    )
    failure: Failure | None = Field(default=None, description="why it did not finish; null: it did, or runs")
    versions: dict[str, str] = Field(default_factory=dict, description="versions of Python and the libraries")
    hardware: Hardware | None = Field(default=None, description="machine of the main process")
    process: Process | None = Field(default=None, description="process that writes this record")

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: dict[str, Numbers]) -> dict[str, Numbers]:
        for group, numbers in metrics.items():
            if group in ("bbox", "segm") and set(numbers) != set(COCO_KEYS):
                raise ValueError(f"{group} must hold exactly the keys {' '.join(COCO_KEYS)}")
            check_shares(group, numbers)
        return metrics

    @field_validator("per_class")
    @classmethod
    def _check_per_class(cls, per_class: dict[str, dict[str, Numbers]]) -> dict[str, dict[str, Numbers]]:
        for group, classes in per_class.items():
            for name, numbers in classes.items():
                try:
                    check_shares(group, numbers)
                except ValueError as error:
                    raise ValueError(f"class {name!r}: {error}") from None
        return per_class

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files.values():
            relative_file(name)
        return files

    def as_json(self) -> dict[str, Any]:
        """The record as plain JSON values, in the order of the schema."""
        return self.model_dump(mode="json")


def record_path(folder: str | os.PathLike[str]) -> Path:
    """The record of a run folder; a path that ends in .json and is no folder is taken as the record itself."""
    path = Path(folder)
    return path if path.suffix == ".json" and not path.is_dir() else path / RECORD_NAME


def write_record(folder: str | os.PathLike[str], record: RunRecord) -> None:
    """Write `record` into `folder`, whole or not at all."""
    write_json_atomically(record_path(folder), record.as_json())


def read_record(folder: str | os.PathLike[str]) -> RunRecord:
    """Read and check the record of a run folder (or the record file itself).

    A record that says "running" although its process no longer lives becomes "killed", and is written back where the
    folder can be written to. A process of another host or container is left alone: nobody here can tell.

    Raises UserError (one line): no record, not JSON, written by a newer version, or not of this schema.
    """
    record = load_record(folder)
    if not _is_orphaned(record):
        return record
    path = record_path(folder)
    try:
        with locked(path.parent):
            # Between the first look and the lock the run may have been resumed.
            record = load_record(folder)
            if _is_orphaned(record):
                mark_killed(record, path.parent)
                write_record(folder, record)
                remove_notes(path.parent)
    except OSError as error:
        # Somebody else's run, or a read-only copy: the answer is the same, only that it cannot be kept.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        if _is_orphaned(record):
            mark_killed(record, path.parent)
    return record


def mark_killed(record: RunRecord, folder: Path) -> None:
    """Turn a running record whose process is gone into a killed one; when it ended is not known.

    Where another process of the run has left word of its failure, that was the reason and the run has failed. The notes
    themselves stay: they go when the record is written.
    """
    process = f"process {record.process.pid} on {record.process.host}" if record.process else "its process"
    record.failure = Failure(message=f"{process} ended without a word, after the last write of this record")
    record.status = "killed"
    take_notes(record, folder)


def take_notes(record: RunRecord, folder: Path) -> None:
    """Take what the other processes tell into a record that ends: their events, and the first failure as the reason."""
    notes = read_notes(folder)
    for note in notes:
        for event in note.events:
            record.events = count_event(record.events, event)
    if notes and notes[0].failure is not None and record.status != "done":
        record.failure = notes[0].failure
        record.status = "failed"


def load_record(folder: str | os.PathLike[str]) -> RunRecord:
    """Read and check a record as it stands in the file. Raises UserError as `read_record` does."""
    path = record_path(folder)
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("no record of a run here", where, "name the folder that --output named") from None
    except UnicodeDecodeError:
        raise UserError("not a record: no UTF-8 text", where) from None
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not JSON: {error}", where, "a record is written whole: this file was changed or cut"
        ) from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        newer = f"schema version {version}, this rexdet reads up to {SCHEMA_VERSION}"
        raise UserError(newer, where, "read it with the rexdet that wrote it, or a newer one")
    try:
        return RunRecord.model_validate(values)
    except ValidationError as error:
        raise UserError(f"not a record of a run: {first_error(error)}", where) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that decide over the record of `folder` out; a process that dies gives its lock back.

    Where the system has no such locks (Windows, some network file systems) nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
        yield
    finally:
        os.close(handle)


def _is_orphaned(record: RunRecord) -> bool:
    return record.status == "running" and record.process is not None and liveness(record.process) == "gone"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def first_error(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{more}"
