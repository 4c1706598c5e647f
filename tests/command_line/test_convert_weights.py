"""tools/convert_weights.py: between layouts and formats, to the bit, with where the weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rexdet
from rexdet.cli import execute
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.formats import read_file
from rexdet.weights.layouts import layout_by_name

SMALL = "rexnet_0.3"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "authors.pth"
    model = rexdet.create_model(SMALL, 10).train()
    model(torch.randn(4, 3, 32, 32))
    torch.save(layout_by_name("authors").from_ours(model.state_dict()), path)
    return path


def convert(*arguments: str | Path) -> int:
    return execute("convert_weights", [str(argument) for argument in arguments])


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("layout", ["ours", "timm"])
def test_there_and_back_is_bit_identical_and_keeps_the_origin(
    source: Path, tmp_path: Path, ending: str, layout: str
) -> None:
    there, back = tmp_path / f"there.{ending}", tmp_path / "back.pth"
    assert convert(source, "--to", layout, "--output", there, "--pixels", "half") == 0
    opened = rexdet.open_checkpoint(there)
    assert (opened.network, opened.layout) == (SMALL, layout)
    assert opened.sha256 == hash_file(there)
    assert opened.origin_sha256 == hash_file(source)
    assert opened.pixels == rexdet.Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert opened.pixels_known_by == "metadata"
    assert convert(there, "--to", "authors", "--output", back) == 0
    first, last = read_file(source).value, read_file(back).value["state_dict"]
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) and first[key].dtype == last[key].dtype for key in first)
    assert rexdet.open_checkpoint(back).origin_sha256 == hash_file(source)


def test_pixels_that_were_only_assumed_are_not_written_down(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.safetensors"
    assert convert(source, "--output", there) == 0
    assert rexdet.open_checkpoint(there).pixels_known_by == "assumed"


def test_an_existing_file_is_replaced_only_by_force(source: Path, tmp_path: Path, capsys) -> None:
    there = tmp_path / "there.pth"
    there.write_text("precious")
    assert convert(source, "--output", there) == 2
    assert "exists already" in capsys.readouterr().err
    assert there.read_text() == "precious"
    assert convert(source, "--output", there, "--force") == 0
    assert rexdet.open_checkpoint(there).network == SMALL
    assert convert(there, "--to", "timm", "--output", there, "--force") == 0
    assert rexdet.open_checkpoint(there).layout == "timm"


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(source: Path, tmp_path: Path, capsys) -> None:
    assert convert(source, "--output", tmp_path / "there.bin") == 2
    assert "says no format" in capsys.readouterr().err
    lite = tmp_path / "lite.pth"
    torch.save(rexdet.create_model("rexnet_lite_0.3", 3).state_dict(), lite)
    assert convert(lite, "--to", "timm", "--output", tmp_path / "there.pth") == 2
    assert "timm has no ReXNet-lite" in capsys.readouterr().err
    assert not (tmp_path / "there.pth").exists()
    assert convert(lite, "--format", "pth", "--to", "authors", "--output", tmp_path / "there.bin") == 0
    assert rexdet.open_checkpoint(tmp_path / "there.bin").network == "rexnet_lite_0.3"


@pytest.mark.parametrize(("package", "network"), [("timm", "mobilenetv2_050"), ("torchvision", "squeezenet1_1")])
def test_a_network_of_another_package_keeps_its_packages_keys(
    tmp_path: Path, capsys, package: str, network: str
) -> None:
    pytest.importorskip(package)
    name = f"{package}:{network}"
    model = rexdet.create_model(name, 3)
    source, there = tmp_path / "source.pth", tmp_path / "there.safetensors"
    torch.save(model.state_dict(), source)
    assert convert(source, "--network", name, "--output", there, "--pixels", "half") == 0
    assert f"{name} in {package} layout, {len(model.state_dict())} tensors" in capsys.readouterr().out
    # The new file says whose it is.
    opened = rexdet.open_checkpoint(there)
    assert (opened.network, opened.origin_sha256) == (name, hash_file(source))
    assert opened.pixels_known_by == "metadata"
    filled = rexdet.create_model(name, weights=there).state_dict()
    assert all(torch.equal(filled[key], tensor) for key, tensor in model.state_dict().items())
    # Without a name, in another layout, or under another network's name: one line, and no file.
    nowhere = tmp_path / "nowhere.pth"
    assert convert(source, "--network", name, "--to", "authors", "--output", nowhere) == 2
    assert f"{name} has the keys of {package} alone" in capsys.readouterr().err
    assert convert(source, "--network", f"{package}:resnet18", "--output", nowhere) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not nowhere.exists()
