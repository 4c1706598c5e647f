"""The life of a run: start, updates, end. Each step leaves a whole record in the run's folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rexdet.errors import UserError
from rexdet.runs.begin import check_folder, make_folder, take_over
from rexdet.runs.environment import collect_hardware, collect_versions, peak_memory
from rexdet.runs.notes import Note, count_event, read_notes, remove_notes, write_note
from rexdet.runs.parts import Event, Failure, utc_now
from rexdet.runs.process import current_process
from rexdet.runs.record import RunRecord, locked, read_record, take_notes, write_record

# How long the first process waits for the word of another one that has failed, in seconds.
PATIENCE_S = 10.0


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
    Among processes that train together only the first (rank 0) writes the record. The others call the same methods;
    their events and failures reach the record through notes beside it.
    """

    def __init__(self, folder: Path, record: RunRecord, *, rank: int, earlier_wall_time: float = 0.0) -> None:
        self.folder = folder
        self.record = record
        self.rank = rank
        self._note = Note(rank=rank)
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
        rank: int | None = None,
    ) -> Run:
        """Begin a run in `folder` (made if missing) and write its first record.

        What `record` leaves open of command, versions and hardware is filled in; the process always is.
        With `resume` the run that lies in the folder goes on: its start, events, evaluations, files, the checkpoint it
        began from and the wall time so far stay, the rest is taken from `record`; an empty folder starts afresh.
        Without it a folder that holds results is refused, and the record of a run that left none is kept beside.
        rank: number of this process among those that train together; by default RANK, which torchrun sets, else 0.

        Raises UserError: the folder holds a run and `resume` is false; it holds another run than `record` tells
        of (kind, engine, network, training data, seed); a process that lives writes to it; it cannot be written to.
        """
        path = Path(folder)
        number = int(os.environ.get("RANK", "0")) if rank is None else rank
        record = record.model_copy(deep=True)
        if number:
            return cls(path, record, rank=number)
        make_folder(path)
        record.command = record.command or command_line()
        record.versions = record.versions or collect_versions()
        record.hardware = record.hardware or collect_hardware()
        record.process = current_process()
        with locked(path):
            record = take_over(path, record, resume=resume)
            run = cls(path, record, rank=0, earlier_wall_time=record.wall_time_s or 0.0)
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
        known = len(self.record.events)
        self.record.events = count_event(
            self.record.events, Event(time=utc_now(), code=code, message=message, count=count)
        )
        self._note.events = self.record.events
        # Repetitions may come by the thousand; the record's next write, of any kind, carries the latest count.
        if self.rank or len(self.record.events) > known or time.monotonic() - self._written > 1.0:
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
        elsewhere: bool = False,
    ) -> None:
        """Mark the run failed and write it. The first reason stays: what follows from it does not replace it.

        step: counted from 1; replay_file: relative to the run's folder. elsewhere: this process only stops because
        another one has failed, whose word the first process then waits for (`PATIENCE_S`), and prefers.
        """
        if self.record.status != "running":
            return
        self.record.failure = Failure(
            message=one_line(error),
            type=None if isinstance(error, str) else type(error).__name__,
            rank=self.rank,
            step=step,
            loss_term=loss_term,
            image_ids=image_ids,
            module=module,
            replay_file=replay_file,
            traceback=_traceback(error),
        )
        if not elsewhere:
            self._note.failure = self.record.failure
        elif self.rank == 0:
            self._wait_for_another()
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

    def _wait_for_another(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not any(note.failure for note in read_notes(self.folder)):
            time.sleep(0.05)

    def _end(self, status: Any) -> None:
        self.record.status = status
        self.record.finished = utc_now()
        if self.rank == 0:
            take_notes(self.record, self.folder)
        self._write()
        if self.rank == 0:
            remove_notes(self.folder)

    def _write(self) -> None:
        self._written = time.monotonic()
        if self.rank:
            # Once the run is done, the first process has taken the notes over.
            if self.record.status != "done" and (self._note.events or self._note.failure):
                write_note(self.folder, self._note)
            return
        record = self.record
        record.updated = utc_now()
        record.wall_time_s = round(self._earlier_wall_time + time.monotonic() - self._started, 3)
        if record.status != "running" and record.peak_memory is None:
            record.peak_memory = peak_memory()
        write_record(self.folder, record)


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


__all__ = ["Run", "Terminated", "check_folder", "command_line", "one_line", "read_record"]
