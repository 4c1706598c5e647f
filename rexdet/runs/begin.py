"""Whether a run may begin in a folder, and what it takes over from the run that lies there."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from rexdet.errors import UserError
from rexdet.runs.notes import remove_notes
from rexdet.runs.parts import utc_now
from rexdet.runs.process import liveness
from rexdet.runs.record import RECORD_NAME, RunRecord, load_record, locked, mark_killed, record_path, write_record

# A record whose process cannot be asked (another host) counts as that of a live run for so long after its last write.
QUIET = timedelta(minutes=10)
# Files by which a folder shows that it holds results, besides a record.
_GENOME = "genome.yaml"  # of a search, which is too short to be resumed
_RESULTS = ("last_checkpoint", "*.pth", "*.safetensors", "detections*.json", _GENOME)
_ANOTHER = "name another --output"


def check_folder(folder: str | os.PathLike[str], *, resume: bool = False) -> None:
    """Raise the UserError with which `Run.start` would refuse the folder, for asking before long preparations.

    Only the folder is looked at; whether a resumed run is the same run, `Run.start` tells. Changes nothing.
    """
    path = Path(folder)
    try:
        is_something_else = path.exists() and not path.is_dir()
    except OSError as error:
        raise UserError(f"cannot be a folder ({error.strerror})", str(folder), _ANOTHER) from None
    if is_something_else:
        raise UserError("is a file, and a run needs a folder", str(folder), _ANOTHER)
    earlier = earlier_run(path)
    if not resume:
        refuse_results(path, earlier)


def clear_folder(folder: str | os.PathLike[str]) -> None:
    """Keep the record of a run that left no results beside, so that another run may begin in its folder.

    Raises UserError for a folder that holds results, and where a process still writes there.
    """
    path = Path(folder)
    if not record_path(path).exists():
        return
    with locked(path):
        earlier = earlier_run(path)
        refuse_results(path, earlier)
        if earlier is not None:
            set_aside(path, earlier)
            record_path(path).unlink()


def make_folder(folder: Path) -> None:
    """Make the folder of a run. Raises UserError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError("is a file or lies below one, and a run needs a folder", str(folder), _ANOTHER) from None
    except PermissionError:
        raise UserError("this folder may not be made", str(folder), _ANOTHER) from None
    except OSError as error:
        raise UserError(f"this folder cannot be made ({error.strerror})", str(folder), _ANOTHER) from None
    if not os.access(folder, os.W_OK):
        raise UserError("this folder may not be written to", str(folder), _ANOTHER)


def take_over(folder: Path, record: RunRecord, *, resume: bool) -> RunRecord:
    """Make `folder` ready for a run of `record`; returns the record that the run begins with. Call it under the lock.

    Raises UserError as `Run.start` says.
    """
    earlier = earlier_run(folder)
    if not resume:
        refuse_results(folder, earlier)
    elif earlier is not None:
        record = continued(earlier, record, folder)
    # What a kill left of a half-written record, and what other processes told of the earlier start, which `earlier`
    # holds now. Nobody writes here.
    for partial in folder.glob(f".{RECORD_NAME}.*.partial"):
        partial.unlink(missing_ok=True)
    remove_notes(folder)
    if earlier is not None and not resume:
        set_aside(folder, earlier)
    return record


def earlier_run(folder: Path) -> RunRecord | None:
    """The record in `folder`, or None; a dead process's is turned into killed, a live one's refused."""
    if not record_path(folder).exists():
        return None
    record = load_record(folder)
    if record.status != "running" or record.process is None:
        return record
    state = liveness(record.process)
    process = f"process {record.process.pid} on {record.process.host}"
    if state == "alive":
        raise UserError(f"{process} is still writing this run", str(folder), "stop it, or name another --output")
    if state == "unknown" and utc_now() - record.updated < QUIET:
        since = f"{process} wrote to this run at {record.updated:%H:%M:%S} UTC and may still live"
        raise UserError(
            since, str(folder), f"wait {QUIET.seconds // 60} minutes after its end, or name another --output"
        )
    mark_killed(record, folder)
    return record


def refuse_results(folder: Path, earlier: RunRecord | None) -> None:
    results = sorted(path.name for pattern in _RESULTS for path in folder.glob(pattern))
    is_search = (earlier is not None and earlier.kind == "search") or (folder / _GENOME).exists()
    if earlier is not None and earlier.status == "done":
        fix = _ANOTHER if is_search else f"{_ANOTHER}, or --resume to train it on"
        raise UserError("holds a finished run", str(folder), fix)
    if results:
        status = f"a {earlier.status} run" if earlier is not None else "results of a run"
        fix = _ANOTHER if is_search else f"--resume to go on with it, or {_ANOTHER}"
        raise UserError(f"holds {status} ({results[0]})", str(folder), fix)


def set_aside(folder: Path, earlier: RunRecord) -> None:
    """Keep the record of a run that ended before it had results, under the time of its start."""
    kept = folder / f"record-{earlier.created:%Y%m%dT%H%M%SZ}.json"
    number = 1
    while kept.exists():
        number += 1
        kept = folder / f"record-{earlier.created:%Y%m%dT%H%M%SZ}-{number}.json"
    write_record(kept, earlier)


def continued(earlier: RunRecord, record: RunRecord, folder: Path) -> RunRecord:
    """`record` as the continuation of `earlier`. Raises UserError where it is another run."""
    for what, old, new in _identity(earlier, record):
        if old is not None and new is not None and old != new:
            raise UserError(
                f"holds a run with {what} {old}, not {new}",
                str(folder),
                "--resume goes on with the same run; a new one takes another --output (--weights starts from this)",
            )
    if record.network is None or earlier.network is not None:
        record.network = earlier.network
    for name in ("created", "evaluations", "events", "final_weights", "wall_time_s"):
        setattr(record, name, getattr(earlier, name))
    for name in ("seed", "engine", "config", "recipe"):
        if getattr(record, name) is None:
            setattr(record, name, getattr(earlier, name))
    record.data = record.data.model_copy(
        update={"train": record.data.train or earlier.data.train, "val": record.data.val or earlier.data.val}
    )
    record.files = {**earlier.files, **record.files}
    record.resumed_at = [*earlier.resumed_at, utc_now()]
    return record


def _identity(earlier: RunRecord, record: RunRecord) -> list[tuple[str, Any, Any]]:
    def network(of: RunRecord) -> str | None:
        if of.network is None:
            return None
        changed = " ".join(f"{key}={value}" for key, value in sorted(of.network.overrides.items()))
        return f"{of.network.name} {changed}".strip()

    def training_data(of: RunRecord) -> str | None:
        return of.data.train.fingerprint if of.data.train is not None else None

    return [
        ("kind", earlier.kind, record.kind),
        ("engine", earlier.engine, record.engine),
        ("network", network(earlier), network(record)),
        ("training data of fingerprint", training_data(earlier), training_data(record)),
        ("seed", earlier.seed, record.seed),
    ]
