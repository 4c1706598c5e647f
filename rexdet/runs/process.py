"""Which process writes a run, and whether it still lives."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt

from rexdet.runs.parts import Part


class Process(Part):
    """The process that writes the record. A process id alone is used again by others, so its start time counts too."""

    pid: NonNegativeInt = Field(description="process id")
    start_ticks: NonNegativeInt | None = Field(
        default=None, description="start of the process in clock ticks since boot; null: not known here"
    )
    host: str = Field(description="host name")
    boot_id: str | None = Field(default=None, description="identity of the machine's boot; null: not known here")
    pid_namespace: str | None = Field(
        default=None,
        description="namespace in which the process id counts (containers have their own); null: not known",
    )


def current_process() -> Process:
    """The identity of this process."""
    found = _stat(os.getpid())
    return Process(
        pid=os.getpid(),
        start_ticks=found[1] if found else None,
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
    )


def liveness(process: Process) -> Literal["alive", "gone", "unknown"]:
    """Whether `process` still lives. "unknown": on another host, in another container, or the system does not tell."""
    if process.host != socket.gethostname():
        return "unknown"
    if process.boot_id is not None and process.boot_id != _boot_id():
        return "gone"
    if process.pid_namespace != _pid_namespace() or sys.platform == "win32":
        return "unknown"
    found = _stat(process.pid)
    if found is not None:
        state, start_ticks = found
        # A zombie has ended; only its parent has not asked for its status yet.
        if state in "ZX" or (process.start_ticks is not None and start_ticks != process.start_ticks):
            return "gone"
        return "alive"
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "unknown"
    # Where /proc exists, a process that answers but cannot be looked at may be another one with the same id.
    return "unknown" if process.start_ticks is not None else "alive"


def _stat(pid: int) -> tuple[str, int] | None:
    """(state letter, start time in ticks) of a process from Linux's /proc, None where it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name in parentheses may hold spaces and parentheses; the fields after it do not.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
