"""tools/inspect_weights.py and tools/convert_weights.py on ResNets' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rexdet
from rexdet.cli import execute
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.formats import read_file
from rexdet.weights.layouts import layout_by_name

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")


@pytest.fixture(scope="module")
def narrow() -> State:
    """A ResNet-50 with few channels in every layer, in our layout."""
    torch.manual_seed(0)
    return rexdet.create_model("resnet50", 5, channels=NARROW).state_dict()


NARROW = {
    "stem": 8,
    **{
        f"stages.{stage}.{block}.{unit}": 8 * (stage + 1) if unit in ("unit3", "projection") else 4 + block
        for stage, depth in enumerate((3, 4, 6, 3))
        for block in range(depth)
        for unit in ("unit1", "unit2", "unit3", *(("projection",) if block == 0 else ()))
    },
}


def in_layout(state: State, layout: str) -> State:
    return layout_by_name(layout, "resnet").from_ours(state)


def run(verb: str, *arguments: str | Path) -> int:
    return execute(verb, [str(argument) for argument in arguments])


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("layout", ["torchvision", "timm", "caffe2", "detectron2_resnet", "ours"])
def test_a_conversion_there_and_back_is_bit_identical(
    narrow: State, tmp_path: Path, layout: str, ending: str, capsys
) -> None:
    source, there, back = tmp_path / "tv.pth", tmp_path / f"there.{ending}", tmp_path / "back.pth"
    torch.save(in_layout(narrow, "torchvision"), source)
    assert run("convert_weights", source, "--to", layout, "--output", there) == 0
    opened = rexdet.open_checkpoint(there)
    assert opened.layout == ("torchvision" if layout == "timm" else layout)
    assert (opened.network, opened.overrides["channels"]) == ("resnet50", NARROW)
    # torchvision's place of the stride goes along, whatever the new layout usually means.
    assert (opened.stride_in, opened.origin_sha256) == ("3x3", hash_file(source))
    assert run("convert_weights", there, "--to", "torchvision", "--output", back) == 0
    first, last = read_file(source).value, read_file(back).value["state_dict"]
    kept = [key for key in first if layout != "caffe2" or not key.endswith("num_batches_tracked")]
    assert list(last) == kept
    assert all(torch.equal(first[key], last[key]) for key in kept)


@pytest.mark.parametrize(
    ("name", "layout"), [("resnet20_cifar", "akamaster"), ("resnet20b_cifar", "distiller"), ("resnet50", "lwdna")]
)
def test_the_other_layouts_are_written_too(narrow: State, tmp_path: Path, name: str, layout: str) -> None:
    state = narrow if name == "resnet50" else rexdet.create_model(name).state_dict()
    source, there = tmp_path / "ours.pth", tmp_path / "there.pth"
    torch.save(state, source)
    assert run("convert_weights", source, "--to", layout, "--output", there) == 0
    assert rexdet.open_checkpoint(there).network == name


def test_a_layout_of_another_family_is_one_line(narrow: State, tmp_path: Path, capsys) -> None:
    source = tmp_path / "ours.pth"
    torch.save(narrow, source)
    for layout, expected in (("authors", "has the layouts ours, torchvision"), ("akamaster", "32 x 32 images alone")):
        assert run("convert_weights", source, "--to", layout, "--output", tmp_path / "there.pth") == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert not (tmp_path / "there.pth").exists()


def test_an_inspection_says_where_the_stride_stands(narrow: State, tmp_path: Path, capsys) -> None:
    path = tmp_path / "R-50.pkl"
    torch.save({"model": in_layout(narrow, "caffe2")}, path)
    assert run("inspect_weights", path) == 0
    out = capsys.readouterr().out
    for part in (
        f"resnet50 with {len(NARROW)} widths of its own, stride_in=1x1",
        "caffe2, under 'model'",
        "in the 1x1 convolution",
        "BGR (ASSUMED",
        "resnet50: yes",
    ):
        assert part in out
    torch.save(in_layout(narrow, "detectron2_resnet"), path)
    assert run("inspect_weights", path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["network"], facts["stride_in"], facts["layout"]) == ("resnet50", None, "detectron2_resnet")
    assert any("no tensor tells" in line for line in facts["suspicions"])


def test_an_inspection_writes_the_genome_of_the_authors_lwdna_file(narrow: State, tmp_path: Path, capsys) -> None:
    path, genome = tmp_path / "resnet50_lwdna.pt", tmp_path / "genome.yaml"
    torch.save({f"t{index}": tensor for index, tensor in enumerate(in_layout(narrow, "lwdna").values())}, path)
    assert run("inspect_weights", path, "--network", "resnet50_lwdna", "--genome", genome) == 0
    assert f"genome: {genome}" in capsys.readouterr().out
    model = rexdet.create_model(f"lwdna:{genome}", weights=path)
    assert model.channels == NARROW
    assert torch.equal(model.state_dict()["head.weight"], narrow["head.weight"])


def test_a_network_that_a_genome_cannot_hold_is_one_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "deep.pth"
    torch.save(rexdet.create_model("rexnet_0.3", 3, depth=1.4).state_dict(), path)
    assert run("inspect_weights", path, "--genome", tmp_path / "genome.yaml") == 2
    assert "it has depth of its own" in capsys.readouterr().err
    assert not (tmp_path / "genome.yaml").exists()


def test_an_ordinary_file_is_not_the_authors_lwdna(tmp_path: Path, capsys) -> None:
    path = tmp_path / "r18.pth"
    torch.save(rexdet.create_model("resnet18", 3).state_dict(), path)
    assert run("inspect_weights", path, "--network", "resnet50_lwdna") == 2
    assert "holds resnet18" in capsys.readouterr().err
