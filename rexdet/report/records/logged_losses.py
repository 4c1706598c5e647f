"""The losses that a detection run has logged while it trained."""

from __future__ import annotations

import json

from rexdet.report.records.states import Found

_STEPS_FILE = "steps.jsonl"
_POINTS = 120


def logged_losses(one: Found) -> list[tuple[float, float]]:
    """The summed loss terms over the steps, as means of equal stretches: (step, loss); none where no log is here."""
    if one.folder is None or not (one.folder / _STEPS_FILE).is_file():
        return []
    lines = (one.folder / _STEPS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    return _thinned([entry for line in lines if (entry := _loss(line)) is not None])


def _loss(line: str) -> tuple[float, float] | None:
    try:
        values = json.loads(line)
        return float(values["step"]), float(sum(values["losses"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        # The last line of a run that was killed may be cut.
        return None


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, -(-len(points) // _POINTS))
    parts = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]
