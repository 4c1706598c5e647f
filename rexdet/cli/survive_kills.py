"""Kill a transfer run at random moments, let it go on, and compare with a run that nobody killed."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rexdet.errors import UserError

HELP = "kill -9 a transfer run at random moments and compare its final table with an unbroken run's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/survive_kills.py`."""
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="how often (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--output", default="output/survive_kills", metavar="D", help="an empty folder")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- WORDS", help="of transfer/run.py")


def run(arguments: argparse.Namespace) -> int:
    """Run whole, run with kills, compare; status 1 where anything differs."""
    words = [word for word in arguments.words if word != "--"]
    output = Path(arguments.output)
    if not words or "--output" in words or "--resume" in words:
        raise UserError("no words of transfer/run.py", fix="give them behind --, without --output and --resume")
    if output.exists() and any(output.iterdir()):
        raise UserError("is not empty", str(output), "name another --output")
    begun = time.monotonic()
    process = _start(words, output / "whole")
    while process.poll() is None and not list((output / "whole").rglob("record.json")):
        time.sleep(0.05)
    start_up = time.monotonic() - begun
    if (status := process.wait()) != 0:
        raise UserError(f"the unbroken run ends with status {status}", fix="see what it printed")
    took = time.monotonic() - begun
    print(f"unbroken: {took:.0f} s, {start_up:.0f} s of them before the first record")
    # Together about as long as the whole takes, so that the kills are spread over it, now and then within a start.
    longest = start_up + 2 * (took - start_up) / (arguments.kills + 2)
    kills = _kill(words, output / "killed", arguments.kills, (start_up / 2, longest), random.Random(arguments.seed))
    if (status := _start(words, output / "killed").wait()) != 0:
        raise UserError(f"the last start ends with status {status}")
    whole, killed = (_results(output / name) for name in ("whole", "killed"))
    differing = sorted(name for name in {*whole, *killed} if whole.get(name) != killed.get(name))
    if differing:
        print(f"after {kills} kills these differ: {', '.join(differing)}")
        return 1
    print(f"after {kills} kills all {len(whole)} results are the same: the table, and every run's numbers to the digit")
    return 0


def _kill(words: list[str], folder: Path, wanted: int, between: tuple[float, float], moments: random.Random) -> int:
    """Start and kill the run `wanted` times, so many seconds after each start; returns how often it was killed.

    Fewer where it was done before.
    """
    for number in range(1, wanted + 1):
        process = _start(words, folder)
        wait = moments.uniform(*between)
        try:
            status = process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            print(f"kill {number} after {wait:.1f} s: {_progress(folder)}", flush=True)
            continue
        if status != 0:
            raise UserError(f"a start after {number - 1} kills ends with status {status}")
        print(f"the run was done after {number - 1} kills")
        return number - 1
    return wanted


def _start(words: list[str], output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rexdet.cli", "transfer", *words, "--output", str(output), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _progress(folder: Path) -> str:
    from rexdet.runs import read_record

    records = [read_record(path) for path in sorted(folder.rglob("record.json"))]
    done = sum(record.status == "done" for record in records)
    return f"{done} runs done, {len(records) - done} begun"


def _results(folder: Path) -> dict[str, Any]:
    """The final table, the choice, and each run's metrics and losses."""
    from rexdet.runs import read_record

    found: dict[str, Any] = {
        path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != "record.json"
    }
    found["table.md"] = (folder / "table.md").read_text()
    for path in folder.rglob("record.json"):
        record = read_record(path)
        found[path.parent.relative_to(folder).as_posix()] = (record.metrics, record.evaluations)
    return found
