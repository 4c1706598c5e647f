"""Tells which records are states or copies of one run, and keeps the latest of each.

What is kept hangs on what the records say, never on the order in which they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any

from rexdet.report.records.shared_copy import config_for_others, for_others
from rexdet.runs.process import Process
from rexdet.runs.record import RunRecord


@dataclass(frozen=True)
class Found:
    """One run. where: the file (and line) that holds its record. folder: of the run, None where only a record is."""

    record: RunRecord
    where: str
    folder: Path | None = None


def merge(found: Iterable[Found]) -> list[Found]:
    """Every run once, in its latest state, ordered by start and name.

    Records are of one run where kind, name, start, seed, engine, network and configuration agree, the training data
    agree where both tell of it, and where one is a state that the other came from:

    - both were written by the same process between two resumptions;
    - one of them does not tell its process (a published copy): the contents agree, or it was running and the other was
      written no earlier;
    - the later was resumed, and holds what the earlier had. Of several the one on the same machine is taken. A finished
      run of another machine is taken for it only where the later one holds its numbers.

    Two machines that started alike at the same second are two runs.
    """
    alike: dict[tuple[Any, ...], list[Found]] = {}
    for one in found:
        record = one.record
        alike.setdefault((record.kind, record.name, record.created, record.seed, record.engine), []).append(one)
    runs: list[Found] = []
    for states in alike.values():
        runs += states if len(states) == 1 else _latest_of_each(states)
    return sorted(runs, key=lambda one: (one.record.created, one.record.name, one.where))


def identity(record: RunRecord) -> str:
    """What one run keeps through all its states and copies, as a hash."""
    values = [record.kind, record.name, record.created.isoformat(), record.seed, record.engine]
    return hashlib.sha256(json.dumps([*values, *_setting(record), _training_data(record)]).encode()).hexdigest()


def _latest_of_each(alike: Sequence[Found]) -> list[Found]:
    settings: dict[str, list[Found]] = {}
    for one in alike:
        settings.setdefault(json.dumps(_setting(one.record)), []).append(one)
    return [kept for states in settings.values() for kept in _without_earlier(states)]


def _setting(record: RunRecord) -> list[Any]:
    network = record.network
    of_network = None if network is None else [*network.key, json.dumps(network.overrides, sort_keys=True)]
    return [config_for_others(record.config), of_network]


def _training_data(record: RunRecord) -> str | None:
    return None if record.data.train is None else record.data.train.fingerprint


def _without_earlier(states: Sequence[Found]) -> list[Found]:
    ordered = sorted(states, key=cmp_to_key(_compare), reverse=True)
    starts = _without_copies(ordered)
    gone_on_with = {id(earlier) for late in starts for earlier in _came_from(late, starts)}
    return [one for one in starts if id(one) not in gone_on_with]


def _without_copies(ordered: Sequence[Found]) -> list[Found]:
    """The last state of each start of each run. ordered: the latest first."""
    kept: dict[int, Found] = {}
    # Where every record tells its process nobody asks for the copies, which take longer than all the rest.
    has_copies = any(one.record.process is None for one in ordered)
    contents = [for_others(one.record) if has_copies else one.record for one in ordered]
    led_to: dict[int, Process] = {}
    for place, one in enumerate(ordered):
        process = one.record.process
        is_known = False
        for late, content in zip(ordered[:place], contents, strict=False):
            if late.record.resumed_at != one.record.resumed_at or not _may_be_one_run(late.record, one.record):
                continue
            if late.record.process is not None and process is not None:
                is_known = late.record.process == process
            elif content == contents[place]:
                is_known = True
            elif id(late) in kept and _was_running(one.record, late.record):
                # A copy tells no process: where several led to it, it is the last state of one of them alone.
                is_known = process is None or led_to.setdefault(id(late), process) == process
            if is_known:
                break
        if not is_known:
            kept[id(one)] = one
    return list(kept.values())


def _was_running(early: RunRecord, late: RunRecord) -> bool:
    return early.status == "running" and early.updated <= late.updated and _holds(late, early)


def _came_from(late: Found, starts: Sequence[Found]) -> list[Found]:
    """The earlier state that a resumed run went on with: one, or none where that cannot be told."""
    found = [one for one in starts if _goes_on(late.record, one.record)]
    if not found:
        return []
    deepest = max(len(one.record.resumed_at) for one in found)
    found = [one for one in found if len(one.record.resumed_at) == deepest]
    nearest = max(_nearness(late.record, one.record) for one in found)
    found = [one for one in found if _nearness(late.record, one.record) == nearest]
    unfinished = [one for one in found if one.record.status != "done"]
    # Of two results that might be its earlier state either may be another run's: none is lost.
    return unfinished[:1] if unfinished else found if len(found) == 1 else []


def _goes_on(late: RunRecord, early: RunRecord) -> bool:
    """Whether nothing speaks against it that `late` is a resumption of `early`."""
    times = len(early.resumed_at)
    if times >= len(late.resumed_at) or late.resumed_at[:times] != early.resumed_at or not _may_be_one_run(late, early):
        return False
    if not _holds(late, early):
        return False
    is_same_machine = _host(early) is not None and _host(early) == _host(late)
    is_other_machine = not is_same_machine and None not in (_host(early), _host(late))
    is_done = early.status == "done"
    # Clocks of two machines may differ; a result is not given up for that.
    if (is_same_machine or is_done) and early.updated > late.resumed_at[times]:
        return False
    return not (is_other_machine and is_done) or early.metrics == late.metrics or bool(early.evaluations)


def _holds(late: RunRecord, early: RunRecord) -> bool:
    """Whether a record holds what it would have kept of an earlier state: evaluations stay, and the time adds up."""
    if early.evaluations and early.evaluations[:1] != late.evaluations[:1]:
        return False
    return early.wall_time_s is None or late.wall_time_s is None or early.wall_time_s <= late.wall_time_s


def _nearness(late: RunRecord, early: RunRecord) -> tuple[bool, ...]:
    host = _host(early)
    return (early.process is not None and early.process == late.process, host == _host(late), host is None)


def _may_be_one_run(one: RunRecord, other: RunRecord) -> bool:
    mine, theirs = _training_data(one), _training_data(other)
    return mine is None or theirs is None or mine == theirs


def _host(record: RunRecord) -> str | None:
    return None if record.process is None else record.process.host


def _compare(one: Found, other: Found) -> int:
    """Below 0 where the first is the earlier state; of equal states the one that tells more counts as the later."""
    mine, theirs = _lateness(one), _lateness(other)
    if mine == theirs and one.record != other.record:
        mine, theirs = (one.record.model_dump_json(),), (other.record.model_dump_json(),)
    elif mine == theirs:
        mine, theirs = (other.where,), (one.where,)
    return (mine > theirs) - (mine < theirs)


def _lateness(one: Found) -> tuple[Any, ...]:
    record = one.record
    tells = (one.folder is not None, record.process is not None, record.hardware is not None)
    return (len(record.resumed_at), record.status != "running", record.updated, *tells)
