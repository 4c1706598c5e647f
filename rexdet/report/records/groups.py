"""Sorts runs into the cells of the tables, and says which stay out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rexdet.published.protocols import DetectionProtocol
from rexdet.report.records.facts import (
    RowKey,
    Setting,
    Start,
    detection_protocol,
    detection_setting,
    fold_of,
    row_key,
    same_for_all_seeds,
    start_of,
    transfer_settings,
)
from rexdet.report.records.reading import Found
from rexdet.report.records.titles import config_mark, with_marks, with_variants
from rexdet.runs.parts import TRAINED_WORSE, Numbers
from rexdet.runs.record import RunRecord


@dataclass
class Group:
    """The runs of one network, checkpoint and setting: they differ in their seed, or in their fold of a folder.

    metric_group: of their records. start: what a detector's backbone began from; None in transfer.
    """

    row: RowKey
    setting: Setting
    metric_group: str
    runs: list[Found] = field(default_factory=list)
    start: Start | None = None

    def by_seed(self, key: str) -> dict[int, float]:
        """The number of each seed, to pair by; of a seed that ran more than once the mean: no draw counts twice.

        Of a folder that was cut into folds the number of each fold, over whatever seeds: its images differ most.
        Runs that tell no seed are paired with none. Empty where a run lacks the number: a mean over other runs than
        those that are told would mislead.
        """
        return {seed: value for seed, value in self._draws(key).items() if isinstance(seed, int)}

    def values(self, key: str) -> list[float]:
        """The number of each draw, for means: of each seed once, and of each run that tells none. Empty as above."""
        return list(self._draws(key).values())

    def _draws(self, key: str) -> dict[int | str, float]:
        values: dict[int | str, list[float]] = {}
        for place, one in enumerate(self.runs):
            value = self.numbers(one).get(key)
            if value is None:
                return {}
            draw = draw_of(one.record)
            values.setdefault(f"run {place}" if draw is None else draw, []).append(float(value))
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
        """The seeds (of a folder in folds the folds), each once."""
        return sorted({draw for one in self.runs if (draw := draw_of(one.record)) is not None})

    @property
    def source(self) -> str:
        """Where the numbers come from, in a line."""
        seeds = ", ".join(map(str, self.seeds)) or "none told"
        what = "folds" if self.is_folded else "seeds"
        return f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}, {what} {seeds}: {', '.join(self.names[:4])}"

    @property
    def is_folded(self) -> bool:
        """Whether its runs are of the folds of one folder, whose training images overlap."""
        return fold_of(self.runs[0].record) is not None

    @cached_property
    def protocols(self) -> tuple[DetectionProtocol, ...]:
        """What its detection runs followed, each once."""
        return tuple(dict.fromkeys(detection_protocol(one.record) for one in self.runs))


@dataclass
class Groups:
    """detection: by (row, setting, start). transfer: by (row, setting). searches, benchmarks: runs as they are.

    left_out: (where, why) of runs whose numbers stand in no table. Settings are marked where titles would be the same.
    """

    detection: dict[tuple[RowKey, Setting, Start], Group] = field(default_factory=dict)
    transfer: dict[tuple[RowKey, Setting], Group] = field(default_factory=dict)
    searches: list[Found] = field(default_factory=list)
    benchmarks: list[Found] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def of_row(self) -> dict[RowKey, list[Group]]:
        """The groups of each row: those of detection before those of transfer."""
        found: dict[RowKey, list[Group]] = {}
        for one in (*self.detection.values(), *self.transfer.values()):
            found.setdefault(one.row, []).append(one)
        return found

    @cached_property
    def sources(self) -> dict[RowKey, str]:
        """Where each row's checkpoint came from: the name with its tag, where any run of the row says it so."""
        found: dict[RowKey, str] = {}
        for row, groups in self.of_row.items():
            networks = [one.record.network for group in groups for one in group.runs]
            named = [network.source for network in networks if network is not None and network.source]
            found[row] = next(filter(is_tagged, named), named[0] if named else "")
        return found


def is_tagged(source: str) -> bool:
    """Whether a checkpoint's source is a name with its tag, and no file."""
    return "@" in source and "/" not in source


def draw_of(record: RunRecord) -> int | None:
    """What a run is one draw of: its fold of a folder, else its seed; None for one that tells neither."""
    fold = fold_of(record)
    return record.seed if fold is None else fold.number


def group(runs: Sequence[Found], *, with_partial: bool = False) -> Groups:
    """Sort runs into groups. with_partial: also those of a part of the data, which are no one's result."""
    groups = Groups()
    for one in runs:
        reason = why_left_out(one.record, with_partial=with_partial)
        if reason:
            groups.left_out.append((one.where, reason))
        else:
            _place(groups, one)
    return _with_titles(groups)


def why_left_out(record: RunRecord, *, with_partial: bool = False) -> str:
    """Why the numbers of a run stand in no table; "" where they do."""
    if record.status == "done" and row_key(record) is None:
        return "it names no network"
    if reason := _why_unfit(record):
        return reason
    part = "" if with_partial else _why_partial(record)
    return f"{part}; --partial shows it" if part else ""


def why_no_result(record: RunRecord) -> str:
    """Why a run is no result of its setting, whatever its network; "" where it is one."""
    return _why_unfit(record) or _why_partial(record)


def _why_unfit(record: RunRecord) -> str:
    if record.status != "done":
        return {"running": "it still runs", "failed": "it failed", "killed": "it was killed"}[record.status]
    weights = record.evaluated_weights
    if weights is not None and weights.selection == "best":
        return "its weights were chosen by the images that they are scored on; selection is by validation, or the last"
    if any(event.code == TRAINED_WORSE for event in record.events):
        return "it learnt far less than its search's run with the same hyper-parameters: something else differed"
    return ""


def _why_partial(record: RunRecord) -> str:
    splits = (("training", record.data.train), ("evaluation", record.data.val))
    limited = [name for name, split in splits if split is not None and split.limited]
    if limited:
        return f"only a part of the {limited[0]} images was used on purpose"
    if record.partial:
        return f"the numbers cover only a part ({record.partial[0]})"
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
        groups.detection.setdefault((row, setting, start), Group(row, setting, "bbox", start=start)).runs.append(one)
    elif record.kind == "transfer":
        settings = transfer_settings(record)
        if not settings:
            groups.left_out.append((one.where, "it was scored on validation images alone (a cell of a search)"))
        for name, setting in settings.items():
            groups.transfer.setdefault((row, setting), Group(row, setting, name)).runs.append(one)
    else:
        groups.benchmarks.append(one)


def _with_titles(groups: Groups) -> Groups:
    """The groups under settings that are marked where titles would be the same."""
    marked = with_marks({setting.shared for _, setting, _ in groups.detection} | {key[1] for key in groups.transfer})
    detection = {}
    for (row, setting, start), one in groups.detection.items():
        shared = marked[setting.shared]
        one.setting = replace(setting, images_mark=shared.images_mark, config_mark=shared.config_mark)
        detection[row, one.setting, start] = one
    groups.detection = {}
    for (row, setting, start), told in with_variants(detection).items():
        one = detection[row, setting, start]
        one.setting = told
        groups.detection[row, told, start] = one
    unmarked, groups.transfer = groups.transfer, {}
    configs: dict[tuple[RowKey, str], list[str]] = {}
    for (row, setting), one in unmarked.items():
        one.setting = marked[setting]
        configs.setdefault((row, one.setting.title), []).append(same_for_all_seeds(one.runs[0].record.config))
    for (row, _), one in unmarked.items():
        own, alike = same_for_all_seeds(one.runs[0].record.config), configs[row, one.setting.title]
        if len(alike) > 1:
            one.setting = replace(one.setting, choice_mark=config_mark(own, alike))
        groups.transfer[row, one.setting] = one
    return groups
