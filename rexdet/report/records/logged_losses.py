"""The losses that detection runs have logged while they trained."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rexdet.report.records.states import Found

_STEPS_FILE = "steps.jsonl"
_POINTS = 120


def logged_losses(runs: Iterable[tuple[str, Found]], most: int) -> list[tuple[str, list[tuple[float, float]]]]:
    """The sum of the loss terms over the steps, as means of equal stretches, of the first runs whose logs are here.

    runs: (row, run). most: of the runs. Returns (row, [(step, loss)]).
    """
    found = []
    for row, one in runs:
        if one.folder is None or not (one.folder / _STEPS_FILE).is_file():
            continue
        logged: list[tuple[float, float]] = []
        for line in (one.folder / _STEPS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            entry = _loss(line)
            if entry is not None:
                logged.append(entry)
        found.append((row, _thinned(logged)))
        if len(found) == most:
            break
    return found


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
