"""Sorts runs into the cells of the tables, and says which stay out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rexdet.report.facts import RowKey, Setting, Start, detection_setting, row_key, start_of, transfer_settings
from rexdet.report.reading import Found
from rexdet.runs.parts import Numbers
from rexdet.runs.record import RunRecord


@dataclass
class Group:
    """The runs of one network, checkpoint and setting: they differ in their seed. metric_group: of their records."""

    row: RowKey
    setting: Setting
    metric_group: str
    runs: list[Found] = field(default_factory=list)

    def by_seed(self, key: str) -> dict[object, float]:
        """The number of each seed; of a seed that ran more than once the mean, so that no draw counts twice.

        Empty where a run lacks the number: a mean over other runs than those that are told would mislead.
        """
        values: dict[object, list[float]] = {}
        for place, one in enumerate(self.runs):
            value = self.numbers(one).get(key)
            if value is None:
                return {}
            seed = one.record.seed
            values.setdefault(f"run {place}" if seed is None else seed, []).append(float(value))
        return {seed: sum(found) / len(found) for seed, found in values.items()}

    def numbers(self, one: Found) -> Numbers:
        """The numbers of a run."""
        return one.record.metrics.get(self.metric_group, {})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the runs, for what is told of a cell."""
        return tuple(one.record.name for one in self.runs)

    @property
    def seeds(self) -> list[int]:
        """The seeds, each once."""
        return sorted({one.record.seed for one in self.runs if one.record.seed is not None})

    @property
    def source(self) -> str:
        """Where the numbers come from, in a line."""
        seeds = ", ".join(map(str, self.seeds)) or "none told"
        return f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}, seeds {seeds}: {', '.join(self.names[:4])}"


@dataclass
class Groups:
    """detection: by (row, setting, start). transfer: by (row, setting). searches, benchmarks: runs as they are.

    left_out: (where, why) of runs whose numbers stand in no table.
    """

    detection: dict[tuple[RowKey, Setting, Start], Group] = field(default_factory=dict)
    transfer: dict[tuple[RowKey, Setting], Group] = field(default_factory=dict)
    searches: list[Found] = field(default_factory=list)
    benchmarks: list[Found] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def group(runs: Sequence[Found], *, with_partial: bool = False) -> Groups:
    """Sort runs into groups. with_partial: also those of a part of the data, which are no one's result."""
    groups = Groups()
    for one in runs:
        reason = why_left_out(one.record, with_partial=with_partial)
        if reason:
            groups.left_out.append((one.where, reason))
        else:
            _place(groups, one)
    return groups


def why_left_out(record: RunRecord, *, with_partial: bool = False) -> str:
    """Why the numbers of a run stand in no table; "" where they do."""
    if record.status != "done":
        return {"running": "it still runs", "failed": "it failed", "killed": "it was killed"}[record.status]
    if row_key(record) is None:
        return "it names no network"
    weights = record.evaluated_weights
    if weights is not None and weights.selection == "best":
        return "its weights were chosen by the images that they are scored on; selection is by validation, or the last"
    if with_partial:
        return ""
    splits = (("training", record.data.train), ("evaluation", record.data.val))
    limited = [name for name, split in splits if split is not None and split.limited]
    if limited:
        return f"only a part of the {limited[0]} images was used on purpose; --partial shows it"
    if record.partial:
        return f"the numbers cover only a part ({record.partial[0]}); --partial shows it"
    return ""


def _place(groups: Groups, one: Found) -> None:
    record = one.record
    row = row_key(record)
    assert row is not None
    if record.kind == "search":
        groups.searches.append(one)
    elif record.kind == "detection":
        if "bbox" not in record.metrics:
            groups.left_out.append((one.where, "it was not evaluated"))
            return
        setting, start = detection_setting(record), start_of(record)
        groups.detection.setdefault((row, setting, start), Group(row, setting, "bbox")).runs.append(one)
    elif record.kind == "transfer":
        settings = transfer_settings(record)
        if not settings:
            groups.left_out.append((one.where, "it was scored on validation images alone (a cell of a search)"))
        for name, setting in settings.items():
            groups.transfer.setdefault((row, setting), Group(row, setting, name)).runs.append(one)
    else:
        groups.benchmarks.append(one)
