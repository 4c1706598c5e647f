"""Records that are states or copies of one run: none is lost, none counts twice, in whatever order they are read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from rexdet.report.records.reading import Found, merge, publish, read
from rexdet.report.records.shared_copy import for_others
from rexdet.runs import RunRecord
from rexdet.runs.process import Process

HOSTS = ("first", "second", "third")


def process(host: str, pid: int = 1) -> Process:
    return Process(pid=pid, start_ticks=10 * pid, host=host, boot_id=host)


def orders(states: Sequence[Any], most: int = 120) -> Iterator[Sequence[Any]]:
    """Every order of a few states, some orders of many."""
    if len(states) <= 5:
        yield from permutations(states)
        return
    shuffled = random.Random(0)
    for _ in range(most):
        yield shuffled.sample(states, len(states))


def kept(states: Sequence[RunRecord]) -> list[RunRecord]:
    """What is kept of some states, which must be the same in every order."""
    answers = {
        tuple(
            sorted(
                one.record.model_dump_json()
                for one in merge(Found(state, str(place)) for place, state in enumerate(order))
            )
        )
        for order in orders(states)
    }
    assert len(answers) == 1
    return [RunRecord.model_validate_json(text) for text in answers.pop()]


def top1s(records: Sequence[RunRecord]) -> list[Any]:
    return sorted(record.metrics.get("test", {}).get("top1", 0.0) for record in records)


def after(record: RunRecord, seconds: float) -> Any:
    return record.created + timedelta(seconds=seconds)


def test_without_a_process_status_and_time_tell_the_later_state(transfer) -> None:
    early = transfer(status="running", metrics={})
    late = transfer(0.9, updated=after(early, 500))
    assert top1s(kept([early, late])) == [0.9]
    # What ran on after the other had ended is another run.
    assert len(kept([early.model_copy(update={"updated": after(early, 900)}), late])) == 2


def test_a_published_copy_and_the_run_gone_on_with_are_one(transfer) -> None:
    done = transfer(0.9, process=process("first"))
    resumed = transfer(0.95, process=process("first", 2), resumed_at=[after(done, 200)], updated=after(done, 300))
    assert top1s(kept([for_others(done), resumed])) == [0.95]
    assert top1s(kept([for_others(done), done, resumed, for_others(resumed)])) == [0.95]


def test_of_two_machines_that_started_alike_the_resumed_one_takes_its_own_state(transfer) -> None:
    killed = transfer(0.1, process=process("first"), status="killed")
    other = transfer(0.8, process=process("second"), updated=after(killed, 100))
    resumed = transfer(0.9, process=process("first", 2), resumed_at=[after(killed, 50)], updated=after(killed, 90))
    assert top1s(kept([killed, other, resumed])) == [0.8, 0.9]
    assert top1s(kept([other, resumed])) == [0.8, 0.9]
    # Also where the other machine had ended before: no result is taken for an earlier state of another one.
    ended = transfer(0.8, process=process("second"), updated=after(killed, 40), evaluations=[])
    assert top1s(kept([ended, resumed])) == [0.8, 0.9]
    assert top1s(kept([killed, ended, resumed])) == [0.8, 0.9]


def test_a_run_that_another_machine_went_on_with_is_one(transfer) -> None:
    killed = transfer(0.1, process=process("first"), status="killed", updated=transfer().created + timedelta(hours=9))
    resumed = transfer(0.9, process=process("second"), resumed_at=[after(killed, 50)])
    # Whatever the clock of the other machine says.
    assert top1s(kept([killed, resumed])) == [0.9]
    done = transfer(0.9, process=process("first"), evaluations=[])
    assert len(kept([done, transfer(0.9, process=process("second"), resumed_at=[after(done, 50)])])) == 1


def test_a_state_that_ended_and_one_that_runs_at_the_same_second(transfer) -> None:
    killed, running = (
        transfer(process=process("first"), status=status, metrics={}) for status in ("killed", "running")
    )
    (record,) = kept([killed, running])
    assert record.status == "killed"


def test_what_a_resumed_run_must_have_kept_tells_runs_apart(transfer) -> None:
    def evaluated(loss: float) -> list[dict[str, Any]]:
        return [{"iteration": 1, "holds": "raw", "metrics": {"train": {"loss": loss}}}]

    early = transfer(0.1, status="killed", evaluations=evaluated(1.0))
    late = transfer(0.9, resumed_at=[after(early, 50)], evaluations=evaluated(2.0))
    assert len(kept([early, late])) == 2
    assert len(kept([early, late.model_copy(update={"evaluations": early.evaluations})])) == 1
    assert (
        len(
            kept(
                [
                    early.model_copy(update={"wall_time_s": 9.0}),
                    early.model_copy(update={"wall_time_s": 5.0, "resumed_at": [after(early, 50)]}),
                ]
            )
        )
        == 2
    )


class Machine:
    """Makes up a run's whole life on one machine or several, with numbers that no other run has."""

    def __init__(self, transfer: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.transfer = transfer

    def states(self, number: int) -> list[RunRecord]:
        """The states of one run, each after the other; all runs start alike."""
        host, second, starts = HOSTS[number], 0, self.random.randint(1, 3)
        resumed: list[Any] = []
        states: list[RunRecord] = []
        for start in range(starts):
            who = process(host, 10 * number + start)
            statuses = ["running"] * self.random.randint(1, 2) + ["killed" if start < starts - 1 else "done"]
            for status in statuses:
                second += self.random.randint(1, 50)
                states.append(self._state(number, status, who, second, resumed))
            second += self.random.randint(1, 50)
            resumed = [*resumed, self.transfer().created + timedelta(seconds=second)]
        return states

    def _state(self, number: int, status: str, who: Process, second: int, resumed: list[Any]) -> RunRecord:
        created = self.transfer().created
        loss = {"iteration": 1, "holds": "raw", "metrics": {"train": {"loss": 1.0 + number}}}
        return self.transfer(
            0.5 + 0.1 * number + 0.0001 * second,
            status=status,
            process=who,
            updated=created + timedelta(seconds=second),
            resumed_at=list(resumed),
            wall_time_s=float(second),
            evaluations=[loss],
            versions={"rexdet": "0.1.0"},
        )


@pytest.mark.parametrize("seed", range(40))
def test_every_run_is_kept_once_in_its_latest_state(transfer, seed) -> None:
    machine = Machine(transfer, seed)
    runs = [machine.states(number) for number in range(machine.random.randint(1, 3))]
    states: list[RunRecord] = []
    latest: list[RunRecord] = []
    for run in runs:
        # A ledger here, a folder there: some of the states were seen, the last among them.
        seen = [state for state in run[:-1] if machine.random.random() < 0.5] + [run[-1]]
        published = [for_others(state) for state in seen if state.status == "done" and machine.random.random() < 0.7]
        states += [*seen, *published, *machine.random.choices(seen, k=2)]
        latest.append(run[-1])
    found = kept(states)
    assert top1s(found) == top1s(latest)
    assert all(record.process is not None for record in found)


@pytest.mark.parametrize("seed", range(20))
def test_merging_what_was_merged_changes_nothing(transfer, seed) -> None:
    machine = Machine(transfer, seed)
    states = [state for number in range(3) for state in machine.states(number)]
    parts: list[list[Found]] = [[], []]
    for place, state in enumerate(states):
        parts[machine.random.randint(0, 1)].append(Found(state, str(place)))
    whole = [one.record for one in merge([*parts[0], *parts[1]])]
    assert top1s([one.record for one in merge([*merge(parts[0]), *merge(parts[1])])]) == top1s(whole)
    assert top1s([one.record for one in merge(merge([*parts[0], *parts[1]]))]) == top1s(whole)


def test_published_runs_that_began_alike_have_files_of_their_own(transfer, tmp_path) -> None:
    runs = [Found(transfer(0.9 - 0.1 * place, process=process(host)), host) for place, host in enumerate(HOSTS)]
    assert publish(runs, tmp_path) == 3
    assert top1s([one.record for one in read([tmp_path]).runs]) == pytest.approx([0.7, 0.8, 0.9])
    names = sorted(path.name for path in (tmp_path / "records").iterdir())
    # Again, in another order, one alone: the same files.
    assert publish(runs[::-1], tmp_path) == 3
    assert publish(runs[1:2], tmp_path) == 1
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == names
    assert top1s([one.record for one in read([tmp_path]).runs]) == pytest.approx([0.7, 0.8, 0.9])


def test_a_published_run_that_went_on_is_written_anew_and_never_backwards(transfer, tmp_path) -> None:
    early = transfer(0.8, process=process("first"))
    late = transfer(0.9, process=process("first", 2), resumed_at=[after(early, 60)], updated=after(early, 90))
    for states in ([early], [late], [early]):
        publish([Found(state, "x") for state in states], tmp_path)
    (record,) = [one.record for one in read([tmp_path]).runs]
    assert record.metrics["test"]["top1"] == 0.9


def test_what_stands_in_the_way_of_a_published_record_stays(transfer, tmp_path) -> None:
    publish([Found(transfer(0.8), "x")], tmp_path)
    (path,) = (tmp_path / "records").iterdir()
    path.write_text("notes of mine")
    publish([Found(transfer(0.8), "x")], tmp_path)
    assert path.read_text() == "notes of mine"
    assert len(list((tmp_path / "records").iterdir())) == 2


def test_a_long_name_is_published_under_its_beginning(transfer, tmp_path) -> None:
    assert publish([Found(transfer(0.8, name="x" * 1000), "x")], tmp_path) == 1
    assert read([tmp_path]).runs[0].record.name == "x" * 1000
