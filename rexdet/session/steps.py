"""The log of a training's steps."""

from __future__ import annotations

import json
from pathlib import Path

from rexdet.processes import rank


class StepLog:
    """One JSON line a step: step (from 1), learning rate, loss terms, the pictures seen. Each process has its own.

    first: the steps that are done already; what the file says beyond them (of a killed run) is done again.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.path = folder / ("steps.jsonl" if rank() == 0 else f"steps.rank{rank()}.jsonl")
        folder.mkdir(parents=True, exist_ok=True)
        kept: list[str] = []
        if self.path.exists() and first:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                # What a killed run did after its last checkpoint is done again; a line may have been cut.
                try:
                    if json.loads(line)["step"] <= first:
                        kept.append(line)
                except (ValueError, KeyError):
                    break
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, step: int, rate: float, losses: dict[str, float], images: list[int]) -> None:
        """Add the line of a step."""
        line = {"step": step, "lr": rate, "losses": losses, "image_ids": images}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
