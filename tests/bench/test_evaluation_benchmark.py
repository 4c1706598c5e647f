"""The evaluation benchmark runs and compares like with like; how fast anything is, no test asks."""

from __future__ import annotations

import os

from rexdet.bench.evaluation import OURS, REFERENCE, make_data, run


def test_every_evaluator_gives_the_reference_numbers() -> None:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    rows = {row["evaluator"]: row for row in run(images=12, rounds=1, progress=False)}
    assert {OURS, REFERENCE} <= set(rows)
    for row in rows.values():
        assert row["largest difference"] < 1e-9
        assert row["seconds"] > 0
    if cores is not None:
        assert os.sched_getaffinity(0) == cores


def test_the_data_is_worth_evaluating() -> None:
    truth, outputs = make_data(40)
    assert sum(len(output.boxes) for output in outputs) == 40 * 83
    assert sum(annotation["iscrowd"] for annotation in truth["annotations"]) > 0
    assert make_data(40)[1][7].boxes.equal(outputs[7].boxes)
