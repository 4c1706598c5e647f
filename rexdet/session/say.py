"""What a run tells the person at the keyboard."""

from __future__ import annotations

from rexdet.processes import is_main


def say(line: str) -> None:
    """Print a line, once among all processes."""
    if is_main():
        print(line, flush=True)
