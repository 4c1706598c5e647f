"""tools/embed.py: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from rexdet.cli import execute
from rexdet.transfer import embed as module
from rexdet.zoo import create_model

NAME = "resnet20_cifar"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(create_model(NAME).state_dict(), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "inner/c.png"):
        Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def arguments(weights: Path, pictures: Path, output: Path, *more: str) -> list[str]:
    told = ["--weights", str(weights), "--images", str(pictures), "--output", str(output), "--pixels", "half"]
    return [NAME, *told, *more]


def test_both_files_hold_the_same(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "out" / "f.npz", tmp_path / "out" / "f.safetensors"
    assert execute("embed", arguments(weights, pictures, one, "--size", "32")) == 0
    assert execute("embed", arguments(weights, pictures, other, "--size", "32")) == 0
    assert "3 pictures x 64 features" in capsys.readouterr().out
    read = np.load(one, allow_pickle=False)
    assert read["names"].tolist() == ["a.jpg", "b.png", "inner/c.png"]
    assert read["features"].shape == (3, 64)
    assert json.loads(str(read["facts"]))["tap"] == "penultimate"
    with safe_open(str(other), framework="np") as opened:
        np.testing.assert_array_equal(opened.get_tensor("features"), read["features"])
        assert json.loads(opened.metadata()["names"]) == read["names"].tolist()


def test_a_tap(weights: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.npz"
    assert execute("embed", arguments(weights, pictures, output, "--size", "32", "--tap", "res3")) == 0
    assert np.load(output)["features"].shape == (3, create_model(NAME).features["res3"].channels)  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--output", "f.csv"], "ends in .csv"),
        (["--images", "nowhere"], "no such folder"),
        (["--tap", "res9"], "no tap"),
        (["--weights", ""], "random weights"),
        (["--size", "-1"], "--size is -1"),
        (["--batch", "0"], "batch size"),
    ],
)
def test_mistakes_are_one_line(
    weights: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    told: str,
) -> None:
    output = tmp_path / "f.npz"
    assert execute("embed", arguments(weights, pictures, output, *change)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_broken_picture_is_named_and_nothing_is_written(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert execute("embed", arguments(weights, pictures, tmp_path / "f.npz", "--size", "32")) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert not (tmp_path / "f.npz").exists()


def test_a_full_disk_is_one_line(
    weights: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    assert execute("embed", arguments(weights, pictures, tmp_path / "f.npz", "--size", "32")) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.glob("*f.npz*"))
