"""tools/inspect_weights.py: what a file is, whether it fits; exit 0 or 2, one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import rexdet
from rexdet.cli import execute
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.layouts import layout_by_name

SMALL = "rexnet_0.3"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return rexdet.create_model(SMALL, 10).state_dict()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REXDET_OFFLINE", "1")


def refused(capsys, *arguments: str) -> str:
    assert execute("inspect_weights", list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_everything_that_is_known_is_printed(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "weights.bin"
    torch.save({"state_dict": layout_by_name("authors").from_ours(state), "optimizer": {}}, path)
    assert execute("inspect_weights", [str(path)]) == 0
    out = capsys.readouterr().out
    for part in (
        SMALL,
        "authors",
        "'state_dict'",
        hash_file(path),
        "a classifier of 10 classes",
        "ASSUMED",
        "not known",
        "optimizer",
        "yes",
        "statistics that no training has touched",
    ):
        assert part in out


def test_json_says_the_same(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "weights.pth"
    torch.save(layout_by_name("timm").from_ours(state), path)
    assert execute("inspect_weights", [str(path), "--pixels", "half", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["network"], said["layout"], said["kind"], said["classes"]) == (SMALL, "timm", "classifier", 10)
    assert said["sha256"] == said["origin_sha256"] == hash_file(path)
    assert said["pixels"]["mean"] == [0.5, 0.5, 0.5]
    assert said["pixels_known_by"] == "user"
    assert said["fits"] == {"network": SMALL, "ok": True, "problem": ""}


def test_another_network_does_not_fit_and_the_right_one_is_named(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    assert "use rexnet_0.3" in refused(capsys, str(path), "--network", "rexnet_1.0")
    assert "write rexnet_1.0" in refused(capsys, str(path), "--network", "rexnet_1")
    assert execute("inspect_weights", [str(path), "--network", SMALL]) == 0


def test_a_backbones_file_fits_as_a_backbone(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "backbone.pth"
    torch.save({key: value for key, value in state.items() if not key.startswith(("head.", "penultimate."))}, path)
    assert execute("inspect_weights", [str(path), "--network", SMALL]) == 0
    assert "a backbone" in capsys.readouterr().out


def test_a_backbone_that_ends_early_fits_as_far_as_it_goes(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "backbone.pth"
    backbone = rexdet.create_backbone(SMALL, ("res2", "res4"))
    torch.save(backbone.state_dict(), path)
    assert execute("inspect_weights", [str(path)]) == 0
    assert "rexnet_0.3: yes" in capsys.readouterr().out


def test_a_file_that_fits_no_name_is_described_and_refused(state, tmp_path: Path, capsys) -> None:
    path = tmp_path / "weights.pth"
    torch.save({**state, "blocks.4.project.conv.weight": torch.zeros(15, 90, 1, 1)}, path)
    assert execute("inspect_weights", [str(path)]) == 2
    said = capsys.readouterr()
    assert "no name fits: stem 32" in said.out
    assert said.err.count("\n") == 1
    assert "fits no network that has a name" in said.err


def test_a_missing_tensor_is_named(state, tmp_path: Path, capsys) -> None:
    """C89."""
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in state.items() if key != "stem.conv.weight"}, path)
    assert "stem.conv.weight" in refused(capsys, str(path), "--network", SMALL)


def test_what_cannot_be_opened_is_one_line(tmp_path: Path, capsys) -> None:
    page = tmp_path / "weights.pth"
    page.write_text("<html>")
    assert "web page" in refused(capsys, str(page))
    assert "no such file" in refused(capsys, str(tmp_path / "none.pth"))
    assert "no published file for this network" in refused(capsys, "rexnet_0.9@nav_in1k")
    assert "by hand" in refused(capsys, "rexnet_1.0@nav_in1k")
