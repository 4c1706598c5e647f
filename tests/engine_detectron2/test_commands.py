"""Commands around training: a few pictures by heart, the quickstart's weights, a batch drawn, ratios."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed")

import torch
from PIL import Image

import rexdet
from rexdet.cli import execute
from rexdet.cli.quickstart import WEIGHTS
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.runs.record import read_record


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPaths:
    """Twelve training and two validation pictures of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "embedded"
    return generate_embedded(folder, seed=3, train_images=12, val_images=2, size=64, workers=1, progress=False)


def test_overfit_trains_and_scores_on_the_same_few_pictures(pictures: EmbeddedPaths, tmp_path: Path) -> None:
    words = ["--annotations", str(pictures.train_annotations), "--images", str(pictures.train_images)]
    words += ["--pictures", "3", "--output", str(tmp_path / "run")]
    quick = ["SOLVER.MAX_ITER", "1", "INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MIN_SIZE_TEST", "64"]
    assert execute("overfit", [*words, *quick]) == 0
    record = read_record(tmp_path / "run")
    assert record.data.train is not None
    assert record.data.val is not None
    assert record.data.train.images == record.data.val.images == 3
    listed = json.loads((tmp_path / "run" / "pictures.json").read_text())
    assert len(listed["images"]) == 3
    assert {row["image_id"] for row in listed["annotations"]} == {row["id"] for row in listed["images"]}


def test_overfit_needs_as_many_pictures_as_it_is_asked_for(
    pictures: EmbeddedPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--annotations", str(pictures.val_annotations), "--images", str(pictures.val_images)]
    assert execute("overfit", [*words, "--pictures", "9", "--output", str(tmp_path / "run")]) == 2
    assert "9 are asked for" in capsys.readouterr().err


def test_the_quickstarts_weights_come_from_a_command(tmp_path: Path) -> None:
    words = ["--output", str(tmp_path / "made"), "--pictures", "8", "--steps", "1"]
    assert execute("make_quickstart_weights", words) == 0
    made = rexdet.open_checkpoint(tmp_path / "made" / "backbone.safetensors")
    shipped = rexdet.open_checkpoint(WEIGHTS)
    assert made.kind == shipped.kind == "backbone"
    assert made.network == shipped.network == "rexnet_0.4"
    assert shipped.pixels_known_by == "metadata"
    assert WEIGHTS.stat().st_size <= 2 * 2**20
    assert {key: tuple(value.shape) for key, value in made.state_dict().items()} == {
        key: tuple(value.shape) for key, value in shipped.state_dict().items()
    }


def test_the_shipped_weights_have_their_run_beside_them() -> None:
    record = read_record(WEIGHTS.with_name("quickstart_backbone.record.json"))
    assert record.status == "done"
    assert record.network is not None
    assert record.network.sha256 is None


def test_a_batch_is_drawn_as_the_network_gets_it(pictures: EmbeddedPaths, tmp_path: Path) -> None:
    words = ["--annotations", str(pictures.train_annotations), "--images", str(pictures.train_images)]
    assert execute("check_data", [*words, "--output", str(tmp_path), "--config", "quickstart"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "batch.png"))
    # Eight pictures of at least 128 px in two columns; drawing enlarges small ones.
    assert sheet.shape[0] == 2 * sheet.shape[1]
    assert sheet.std() > 10
    assert list((tmp_path / "classes").glob("*.png"))


def test_benchmark_prints_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm")
    torch.set_num_threads(1)
    assert execute("benchmark", ["detector", "--network", "rexnet_0.6", "--rounds", "1", "--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["what"].split(",")[0] for row in rows} == {"adapter / bare network", "RetinaNet step"}
    assert all(row["ratio"] > 0 for row in rows)
