"""The life of a run: start, updates, end. Each step leaves a whole record in the run's folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rexdet.errors import UserError
from rexdet.runs.environment import collect_hardware, collect_versions, peak_memory
from rexdet.runs.parts import Event, Failure, utc_now
from rexdet.runs.process import current_process, liveness
from rexdet.runs.record import (
    RECORD_NAME,
    RunRecord,
    load_record,
    locked,
    mark_killed,
    read_record,
    record_path,
    write_record,
)

# A record whose process cannot be asked (another host) counts as that of a live run for so long after its last write.
QUIET = timedelta(minutes=10)
# Further messages of one code are counted together, so that a faulty data set does not make the record unreadable.
MESSAGES_PER_CODE = 100
# Files by which a folder shows that it holds results, besides a record.
_RESULTS = ("last_checkpoint", "*.pth", "*.safetensors", "detections*.json", "genome.yaml")


class Terminated(SystemExit):
    """SIGTERM arrived. Leaves the program with the status that shells show for it, 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Run:
    """A run that is under way. Made by `Run.start`; used as a context manager, it records how the block ended:

        with Run.start("output/a", RunRecord(kind="detection", name="a")) as run:
            run.update(recipe=recipe)
            run.event("unreadable_image", "000123.jpg: cut off")
            run.finish(metrics={"bbox": numbers})

    An exception makes the run failed; Ctrl-C and SIGTERM make it killed; a block that ends without `finish` has failed.
    Among several processes only the main one (rank 0) writes; the others may call everything all the same.
    """

    def __init__(self, folder: Path, record: RunRecord, *, main_process: bool, earlier_wall_time: float = 0.0) -> None:
        self.folder = folder
        self.record = record
        self.main_process = main_process
        self._earlier_wall_time = earlier_wall_time
        self._started = time.monotonic()
        self._written = 0.0
        self._previous_handler: Any = None

    @classmethod
    def start(
        cls,
        folder: str | os.PathLike[str],
        record: RunRecord,
        *,
        resume: bool = False,
        main_process: bool | None = None,
    ) -> Run:
        """Begin a run in `folder` (made if missing) and write its first record.

        What `record` leaves open of command, versions and hardware is filled in; the process always is.
        With `resume` the run that lies in the folder goes on: its start, events, evaluations, files, the checkpoint it
        began from and the wall time so far stay, the rest is taken from `record`; an empty folder starts afresh.
        Without it a folder that holds results is refused, and the record of a run that left none is kept beside.
        main_process: whether this process writes; by default RANK (set by torchrun) decides.

        Raises UserError: the folder holds a run and `resume` is false; it holds another run than `record` tells
        of (kind, engine, network, training data, seed); a process that lives writes to it.
        """
        path = Path(folder)
        main = os.environ.get("RANK", "0") == "0" if main_process is None else main_process
        record = record.model_copy(deep=True)
        if not main:
            return cls(path, record, main_process=False)
        path.mkdir(parents=True, exist_ok=True)
        record.command = record.command or command_line()
        record.versions = record.versions or collect_versions()
        record.hardware = record.hardware or collect_hardware()
        record.process = current_process()
        with locked(path):
            earlier = _earlier_run(path)
            # What a kill left of a half-written record: nobody writes here now.
            for partial in path.glob(f".{RECORD_NAME}.*.partial"):
                partial.unlink()
            if earlier is not None and resume:
                record = _continued(earlier, record, path)
            elif not resume:
                _refuse_results(path, earlier)
                if earlier is not None:
                    _set_aside(path, earlier)
            run = cls(path, record, main_process=True, earlier_wall_time=record.wall_time_s or 0.0)
            run._write()
        return run

    def update(self, **parts: Any) -> None:
        """Set fields of the record and write it. A part replaces the earlier one whole; only `files` are added to.

        Costs a file that is flushed to the disk: call it at every log period, not at every step. Raises pydantic's
        ValidationError (a ValueError) for a field or a value that the schema does not know.
        """
        self._set(parts)
        self._write()

    def event(self, code: str, message: str, count: int = 1) -> None:
        """Note something that a reader of the numbers should know; the same code and message are counted together."""
        same_code = [event for event in self.record.events if event.code == code]
        known = next((event for event in same_code if event.message == message), None)
        if known is None and len(same_code) >= MESSAGES_PER_CODE:
            message = f"further messages of this kind, beyond the first {MESSAGES_PER_CODE}"
            known = next((event for event in same_code if event.message == message), None)
        if known is not None:
            known.count += count
            # Repetitions may come by the thousand; the next write of any kind carries the latest count.
            if time.monotonic() - self._written < 1.0:
                return
        else:
            self.record.events = [
                *self.record.events,
                Event(time=utc_now(), code=code, message=message, count=count),
            ]
        self._write()

    def finish(self, **parts: Any) -> None:
        """Set the last fields (metrics=..., time_share=..., files=...), mark the run done and write it."""
        self._set(parts)
        self.record.failure = None
        self._end("done")

    def fail(
        self,
        error: BaseException | str,
        *,
        step: int | None = None,
        loss_term: str | None = None,
        image_ids: list[int | str] | None = None,
        module: str | None = None,
        replay_file: str | None = None,
    ) -> None:
        """Mark the run failed and write it. The first reason stays: what follows from it does not replace it.

        step: counted from 1; replay_file: relative to the run's folder.
        """
        if self.record.status != "running":
            return
        self.record.failure = Failure(
            message=one_line(error),
            type=None if isinstance(error, str) else type(error).__name__,
            step=step,
            loss_term=loss_term,
            image_ids=image_ids,
            module=module,
            replay_file=replay_file,
            traceback=_traceback(error),
        )
        self._end("failed")

    def __enter__(self) -> Run:
        in_main_thread = threading.current_thread() is threading.main_thread()
        # A handler that somebody else set is theirs; without one, SIGTERM would end the process before it can tell.
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous_handler = signal.SIG_DFL
            signal.signal(signal.SIGTERM, _TerminationHandler(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
        if self.record.status != "running":
            return
        try:
            if error is None:
                self.fail("the program went on without saying how the run ended")
            elif isinstance(error, (KeyboardInterrupt, Terminated)):
                by = "SIGTERM" if isinstance(error, Terminated) else "the keyboard (Ctrl-C)"
                self.record.failure = Failure(message=f"stopped by {by}")
                self._end("killed")
            else:
                self.fail(error)
        except OSError as cannot_write:
            # A full disk is often what ended the run: the first error must reach the user, this one beside it.
            if error is None:
                raise
            print(f"the record of {self.folder} could not be written: {cannot_write}", file=sys.stderr)

    def _set(self, parts: dict[str, Any]) -> None:
        for name, value in parts.items():
            setattr(self.record, name, {**self.record.files, **value} if name == "files" else value)

    def _end(self, status: Any) -> None:
        self.record.status = status
        self.record.finished = utc_now()
        self._write()

    def _write(self) -> None:
        if not self.main_process:
            return
        record = self.record
        record.updated = utc_now()
        record.wall_time_s = round(self._earlier_wall_time + time.monotonic() - self._started, 3)
        if record.status != "running" and record.peak_memory is None:
            record.peak_memory = peak_memory()
        write_record(self.folder, record)
        self._written = time.monotonic()


class _TerminationHandler:
    """Turns SIGTERM into an exception, so that what is open is closed and the record tells of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:
            # A forked worker has inherited this handler: it ends as it would have without one.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise Terminated


def command_line() -> list[str]:
    """The words of this process's command line as typed; bytes that are no UTF-8 are written as backslash escapes."""
    return [os.fsencode(word).decode("utf-8", errors="backslashreplace") for word in sys.argv]


def one_line(error: BaseException | str) -> str:
    """The message of an error in one line; the class name where it has none."""
    text = " ".join(str(error).encode("utf-8", errors="backslashreplace").decode().split())
    return text or type(error).__name__


def _traceback(error: BaseException | str) -> str | None:
    if isinstance(error, (str, UserError)) or error.__traceback__ is None:
        return None
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return text.encode("utf-8", errors="backslashreplace").decode()


def _earlier_run(folder: Path) -> RunRecord | None:
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
    mark_killed(record)
    return record


def _refuse_results(folder: Path, earlier: RunRecord | None) -> None:
    results = sorted(path.name for pattern in _RESULTS for path in folder.glob(pattern))
    if earlier is not None and earlier.status == "done":
        raise UserError("holds a finished run", str(folder), "name another --output, or --resume to train it on")
    if results:
        status = f"a {earlier.status} run" if earlier is not None else "results of a run"
        raise UserError(
            f"holds {status} ({results[0]})", str(folder), "--resume to go on with it, or name another --output"
        )


def _set_aside(folder: Path, earlier: RunRecord) -> None:
    """Keep the record of a run that ended before it had results, under the time of its start."""
    kept = folder / f"record-{earlier.created:%Y%m%dT%H%M%SZ}.json"
    number = 1
    while kept.exists():
        number += 1
        kept = folder / f"record-{earlier.created:%Y%m%dT%H%M%SZ}-{number}.json"
    write_record(kept, earlier)


def _continued(earlier: RunRecord, record: RunRecord, folder: Path) -> RunRecord:
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


__all__ = ["Run", "Terminated", "command_line", "one_line", "read_record"]
