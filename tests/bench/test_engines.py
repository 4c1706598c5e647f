"""What the two engines make of the same picture files: nothing where they agree, and the rest is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")
pytest.importorskip("mmdet", reason="MMDetection is not installed: make setup-mmdet")

from rexdet.bench.engines import cost, report, steps, ways
from rexdet.cli import execute
from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.generate import generate_embedded


@pytest.fixture(scope="module", autouse=True)
def scope() -> Iterator[None]:
    with ways.mmdet_scope():
        yield


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Twelve pictures of the embedded set."""
    folder = tmp_path_factory.mktemp("embedded")
    paths = generate_embedded(folder / "data", train_images=1, val_images=12, progress=False)
    return read_annotations(paths.val_annotations, paths.val_images, purpose="evaluate")


@pytest.fixture(scope="module")
def differences(embedded: CocoDataset) -> dict[str, steps.Difference]:
    return {row.step.split(",")[0]: row for row in steps.measure_steps(embedded, pictures=4)}


def test_normalisation_order_and_padding_are_the_same(differences: dict[str, steps.Difference]) -> None:
    row = differences["normalisation"]
    assert row.largest == 0
    assert row.mean == 0


def test_boxes_come_out_alike(differences: dict[str, steps.Difference]) -> None:
    row = differences["boxes after the resize"]
    assert row.unit == "px"
    assert row.largest is not None
    assert row.largest < 1e-3


def test_sizes_differ_by_a_pixel_at_most(differences: dict[str, steps.Difference]) -> None:
    row = differences["size at 800 px"]
    assert row.largest in (0, 1)
    assert f"of {steps.SIZES} sizes differ" in row.note


def test_the_resizes_are_not_the_same(differences: dict[str, steps.Difference]) -> None:
    """Pillow averages over all pixels that a smaller one covers, OpenCV over the nearest four."""
    larger, smaller = differences["resize"], differences["file to network"]
    assert larger.mean is not None
    assert smaller.mean is not None
    names = list(differences)
    assert names.index("decoding") < names.index("resize") < names.index("file to network")
    for row in (larger, smaller):
        assert row.largest is not None
        assert row.mean is not None
        assert 0 < row.mean < row.largest <= 255


def test_a_picture_of_one_colour_is_the_same_whatever_the_resize() -> None:
    flat = np.full((40, 60, 3), (10, 128, 250), np.uint8)
    for factor in (steps.ENLARGED, steps.REDUCED):
        scale = (round(60 * factor), round(40 * factor))
        one, other = ways.resized_by_detectron2(flat, scale), ways.resized_by_mmdetection(flat, scale)
        assert steps.largest(one, other) == 0


def test_every_kind_of_picture_is_read_alike() -> None:
    """Turned, grey, CMYK, transparent and 16-bit files: sizes agree, and values as far as two JPEG decoders do."""
    rows = {row.kind: row for row in steps.measure_kinds()}
    for kind, row in rows.items():
        assert row.here is not None, kind
        assert row.here <= (0 if "PNG" in kind or kind == "CMYK JPEG" else 6), kind
    # Each engine's own reading is told where it is another.
    assert rows["EXIF, boxes as stored"].mmdetection_alone == "88x120 instead of 120x88"
    assert rows["PNG"].detectron2_alone == rows["PNG"].mmdetection_alone == "0"
    assert float(rows["PNG with transparency"].mmdetection_alone) > 50


def test_the_cost_is_that_of_the_pixels(embedded: CocoDataset) -> None:
    as_is, smaller = cost.measure_cost(embedded, sizes=(128, 96))
    for row in (as_is, smaller):
        assert 0 < row.detectron2 <= 1
        assert 0 < row.mmdetection <= 1
    assert as_is.detectron2 > 0.3
    assert smaller.mean > as_is.mean


def test_the_same_pixels_cost_nothing(embedded: CocoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "MMDetectionWay", ways.Detectron2Way)
    (row,) = cost.measure_cost(embedded, sizes=(160,))
    assert (row.difference, row.largest, row.mean) == (0, 0, 0)


def test_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    difference = steps.Difference("decoding", "Pillow", "OpenCV", 3.0, 0.25)
    made = report.EngineReport(
        [difference, replace(difference, step="sizes", largest=None, mean=None, note="4x4 and 4x5")],
        [steps.Kind("PNG", 0.0, "0", "7")],
        [cost.Cost(96, 0.25, 0.5, 12.0, 0.5)],
    )
    monkeypatch.setattr(report, "compare_engines", lambda: made)
    assert execute("doctor", ["--engines"]) == 0
    printed = capsys.readouterr().out
    assert "0.25" in printed
    assert "sizes differ" in printed
    assert "+25.00" in printed
    assert execute("doctor", ["--engines", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["costs"][0]["difference"] == 0.25


def test_a_missing_engine_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert execute("doctor", ["--engines"]) == 2
    assert "make setup" in capsys.readouterr().err


def test_the_shipped_detector_is_there() -> None:
    assert Path(cost.WEIGHTS).is_file()
