"""The life of a run: what the folder holds after each way in which a run can begin and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.runs import (
    COCO_KEYS,
    Data,
    DataSplit,
    Network,
    Recipe,
    Run,
    RunRecord,
    check_folder,
    read_record,
    write_record,
)
from rexdet.runs.notes import MESSAGES_PER_CODE, read_notes
from rexdet.runs.process import current_process, liveness

BBOX: dict[str, float | None] = dict.fromkeys(COCO_KEYS, 0.5)

# Starts a run in the folder it is given, says so, and waits for a line before it finishes.
RUNNER = """
import sys
from rexdet.errors import UserError
from rexdet.runs import Run, RunRecord
try:
    run = Run.start(sys.argv[1], RunRecord(kind="detection", name=sys.argv[2]), resume="resume" in sys.argv)
except UserError as error:
    print("refused:", error, flush=True)
    sys.exit(2)
with run:
    run.event("started", "the run has started")
    print("running", flush=True)
    sys.stdin.readline()
    run.finish()
"""


def new(name: str = "a", **fields: Any) -> RunRecord:
    return RunRecord(kind="detection", name=name, **fields)


def told(process: Any) -> str:
    """The next line that a program prints; its errors if it printed none."""
    line = process.stdout.readline()
    return line.strip() if line else process.stderr.read()


def test_a_run_that_finishes(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with Run.start(folder, new()) as run:
        running = read_record(folder)
        assert running.status == "running"
        assert running.finished is None
        run.update(seed=4, recipe=Recipe(iterations=6))
        assert read_record(folder).seed == 4
        run.finish(metrics={"bbox": BBOX}, files={"weights": "model_final.pth"})
    record = read_record(folder)
    assert record.status == "done"
    assert record.metrics == {"bbox": BBOX}
    assert record.recipe == Recipe(iterations=6)
    assert record.finished is not None
    assert record.finished >= record.created
    assert record.wall_time_s is not None
    assert record.process == current_process()
    assert record.versions["pydantic"]
    assert record.hardware is not None
    assert record.command
    assert record.peak_memory is not None
    assert record.peak_memory.host is None or record.peak_memory.host > 1_000_000
    assert os.listdir(folder) == ["record.json"]


def test_an_error_is_recorded_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Run.start(tmp_path, new()):
        _ = 1 / 0
    record = read_record(tmp_path)
    assert record.status == "failed"
    assert record.failure is not None
    assert record.failure.type == "ZeroDivisionError"
    assert record.failure.message == "division by zero"
    assert "_ = 1 / 0" in (record.failure.traceback or "")


def test_a_mistake_of_the_user_is_recorded_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(UserError), Run.start(tmp_path, new()):
        raise UserError("no such file", "a.json", "name another")
    failure = read_record(tmp_path).failure
    assert failure is not None
    assert failure.message == "a.json: no such file; name another"
    assert failure.traceback is None


def test_the_first_reason_of_a_failure_stays(tmp_path: Path) -> None:
    def train() -> None:
        with Run.start(tmp_path, new()) as run:
            error = FloatingPointError("loss_cls is nan")
            run.fail(
                error, step=3, loss_term="loss_cls", image_ids=[7, 9], module="backbone.stem", replay_file="bad.pth"
            )
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        train()
    failure = read_record(tmp_path).failure
    assert failure is not None
    assert (failure.type, failure.step, failure.loss_term) == ("FloatingPointError", 3, "loss_cls")
    assert (failure.image_ids, failure.module, failure.replay_file) == ([7, 9], "backbone.stem", "bad.pth")


def test_a_block_that_ends_without_a_word_has_failed(tmp_path: Path) -> None:
    with Run.start(tmp_path, new()):
        pass
    assert read_record(tmp_path).status == "failed"


def test_ctrl_c_is_recorded_as_killed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path, new()):
        raise KeyboardInterrupt
    record = read_record(tmp_path)
    assert record.status == "killed"
    assert record.failure is not None
    assert "Ctrl-C" in record.failure.message


def test_a_full_disk_does_not_hide_what_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    def train() -> None:
        with Run.start(tmp_path, new()):
            monkeypatch.setattr("rexdet.runs.run.write_record", full)
            raise ValueError("the first reason")

    with pytest.raises(ValueError, match="the first reason"):
        train()
    assert "No space left on device" in capsys.readouterr().err


def test_an_unknown_field_or_value_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    run = Run.start(tmp_path, new())
    before = (tmp_path / "record.json").read_bytes()
    with pytest.raises(ValueError, match="colour"):
        run.update(colour="red")
    with pytest.raises(ValidationError):
        run.update(seed="three")
    assert (tmp_path / "record.json").read_bytes() == before
    run.finish()


def test_the_caller_s_record_is_not_changed(tmp_path: Path) -> None:
    record = new()
    Run.start(tmp_path, record).finish()
    assert record.status == "running"
    assert record.process is None


def test_events_of_the_same_message_are_counted_together(tmp_path: Path) -> None:
    with Run.start(tmp_path, new()) as run:
        for _ in range(50):
            run.event("unreadable_image", "a.jpg: cut off")
        run.event("unreadable_image", "b.jpg: empty", count=2)
        run.event("checkpoint_fallback", "b.jpg: empty")
        run.finish()
    events = [(event.code, event.message, event.count) for event in read_record(tmp_path).events]
    assert events == [
        ("unreadable_image", "a.jpg: cut off", 50),
        ("unreadable_image", "b.jpg: empty", 2),
        ("checkpoint_fallback", "b.jpg: empty", 1),
    ]


def test_a_flood_of_messages_stays_readable_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(tmp_path, new())
    monkeypatch.setattr("rexdet.runs.run.write_record", lambda folder, record: None)
    for number in range(3 * MESSAGES_PER_CODE):
        run.event("unreadable_image", f"{number}.jpg: cut off")
    monkeypatch.undo()
    run.finish()
    events = read_record(tmp_path).events
    assert len(events) == MESSAGES_PER_CODE + 1
    assert sum(event.count for event in events) == 3 * MESSAGES_PER_CODE


@pytest.mark.parametrize("status", ["done", "failed", "killed"])
def test_a_folder_with_results_is_refused_and_left_as_it_is(tmp_path: Path, status: str) -> None:
    write_record(tmp_path, new(status=status))
    (tmp_path / "model_0000002.pth").write_bytes(b"weights")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="--resume"):
        Run.start(tmp_path, new())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_finished_run_without_further_files_is_refused(tmp_path: Path) -> None:
    Run.start(tmp_path, new()).finish()
    with pytest.raises(UserError, match="holds a finished run"):
        Run.start(tmp_path, new())


def test_results_without_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    with pytest.raises(UserError, match=r"results of a run \(last_checkpoint\)"):
        Run.start(tmp_path, new())
    Run.start(tmp_path, new(), resume=True).finish()
    assert read_record(tmp_path).status == "done"


def test_a_broken_record_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{")
    for resume in (False, True):
        with pytest.raises(UserError, match="not JSON"):
            Run.start(tmp_path, new(), resume=resume)
    assert (tmp_path / "record.json").read_text() == "{"


def test_a_run_that_left_no_results_can_be_started_again_and_its_record_is_kept(tmp_path: Path) -> None:
    for number in range(3):
        with pytest.raises(UserError), Run.start(tmp_path, new(seed=number)):
            raise UserError("a typing mistake")
    Run.start(tmp_path, new(seed=3)).finish()
    assert read_record(tmp_path).seed == 3
    kept = [json.loads(path.read_text())["seed"] for path in tmp_path.glob("record-*.json")]
    assert sorted(kept) == [0, 1, 2]


def test_resume_goes_on_with_the_same_run(tmp_path: Path) -> None:
    first = new(
        seed=5,
        config="SOLVER: 4",
        engine="detectron2",
        network=Network(name="rexnet_1.0", sha256="a" * 64, source="rexnet_1.0@nav_in1k"),
        data=Data(train=DataSplit(path="a.json", fingerprint="b" * 64)),
        recipe=Recipe(iterations=4),
    )
    run = Run.start(tmp_path, first)
    run.event("unreadable_image", "a.jpg: cut off")
    run.finish(metrics={"bbox": BBOX}, files={"weights": "model_final.pth"}, wall_time_s=1.0)
    stored = read_record(tmp_path)
    stored.wall_time_s = 100.0
    write_record(tmp_path, stored)

    again = new(
        engine="detectron2", network=Network(name="rexnet_1.0"), recipe=Recipe(iterations=8), config="SOLVER: 8"
    )
    run = Run.start(tmp_path, again, resume=True)
    record = read_record(tmp_path)
    assert record.status == "running"
    assert record.created == stored.created
    assert len(record.resumed_at) == 1
    assert record.seed == 5
    assert record.config == "SOLVER: 8"
    assert record.recipe == Recipe(iterations=8)
    assert record.network == first.network
    assert record.data == first.data
    assert record.metrics == {}
    assert record.finished is None
    assert [event.code for event in record.events] == ["unreadable_image"]
    run.finish(files={"detections": "detections.json"})
    record = read_record(tmp_path)
    assert record.wall_time_s is not None
    assert 100.0 <= record.wall_time_s < 160.0
    assert record.files == {"weights": "model_final.pth", "detections": "detections.json"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "transfer"}, "a run with kind detection, not transfer"),
        ({"engine": "mmdet"}, "engine detectron2, not mmdet"),
        ({"network": Network(name="rexnet_1.3")}, "network rexnet_1.0, not rexnet_1.3"),
        ({"network": Network(name="rexnet_1.0", overrides={"lite": True})}, "not rexnet_1.0 lite=True"),
        ({"seed": 6}, "seed 5, not 6"),
        ({"data": Data(train=DataSplit(fingerprint="c" * 64))}, "training data of fingerprint b"),
    ],
)
def test_resume_refuses_another_run(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    fields: dict[str, Any] = {
        "kind": "detection",
        "name": "a",
        "engine": "detectron2",
        "seed": 5,
        "network": Network(name="rexnet_1.0"),
        "data": Data(train=DataSplit(fingerprint="b" * 64)),
    }
    Run.start(tmp_path, RunRecord(**fields)).finish()
    before = (tmp_path / "record.json").read_bytes()
    with pytest.raises(UserError, match=expected):
        Run.start(tmp_path, RunRecord(**{**fields, **change}), resume=True)
    assert (tmp_path / "record.json").read_bytes() == before


def test_resume_in_an_empty_folder_starts_afresh(tmp_path: Path) -> None:
    Run.start(tmp_path / "a", new(), resume=True).finish()
    assert read_record(tmp_path / "a").resumed_at == []


def test_only_the_first_process_writes_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with Run.start(tmp_path / "a", new()) as run:
        run.update(seed=1)
        run.finish(metrics={"bbox": BBOX})
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv("RANK", "0")
    Run.start(tmp_path / "a", new()).finish()
    assert read_record(tmp_path / "a").status == "done"


def test_a_process_killed_hard_leaves_a_run_that_reads_as_killed(tmp_path: Path, program: Any) -> None:
    process = program(RUNNER, tmp_path, "a")
    assert told(process) == "running"
    assert read_record(tmp_path).status == "running"
    with pytest.raises(UserError, match=f"process {process.pid} on .* is still writing this run"):
        Run.start(tmp_path, new(), resume=True)
    process.kill()
    # Not yet waited for: it is a zombie, which is as gone as gone can be.
    deadline = time.monotonic() + 5
    while read_record(tmp_path).status == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    stored = json.loads((tmp_path / "record.json").read_text())
    assert stored["status"] == "killed"
    assert str(process.pid) in stored["failure"]["message"]
    assert [event["code"] for event in stored["events"]] == ["started"]
    process.wait()
    Run.start(tmp_path, new(), resume=True).finish()
    record = read_record(tmp_path)
    assert (record.status, record.failure, len(record.resumed_at)) == ("done", None, 1)


def test_sigterm_is_recorded_as_killed(tmp_path: Path, program: Any) -> None:
    process = program(RUNNER, tmp_path, "a")
    assert told(process) == "running"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    stored = json.loads((tmp_path / "record.json").read_text())
    assert (stored["status"], stored["failure"]["message"]) == ("killed", "stopped by SIGTERM")


def test_sigterm_to_a_forked_worker_does_not_end_the_run(tmp_path: Path, program: Any) -> None:
    code = """
import os, signal, sys, time
from rexdet.runs import Run, RunRecord
with Run.start(sys.argv[1], RunRecord(kind="detection", name="a")) as run:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        time.sleep(9)
        os._exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) == signal.SIGTERM, flush=True)
    run.finish()
"""
    process = program(code, tmp_path)
    assert told(process) == "True"
    assert process.wait(timeout=10) == 0
    assert read_record(tmp_path).status == "done"


def test_a_signal_handler_of_somebody_else_stays(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        theirs = signal.getsignal(signal.SIGTERM)
        with Run.start(tmp_path, new()) as run:
            assert signal.getsignal(signal.SIGTERM) is theirs
            run.finish()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_of_processes_that_start_at_once_one_gets_the_folder(tmp_path: Path, program: Any) -> None:
    processes = [program(RUNNER, tmp_path, name) for name in "abcd"]
    answers = [told(process) for process in processes]
    assert sorted(answer.split()[0].rstrip(":") for answer in answers) == ["refused", "refused", "refused", "running"]
    winner = next(process for process, answer in zip(processes, answers, strict=True) if answer == "running")
    assert read_record(tmp_path).name == "abcd"[processes.index(winner)]
    winner.stdin.write("\n")
    winner.stdin.close()
    assert winner.wait(timeout=10) == 0
    assert read_record(tmp_path).status == "done"


def test_a_record_is_whole_whenever_it_is_read_and_whenever_its_writer_dies(tmp_path: Path, program: Any) -> None:
    code = """
import sys
from rexdet.runs import Run, RunRecord
run = Run.start(sys.argv[1], RunRecord(kind="detection", name="a", config="x" * 200_000), resume=True)
print("running", flush=True)
step = 0
while True:
    step += 1
    run.update(seed=step)
"""
    for round_number in range(3):
        process = program(code, tmp_path)
        assert told(process) == "running"
        seen = set()
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            record = read_record(tmp_path)
            assert record.status == "running"
            seen.add(record.seed)
        assert len(seen) > 1
        process.kill()
        process.wait()
        assert read_record(tmp_path).status == "killed"
        assert len(read_record(tmp_path).resumed_at) == round_number
        stored = read_record(tmp_path)
        stored.seed = None
        write_record(tmp_path, stored)
    Run.start(tmp_path, new(), resume=True).finish()
    assert os.listdir(tmp_path) == ["record.json"]


def _running_with(folder: Path, **process: Any) -> None:
    identity = current_process().model_copy(update=process)
    write_record(folder, new(process=identity))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process start times come from /proc")


@needs_proc
def test_a_process_id_used_again_by_another_process_counts_as_gone(tmp_path: Path) -> None:
    _running_with(tmp_path, start_ticks=1)
    assert read_record(tmp_path).status == "killed"


@needs_proc
def test_a_process_before_the_last_boot_counts_as_gone(tmp_path: Path) -> None:
    _running_with(tmp_path, boot_id="another boot")
    assert read_record(tmp_path).status == "killed"


@pytest.mark.parametrize("where", [{"host": "another-host"}, {"pid_namespace": "pid:[1]"}])
def test_a_process_elsewhere_is_left_as_it_is(tmp_path: Path, where: dict[str, str]) -> None:
    _running_with(tmp_path, pid=2**22 + 1, **where)
    before = (tmp_path / "record.json").read_bytes()
    assert read_record(tmp_path).status == "running"
    assert (tmp_path / "record.json").read_bytes() == before


def test_a_run_of_another_host_can_be_resumed_once_it_has_been_quiet(tmp_path: Path) -> None:
    _running_with(tmp_path, host="another-host")
    with pytest.raises(UserError, match=r"another-host wrote to this run at .* may still live"):
        Run.start(tmp_path, new(), resume=True)
    record = read_record(tmp_path)
    record.updated -= timedelta(minutes=11)
    write_record(tmp_path, record)
    Run.start(tmp_path, new(), resume=True).finish()
    assert read_record(tmp_path).status == "done"


def test_a_record_that_cannot_be_written_to_still_reads_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _running_with(tmp_path, start_ticks=1, boot_id="another boot")

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rexdet.runs.record.write_record", refuse)
    assert read_record(tmp_path).status == "killed"
    monkeypatch.undo()
    assert json.loads((tmp_path / "record.json").read_text())["status"] == "running"


def test_a_killed_mark_never_covers_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _running_with(tmp_path, boot_id="another boot")
    original: Callable[..., Any] = liveness
    calls = []

    def resumed_after_the_first_look(process: Any) -> str:
        answer: str = original(process)
        if not calls:
            calls.append(process)
            write_json_atomically(tmp_path / "record.json", new(process=current_process()).as_json())
        return answer

    monkeypatch.setattr("rexdet.runs.record.liveness", resumed_after_the_first_look)
    if Path("/proc/self/stat").exists():
        assert read_record(tmp_path).status == "running"


def test_the_identity_of_this_process_lives() -> None:
    process = current_process()
    assert process.host == socket.gethostname()
    assert liveness(process) == "alive"


def test_a_folder_can_be_asked_before_long_preparations(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    check_folder(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    Run.start(tmp_path, new()).finish()
    with pytest.raises(UserError, match="holds a finished run"):
        check_folder(tmp_path)
    check_folder(tmp_path, resume=True)
    _running_with(tmp_path)
    for resume in (False, True):
        with pytest.raises(UserError, match="is still writing this run"):
            check_folder(tmp_path, resume=resume)


def _fails(run: Run, error: Exception) -> None:
    with run:
        raise error


def test_events_of_other_processes_reach_the_record(tmp_path: Path) -> None:
    runs = [Run.start(tmp_path, new(), rank=rank) for rank in range(3)]
    for run in runs:
        run.event("unreadable_image", "a.jpg: cut off")
    for _ in range(4):
        runs[2].event("unreadable_image", "b.jpg: empty")
    runs[0].finish()
    for run in runs[1:]:
        run.finish()
    events = [(event.message, event.count) for event in read_record(tmp_path).events]
    assert events == [("a.jpg: cut off", 3), ("b.jpg: empty", 4)]
    assert os.listdir(tmp_path) == ["record.json"]


def test_the_reason_of_the_process_that_failed_first_is_recorded(tmp_path: Path) -> None:
    first, second = (Run.start(tmp_path, new(), rank=rank) for rank in range(2))
    with pytest.raises(MemoryError):
        _fails(second, MemoryError("out of memory"))
    with pytest.raises(RuntimeError):
        _fails(first, RuntimeError("connection closed by peer"))
    record = read_record(tmp_path)
    assert record.status == "failed"
    assert record.failure is not None
    assert (record.failure.rank, record.failure.message) == (1, "out of memory")
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_launcher_that_stops_the_rest_does_not_hide_the_reason(tmp_path: Path, program: Any) -> None:
    first = program(RUNNER, tmp_path, "a")
    assert told(first) == "running"
    second = Run.start(tmp_path, new(), rank=1)
    with pytest.raises(MemoryError):
        _fails(second, MemoryError("out of memory"))
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=10) == 128 + signal.SIGTERM
    record = read_record(tmp_path)
    assert (record.status, record.failure and record.failure.message) == ("failed", "out of memory")


@pytest.mark.parametrize("resume", [False, True])
def test_after_a_hard_kill_the_notes_of_the_others_are_not_lost(tmp_path: Path, program: Any, resume: bool) -> None:
    first = program(RUNNER, tmp_path, "a")
    assert told(first) == "running"
    second = Run.start(tmp_path, new(), rank=1)
    second.event("unreadable_image", "a.jpg: cut off")
    second.fail(MemoryError("out of memory"))
    first.kill()
    first.wait()
    if resume:
        Run.start(tmp_path, new(), resume=True).finish()
    record = read_record(tmp_path)
    assert record.status == ("done" if resume else "failed")
    assert resume or (record.failure is not None and record.failure.message == "out of memory")
    assert [event.code for event in record.events] == ["started", "unreadable_image"]
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_process_that_only_follows_waits_for_the_word_of_the_one_that_failed(tmp_path: Path) -> None:
    first, second = (Run.start(tmp_path, new(), rank=rank) for rank in range(2))
    later = threading.Timer(0.3, lambda: second.fail(FloatingPointError("not finite"), loss_term="loss_cls"))
    later.start()
    first.fail("another process met a loss that is not finite", elsewhere=True)
    later.join()
    failure = read_record(tmp_path).failure
    assert failure is not None
    assert (failure.rank, failure.loss_term) == (1, "loss_cls")


def test_without_the_word_of_another_process_its_own_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexdet.runs.run.PATIENCE_S", 0.1)
    first, second = (Run.start(tmp_path, new(), rank=rank) for rank in range(2))
    second.fail("another process failed", elsewhere=True)
    assert read_notes(tmp_path) == []
    first.fail("another process failed", elsewhere=True)
    assert read_record(tmp_path).status == "failed"


def test_an_output_that_cannot_be_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        with pytest.raises(UserError, match="a run needs a folder; name another --output"):
            Run.start(tmp_path / name, new())
    with pytest.raises(UserError, match="a run needs a folder"):
        check_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_no_file_system_takes_is_one_line(tmp_path: Path) -> None:
    for ask in (check_folder, lambda folder: Run.start(folder, new())):
        with pytest.raises(UserError, match="File name too long"):
            ask(tmp_path / ("long" * 100))


def test_a_search_is_not_said_to_be_resumable(tmp_path: Path) -> None:
    Run.start(tmp_path / "done", new().model_copy(update={"kind": "search"})).finish()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "genome.yaml").write_text("network: resnet50\n")
    for name in ("done", "bare"):
        with pytest.raises(UserError) as caught:
            check_folder(tmp_path / name)
        assert caught.value.fix == "name another --output"


def test_a_folder_may_be_called_like_a_file(tmp_path: Path) -> None:
    Run.start(tmp_path / "a.json", new()).finish()
    assert read_record(tmp_path / "a.json").status == "done"
    assert os.listdir(tmp_path / "a.json") == ["record.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    for name in ("locked", "locked/below"):
        with pytest.raises(UserError, match="may not be"):
            Run.start(tmp_path / name, new())
