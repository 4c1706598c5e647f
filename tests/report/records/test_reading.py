"""Records are found, checked, named where they cannot be read, and counted once."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest

from rexdet.errors import UserError
from rexdet.report.records.facts import transfer_dataset
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found, merge, publish, read, write_ledger
from rexdet.report.records.shared_copy import for_others
from rexdet.report.tables.summary import summarise_runs
from rexdet.runs import Data, DataSplit, Network
from rexdet.runs.process import Process

HERE = Process(pid=1, start_ticks=10, host="here", boot_id="x", pid_namespace=None)
THERE = Process(pid=1, start_ticks=10, host="there", boot_id="y", pid_namespace=None)


def test_what_is_broken_newer_or_something_else_is_named_and_skipped(detection, written, tmp_path) -> None:
    runs = written(detection())
    for name, text in {
        "cut": '{"schema_version": 1, "kind": "dete',
        "newer": json.dumps({"schema_version": 99, "kind": "detection", "name": "x"}),
        "other": json.dumps({"hello": 1}),
        "wrong": json.dumps({**detection().as_json(), "metrics": {"bbox": {"AP": 0.5}}}),
    }.items():
        (runs / name).mkdir()
        (runs / name / "record.json").write_text(text)
    found = read([runs])
    assert [one.record.name for one in found.runs] == ["resnet50-sha-0"]
    reasons = {where.split("/")[-2]: why for where, why in found.skipped}
    assert set(reasons) == {"cut", "newer", "other", "wrong"}
    assert "not JSON" in reasons["cut"]
    assert "newer rexdet: schema version 99" in reasons["newer"]
    assert "kind" in reasons["other"]
    assert "must hold exactly the keys" in reasons["wrong"]
    assert all("\n" not in why for why in reasons.values())


def test_nothing_to_read_is_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read([tmp_path / "missing"])
    with pytest.raises(UserError, match="no record of a run here"):
        read([tmp_path])


def test_a_path_without_a_record_is_told_beside_those_that_have_some(detection, written, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    found = read([written(detection()), tmp_path / "empty", tmp_path / "blank.jsonl"])
    assert len(found.runs) == 1
    assert found.skipped == tuple(
        (str(tmp_path / name), "holds no record of a run") for name in ("empty", "blank.jsonl")
    )


def test_published_records_are_found_under_any_folder_name(detection, tmp_path, monkeypatch) -> None:
    records = [detection(seed=seed) for seed in range(3)]
    publish([Found(record, record.name) for record in records], tmp_path)
    kept = tmp_path / "kept"
    (tmp_path / "records").rename(kept)
    (kept / "data.json").write_text('{"images": [], "schema_version": 1}')
    assert len(read([kept]).runs) == len(read([tmp_path]).runs) == 3
    assert not read([kept]).skipped
    monkeypatch.chdir(kept)
    assert len(read(["."]).runs) == 3
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "cut.json").write_text("{")
    monkeypatch.chdir(tmp_path / "records")
    with pytest.raises(UserError, match=r"cut\.json: not JSON"):
        read(["."])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["record.json", "ledger.jsonl", "records/x.json"])
def test_a_pipe_is_not_waited_for(name, detection, written) -> None:
    folder = written(detection())
    (folder / "records").mkdir()
    os.mkfifo(folder / name)
    found = read([folder])
    assert len(found.runs) == 1
    assert found.skipped == ((str(folder / name), "is no file that can be read"),)


def test_merging_two_machines_loses_and_duplicates_nothing(detection, transfer, written, tmp_path) -> None:
    shared = [detection(seed=seed, process=HERE) for seed in range(3)]
    one = written(*shared, transfer(process=HERE), below="one")
    # The same start, name and seed on another machine is another run; the same run copied over is not.
    two = written(shared[0], detection(seed=1, process=THERE, ap=0.41), below="two")
    write_ledger(read([one]).runs, tmp_path / "one.jsonl")
    write_ledger(read([two]).runs, tmp_path / "two.jsonl")
    from_folders, from_ledgers = read([one, two]), read([tmp_path / "one.jsonl", tmp_path / "two.jsonl"])
    for found in (from_folders, from_ledgers):
        assert len(found.runs) == 5
        assert found.repeated == 1
        assert sorted(one.record.seed for one in found.runs) == [0, 0, 1, 1, 2]
    again = read([tmp_path / "two.jsonl", one, tmp_path / "one.jsonl", two])
    key = lambda found: [one.record.model_dump() for one in found.runs]  # noqa: E731
    assert sorted(map(str, key(again))) == sorted(map(str, key(from_folders)))


def test_the_latest_state_of_a_run_counts(detection) -> None:
    early = detection(status="running", process=HERE, metrics={})
    late = detection(process=HERE, updated=early.updated + timedelta(hours=1))
    resumed = detection(process=THERE, updated=early.updated, resumed_at=[early.updated + timedelta(hours=2)])
    for order in ([early, late], [late, early]):
        (kept,) = merge(Found(record, str(place)) for place, record in enumerate(order))
        assert kept.record.status == "done"
    # Gone on with on another machine: still one run, whatever the clocks there say.
    (kept,) = merge([Found(late, "a"), Found(resumed, "b")])
    assert kept.where == "b"


def test_a_published_copy_is_the_run_itself(detection) -> None:
    record = detection(process=HERE, files={"weights": "model_final.pth"})
    copy = for_others(record)
    assert (copy.process, copy.files) == (None, {})
    assert len(merge([Found(record, "a"), Found(copy, "b")])) == 1
    assert len(merge([Found(copy, "a"), Found(copy.model_copy(update={"wall_time_s": 1.0}), "b")])) == 2


def test_a_published_copy_tells_nothing_of_the_disk(detection, transfer) -> None:
    split = DataSplit(
        path="/data/me/coco/annotations/instances_val2017.json", images_path="../me/coco/val", images=5_000
    )
    command = ["train_det.py", "--config", "configs/faster_rcnn_r50.yaml", "--data-root", "/data/me/coco"]
    record = detection(process=HERE, command=command, data=Data(val=split))
    record.network = Network(name="resnet50", sha256="a" * 64, source="/home/me/r50.pth")
    record.config = f"{record.config}OUTPUT_DIR: /data/me/run\nBN: 10/s\nURL: https://a.b/c\n"
    copy = for_others(record)
    assert "/me" not in copy.model_dump_json()
    assert copy.command == [*command[:-1], "coco"]
    assert copy.network is not None
    assert copy.network.source == "r50.pth"
    assert copy.config is not None
    assert copy.config.endswith("OUTPUT_DIR: run\nBN: 10/s\nURL: https://a.b/c\n")
    assert copy.data.val is not None
    assert copy.data.val.path == "coco/annotations/instances_val2017.json"
    assert copy.data.val.images_path == "coco/val"
    # It is called as the run itself is, and counts once beside it.
    assert [setting.title for _, setting, _ in group([Found(copy, "b")]).detection] == [
        setting.title for _, setting, _ in group([Found(record, "a")]).detection
    ]
    assert len(merge([Found(record, "a"), Found(copy, "b")])) == 1
    flowers = transfer(dataset="folder", data=Data(train=DataSplit(path="../me/data/flowers17/train")))
    assert transfer_dataset(for_others(flowers)) == transfer_dataset(flowers) == "flowers17"


def test_a_published_command_tells_no_folder_wherever_it_stands(detection) -> None:
    words = [
        "--data-root=/home/me/coco",
        "root=/home/me/x",
        "a.b='/home/me/y'",
        "--pair",
        "k:/home/me/z",
        "file:///home/me/w",
    ]
    kept = ["rexnet_1.0@nav_in1k", "https://a.b/c", "runs/a", "10/s", "--seed=1"]
    copy = for_others(detection(command=[*words, *kept]))
    assert "/me" not in copy.model_dump_json()
    assert copy.command == ["--data-root=coco", "root=x", "a.b='y'", "--pair", "k:z", "w", *kept]
    assert for_others(copy) == copy


def test_a_folder_is_read_to_its_depth(detection, transfer, written) -> None:
    runs = written(detection(), transfer())
    # Kept records have names of their own in a folder called records; other JSON files are none of ours.
    (runs / "kept" / "records").mkdir(parents=True)
    (runs / "kept" / "records" / "a.json").write_text(json.dumps(detection(seed=7).as_json()))
    (runs / "0" / "detections.json").write_text("[]")
    (runs / "0" / "seed1").mkdir()
    (runs / "0" / "seed1" / "record.json").write_text(json.dumps(transfer(seed=1).as_json()))
    found = read([runs])
    assert len(found.runs) == 4
    assert not found.skipped


def test_what_stays_out_is_told_once_a_reason(detection, transfer, written) -> None:
    cells = [transfer(seed=seed, group="val") for seed in range(30)]
    notes = summarise_runs(read([written(detection(), *cells)]), with_costs=False).notes
    assert notes[0] == "31 runs read."
    assert len(notes) == 2
    assert "and 29 more: it was scored on validation images alone" in notes[1]
