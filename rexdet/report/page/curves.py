"""The curves that runs have logged while they trained, by setting: every row's first run before further seeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rexdet.report.page.plans import whole_name
from rexdet.report.records.reading import Found
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import row_id
from rexdet.report.tables.summary import Summary

Points = Sequence[tuple[float, float]]
# The curve of a run; empty where it has none.
Reader = Callable[[Found], Points]
# (key of the row, name for people) -> its runs.
Rows = dict[tuple[str, str], list[Found]]


@dataclass(frozen=True)
class Curve:
    """row, name: whose it is, as Rows has them."""

    row: str
    name: str
    run: Found
    points: Points


def detection_runs(summary: Summary) -> dict[str, Rows]:
    """The runs of each detection setting, by its title."""
    settings: dict[str, Rows] = {}
    for (row, setting, _), group in summary.groups.detection.items():
        rows = settings.setdefault(setting.shared.title, {})
        rows.setdefault((row_id(row), entry_name(group)), []).extend(group.runs)
    return settings


def transfer_runs(summary: Summary) -> dict[str, Rows]:
    """The runs of each data set and protocol, whatever the head of a test number: its heads share one training."""
    settings: dict[str, dict[tuple[str, str], dict[int, Found]]] = {}
    for (row, setting), group in summary.groups.transfer.items():
        rows = settings.setdefault(replace(setting, what="").title, {})
        rows.setdefault((row_id(row), whole_name(group)), {}).update((id(one), one) for one in group.runs)
    return {title: {key: list(runs.values()) for key, runs in rows.items()} for title, rows in settings.items()}


def has_curves(rows: Rows, read: Reader) -> bool:
    """Whether any run has one."""
    return any(len(read(one)) > 1 for runs in rows.values() for one in runs)


def in_turn(rows: Rows, read: Reader, most: int) -> tuple[list[Curve], int]:
    """At most so many curves, one of each row in turn; and how many runs were not read for them."""
    waiting = {key: deque(runs) for key, runs in rows.items()}
    found: list[Curve] = []
    while any(waiting.values()) and len(found) < most:
        for (row, name), runs in waiting.items():
            if len(found) == most:
                break
            if curve := _next(row, name, runs, read):
                found.append(curve)
    return found, sum(map(len, waiting.values()))


def evaluated(one: Found, group: str, key: str, scale: float = 1.0) -> Points:
    """A number over the steps at which it was measured."""
    return [
        (float(entry.iteration), scale * value)
        for entry in one.record.evaluations
        if (value := entry.metrics.get(group, {}).get(key)) is not None
    ]


def _next(row: str, name: str, runs: deque[Found], read: Reader) -> Curve | None:
    """The next of the runs that has a curve; those before it are used up."""
    while runs:
        one = runs.popleft()
        points = read(one)
        if len(points) > 1:
            return Curve(row, name, one, points)
    return None
