"""train_det.py beyond RetinaNet: masks, LazyConfigs, detectron2's own backbones."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed")

import torch

from rexdet.cli import execute
from rexdet.coco.evaluate import evaluate
from rexdet.coco.generate import EmbeddedPaths, generate_embedded
from rexdet.configs import get_config
from rexdet.runs.record import read_record

SMALL = ("INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0")
ONE_STEP = ("SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "0.0001")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments that name four training and two validation pictures of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "embedded"
    paths: EmbeddedPaths = generate_embedded(
        folder, seed=3, train_images=4, val_images=2, size=64, workers=1, progress=False
    )
    return [
        *("--train-annotations", str(paths.train_annotations), "--train-images", str(paths.train_images)),
        *("--val-annotations", str(paths.val_annotations), "--val-images", str(paths.val_images)),
    ]


def test_mask_rcnn_leaves_box_and_mask_numbers(files: list[str], tmp_path: Path) -> None:
    words = ["--config", "mask_rcnn_rexnet", "--backbone", "rexnet_0.6", "--output", str(tmp_path / "run"), *files]
    assert execute("train_det", [*words, *SMALL, *ONE_STEP, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]) == 0
    record = read_record(tmp_path / "run")
    assert set(record.metrics) == {"bbox", "segm"}
    saved = json.loads((tmp_path / "run" / "detections.json").read_text())
    assert saved
    assert all("segmentation" in row for row in saved)
    again = evaluate(files[5], tmp_path / "run" / "detections.json", "segm")
    assert again.numbers == record.metrics["segm"]


def test_a_lazy_config_trains_resumes_and_evaluates(files: list[str], tmp_path: Path) -> None:
    small = [
        *("train.max_iter=2", "train.checkpointer.period=1", "dataloader.train.total_batch_size=2"),
        *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0", "optimizer.lr=0.0001"),
        "dataloader.train.mapper.augmentations.0.short_edge_length=[128]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=128",
    ]
    config = get_config("lazy/fcos_rexnet")
    words = ["--config", config, "--backbone", "rexnet_0.6", "--seed", "1", *files]
    assert execute("train_det", [*words, "--output", str(tmp_path / "run"), *small]) == 0
    final = tmp_path / "run" / "model_final.pth"
    whole = torch.load(final, weights_only=True)["model"]
    assert read_record(tmp_path / "run").network is not None
    final.unlink()
    (tmp_path / "run" / "model_0000001.pth").unlink()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000000.pth")
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    (tmp_path / "run" / "record.json").write_text(json.dumps({**record, "status": "killed"}))
    assert execute("train_det", [*words, "--output", str(tmp_path / "run"), "--resume", *small]) == 0
    resumed = torch.load(final, weights_only=True)["model"]
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    again = ["--output", str(tmp_path / "again"), "--eval-only", "--weights", str(final)]
    assert execute("train_det", [*words, *again, *small]) == 0
    assert read_record(tmp_path / "again").metrics == read_record(tmp_path / "run").metrics


def _write_resnet_file(path: Path, *, without: str = "") -> None:
    """A file as detectron2's own for its ResNet-50: pickled NumPy arrays under "model"."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    cfg = get_cfg()
    cfg.merge_from_file(get_config("retinanet_r50"))
    cfg.MODEL.DEVICE = "cpu"
    weights = {name: value.numpy() for name, value in build_backbone(cfg).bottom_up.state_dict().items()}
    if without:
        weights = {name: value for name, value in weights.items() if without not in name}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "test", "matching_heuristics": True}))


def test_the_resnet_50_baseline_starts_from_its_own_file(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_resnet_file(tmp_path / "R-50.pkl")
    words = ["--config", "retinanet_r50", "--output", str(tmp_path / "run"), *files, *SMALL, *ONE_STEP]
    assert execute("train_det", [*words, "MODEL.WEIGHTS", str(tmp_path / "R-50.pkl")]) == 0
    assert "tensors loaded, backbone 53 of 53" in capsys.readouterr().out
    record = read_record(tmp_path / "run")
    assert record.status == "done"
    # In the words of our own networks, so that both stand in one table.
    assert record.network is not None
    assert (record.network.name, record.network.overrides) == ("resnet50", {"stride_in": "1x1"})
    assert (record.network.norm, record.network.freeze_at) == ("FrozenBN", 2)
    assert record.network.sha256 == hashlib.sha256((tmp_path / "R-50.pkl").read_bytes()).hexdigest()


def test_a_baseline_file_that_lacks_a_layer_is_refused_by_name(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_resnet_file(tmp_path / "R-50.pkl", without="res3.0.conv2.weight")
    words = ["--config", "retinanet_r50", "--output", str(tmp_path / "run"), *files, *SMALL, *ONE_STEP]
    assert execute("train_det", [*words, "MODEL.WEIGHTS", str(tmp_path / "R-50.pkl")]) == 2
    assert "res3.0.conv2.weight" in capsys.readouterr().err


def test_a_baseline_that_cannot_be_downloaded_says_which_file_to_fetch(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    words = ["--config", "retinanet_r50", "--output", str(tmp_path / "run"), *files, *SMALL, *ONE_STEP]
    assert execute("train_det", words) == 2
    error = capsys.readouterr().err
    assert "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl" in error
    assert str(tmp_path / "cache") in error


def test_masks_asked_of_a_file_without_masks_are_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(Path(files[1]).read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    words = ["--config", "mask_rcnn_rexnet", "--backbone", "rexnet_0.6", "--output", str(tmp_path / "run")]
    words += ["--train-annotations", str(tmp_path / "boxes.json"), *files[2:]]
    assert execute("train_det", [*words, *SMALL, *ONE_STEP]) == 2
    assert "mask" in capsys.readouterr().err
    assert np.all([not path.name.endswith(".pth") for path in tmp_path.rglob("*")])
