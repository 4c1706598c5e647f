"""The same answers to the same input, whichever engine the config is written for."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rexdet.cli import execute
from rexdet.coco.generate import EmbeddedPaths
from rexdet.runs.record import read_record

Words = Callable[..., list[str]]


def refusal(capsys: pytest.CaptureFixture[str], words: list[str], verb: str = "train_det") -> str:
    """The one line with which a command is refused."""
    capsys.readouterr()
    assert execute(verb, words) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


def changed(source: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of an annotation file with something changed in it."""
    content = json.loads(source.read_text())
    change(content)
    path = folder / f"changed-{source.name}"
    path.write_text(json.dumps(content))
    return path


def _duplicate(content: dict[str, Any]) -> None:
    content["images"][1]["id"] = content["images"][0]["id"]


def _unknown_category(content: dict[str, Any]) -> None:
    content["annotations"][0]["category_id"] = 4711


def _no_objects(content: dict[str, Any]) -> None:
    content["annotations"] = []


def _negative_size(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"][2] = -5


def _missing_file(content: dict[str, Any]) -> None:
    content["images"][0]["file_name"] = "gone.jpg"


@pytest.mark.parametrize("change", [_duplicate, _unknown_category, _no_objects, _negative_size, _missing_file])
def test_annotations_that_cannot_be_trained_on_are_refused(
    engine: Any,
    words: Words,
    pictures: EmbeddedPaths,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
) -> None:
    path = changed(pictures.train_annotations, tmp_path, change)
    assert "tools/check_data.py" in refusal(capsys, words(train_annotations=path))
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there_is_named(engine: Any, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone.json" in refusal(capsys, words(train_annotations=Path("gone.json")))


def test_classes_that_contradict_the_data_are_refused(
    engine: Any, words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "list 5 categories" in refusal(capsys, words(*engine.classes(7)))


@pytest.mark.parametrize(
    "switches",
    [
        ("--weights", "gone.pth"),
        ("--backbone", "rexnet_nonsense"),
        ("--ema", "1.5"),
        ("--eval-only",),
        ("--map-classes", "by-number"),
    ],
)
def test_switches_that_cannot_be_are_one_line(
    engine: Any, words: Words, capsys: pytest.CaptureFixture[str], switches: tuple[str, ...]
) -> None:
    refusal(capsys, words(*switches))


def test_a_file_that_holds_a_class_is_refused_by_its_name(
    engine: Any, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {engine.weights_key: {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "file.pth")
    assert "argparse.Namespace" in refusal(capsys, words("--weights", str(tmp_path / "file.pth")))
    assert not (tmp_path / "run").exists()


def test_a_detector_that_lacks_a_tensor_is_refused_by_its_name(
    engine: Any, words: Words, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained / "model_final.pth", weights_only=True)
    del content[engine.weights_key][engine.first_tensor]
    torch.save(content, tmp_path / "cut.pth")
    assert "stem.conv.weight" in refusal(capsys, words("--eval-only", "--weights", str(tmp_path / "cut.pth")))


def test_a_detector_is_not_used_over_another_network_or_rule(
    engine: Any,
    words: Words,
    trained: Path,
    tmp_path: Path,
    pictures: EmbeddedPaths,
    capsys: pytest.CaptureFixture[str],
) -> None:
    final = str(trained / "model_final.pth")
    predict = ["--config", str(engine.config), "--weights", final, "--input", str(pictures.val_images)]
    predict += ["--output", str(tmp_path / "predicted")]
    ruled = engine.network("nm2:1/rexnet_0.6")
    assert "was trained over rexnet_0.6" in refusal(capsys, words("--eval-only", "--weights", final, *ruled))
    assert "was trained over rexnet_0.6" in refusal(capsys, [*predict, *ruled], "predict")
    assert "does not fit" in refusal(capsys, words("--eval-only", "--weights", final, *engine.network("rexnet_0.9")))


def test_an_unreadable_validation_picture_marks_the_numbers_partial(
    engine: Any, words: Words, trained: Path, tmp_path: Path, pictures: EmbeddedPaths
) -> None:
    folder = tmp_path / "val"
    shutil.copytree(pictures.val_images, folder)
    victim = sorted(folder.iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    final = str(trained / "model_final.pth")
    assert execute("train_det", words("--eval-only", "--weights", final, val_images=folder)) == 0
    record = read_record(tmp_path / "run")
    assert len(record.partial) == 1
    assert victim.name in record.partial[0]


def test_unreadable_training_pictures_are_passed_over_and_told(
    engine: Any, words: Words, tmp_path: Path, pictures: EmbeddedPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "train"
    shutil.copytree(pictures.train_images, folder)
    victim = sorted(folder.iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    assert execute("train_det", words(train_images=folder)) == 0
    assert victim.name in capsys.readouterr().out
    events = [event for event in read_record(tmp_path / "run").events if event.code == "unreadable_image"]
    assert [victim.name in event.message for event in events] == [True]


def test_another_class_list_needs_the_word_by_name(
    engine: Any,
    words: Words,
    trained: Path,
    tmp_path: Path,
    pictures: EmbeddedPaths,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def renumber(content: dict[str, Any]) -> None:
        content["categories"] = [{**content["categories"][0], "id": 77}]
        first = json.loads(pictures.val_annotations.read_text())["categories"][0]["id"]
        content["annotations"] = [
            {**row, "category_id": 77} for row in content["annotations"] if row["category_id"] == first
        ]

    path = changed(pictures.val_annotations, tmp_path, renumber)
    evaluation = ("--eval-only", "--weights", str(trained / "model_final.pth"))
    assert "--map-classes by-name" in refusal(capsys, words(*evaluation, val_annotations=path))
    assert execute("train_det", words(*evaluation, "--map-classes", "by-name", val_annotations=path)) == 0
    assert "-> category 77" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["turned", "transparent", "sixteen_bits", "cmyk"])
def test_odd_pictures_are_detected_on(
    engine: Any, trained: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 4), np.uint8)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels[:, :, :3]).save(folder / "a.jpg", exif=exif)
    elif kind == "transparent":
        Image.fromarray(pixels).save(folder / "a.png")
    elif kind == "sixteen_bits":
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(folder / "a.png")
    else:
        Image.fromarray(pixels, "CMYK").save(folder / "a.jpg")
    (folder / "page.jpg").write_bytes(b"<html></html>")
    words = ["--config", str(engine.config), "--weights", str(trained / "model_final.pth"), "--input", str(folder)]
    assert execute("predict", [*words, "--output", str(tmp_path / "out"), "--score-threshold", "0"]) == 0
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())
    size = (64, 48) if kind == "turned" else (48, 64)
    assert [(image["height"], image["width"]) for image in listed["images"]] == [size]
    assert "page.jpg" in capsys.readouterr().out
