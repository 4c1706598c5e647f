"""Cells that the runs behind a row tell of themselves: how long, how much memory, how large a detector."""

from __future__ import annotations

from rexdet.report.records.groups import Group
from rexdet.report.tables.table import Cell
from rexdet.runs.record import RunRecord


def effort_cells(group: Group) -> dict[str, Cell]:
    """hours: mean wall time of a run, where each tells it. memory: the most that any of them held, GiB."""
    records = [one.record for one in group.runs]
    hours = [record.wall_time_s / 3600 for record in records if record.wall_time_s is not None]
    memory = [held for record in records if (held := _memory(record)) is not None]
    cells = {}
    if hours and len(hours) == len(records):
        mean = sum(hours) / len(hours)
        cells["hours"] = Cell(f"{mean:.2f}" if mean >= 0.1 else f"{mean:.4f}", mean, source=f"mean of {group.source}")
    if memory:
        cells["memory"] = Cell(f"{max(memory):.2f}", max(memory), source=f"most of {group.source}")
    return cells


def detector_cells(group: Group) -> dict[str, Cell]:
    """Parameters and multiply-accumulates, where the group's runs tell of one detector."""
    costs = [one.record.detector_complexity for one in group.runs]
    first = costs[0]
    if first is None or any(cost != first for cost in costs):
        return {}
    source = f"counted by {group.source}"
    cells = {"detector_parameters": Cell(f"{first.parameters / 1e6:.2f}", first.parameters / 1e6, source=source)}
    if first.macs is not None:
        cells["detector_macs"] = Cell(f"{first.macs / 1e9:.1f}", first.macs / 1e9, source=source)
    return cells


def _memory(record: RunRecord) -> float | None:
    peak = record.peak_memory
    held = None if peak is None else peak.accelerator or peak.host
    return None if held is None else held / 2**30
