"""A benchmark's latencies reach the tables with the conditions that they were measured under."""

from __future__ import annotations

import pytest

from rexdet.bench.record import write_latencies
from rexdet.errors import UserError
from rexdet.report.records.reading import publish, read
from rexdet.report.tables.costs import latencies, single_image
from rexdet.report.tables.runs import latency_table

ROWS = [
    {"what": "eager, float32, batch 16", "timm ms": 431.0, "ours ms": 300.0, "timm / ours": 1.4},
    {"what": "eager, float32, batch 1", "timm ms": 29.8, "ours ms": 20.1, "timm / ours": 1.5},
    {"what": "openvino, float32, batch 1", "timm ms": 7.5, "ours ms": 7.4, "timm / ours": 1.0},
    {"what": "openvino, bfloat16, batch 1", "timm ms": 4.6, "ours ms": 4.5, "timm / ours": 1.0},
    {"what": "onnxruntime, bfloat16, batch 1", "note": "is not installed"},
    {"what": "training step, eager, batch 8", "timm ms": 773.0, "ours ms": 700.0, "timm / ours": 1.1},
    {"what": "backbone step, FREEZE_AT 2 / 0, BN", "ratio": 0.8},
]


def test_every_inference_row_is_told_with_back_end_dtype_batch_and_device(tmp_path) -> None:
    assert write_latencies(tmp_path / "bench", "rexnet_1.0", ROWS, ["tools/benchmark.py", "backbone"]) == 4
    runs = read([tmp_path / "bench"]).runs
    found = latencies(runs)["rexnet_1.0"]
    assert {(entry.backend, entry.dtype, entry.batch, entry.milliseconds) for entry in found} == {
        ("eager", "float32", 16, 300.0),
        ("eager", "float32", 1, 20.1),
        ("openvino", "float32", 1, 7.4),
        ("openvino", "bfloat16", 1, 4.5),
    }
    assert all(entry.device for entry in found)
    # The table of networks compares in one dtype: float32, one image, the fastest back end, and says which.
    shown = single_image(found)
    assert shown is not None
    assert shown.milliseconds == 7.4
    assert "batch 1, float32, openvino" in shown.conditions
    assert len(latency_table(runs).rows) == 4


def test_a_copy_for_others_still_names_the_processor(tmp_path) -> None:
    write_latencies(tmp_path / "bench", "rexnet_1.0", ROWS, ["tools/benchmark.py", "backbone"])
    runs = read([tmp_path / "bench"]).runs
    publish(runs, tmp_path / "kept")
    device = latencies(runs)["rexnet_1.0"][0].device
    assert {entry.device for entry in latencies(read([tmp_path / "kept"]).runs)["rexnet_1.0"]} == {device}
    assert "not told" not in device


def test_a_record_is_not_overwritten(tmp_path) -> None:
    write_latencies(tmp_path, "rexnet_1.0", ROWS, [])
    with pytest.raises(UserError):
        write_latencies(tmp_path, "rexnet_1.0", ROWS, [])
