"""How long whole commands take: processes of their own, beside which nothing is measured."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rexdet.errors import UserError


@dataclass(frozen=True)
class Taken:
    """Seconds of one process: by the clock, and of all processors together."""

    seconds: float
    processor_seconds: float


def time_in_turn(
    ways: Mapping[str, Sequence[str]], rounds: int, folder: Path, *, progress: bool = True
) -> dict[str, Taken]:
    """Run commands in turn, as often as there are rounds; the medians of each. folder: as in `time_command`."""
    found: dict[str, list[Taken]] = {what: [] for what in ways}
    for _ in tqdm(range(rounds), desc="rounds", disable=not progress):
        for what, words in ways.items():
            found[what].append(time_command(words, folder))
    return {
        what: Taken(
            statistics.median(one.seconds for one in taken), statistics.median(one.processor_seconds for one in taken)
        )
        for what, taken in found.items()
    }


def time_command(words: Sequence[str], folder: Path) -> Taken:
    """Run a command of rexdet (`summarize`, ... and its words) to its end; what it prints is thrown away.

    folder: where it keeps its compiled modules: the first call compiles them, later ones find them, as everywhere.
    Raises UserError where a system does not tell processor time, subprocess.CalledProcessError if the command fails.
    """
    try:
        import resource
    except ImportError:
        raise UserError("this system does not tell how much processor time another process took") from None
    root = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join((str(root), os.environ.get("PYTHONPATH", "")))
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "rexdet.cli", *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
