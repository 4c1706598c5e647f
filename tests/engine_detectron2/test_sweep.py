"""Every family's networks in RetinaNet and Faster R-CNN: built, and trained for two steps."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("detectron2")

import torch

import rexdet
from rexdet.bench import detector_sweep
from rexdet.bench.detector_sweep import sweep
from rexdet.cli import execute
from rexdet.zoo.registry import FAMILIES, resolve

# One width a family, the smallest that says the same.
CHOSEN = {
    "ReXNet": "rexnet_0.6",
    "ReXNet-lite": "rexnet_lite_1.0",
    "ReXNet with timm's rounded channels": "rexnetr_1.0",
    "ResNet with basic blocks": "resnet18",
    "ResNet": "resnet50",
    "ResNeXt": "resnext50_32x4d",
}
RULED = "nm2:1/resnet50"


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.detection], ids=lambda family: family.title)
def test_one_network_of_every_family_trains_two_steps(family) -> None:
    name = CHOSEN[family.title]
    assert resolve(name).family == family.title
    rows = sweep([name])
    assert [row.detector for row in rows] == ["retinanet", "faster_rcnn"]
    network = rexdet.create_model(name)
    channels = [network.features[level].channels for level in ("res2", "res3", "res4", "res5")]
    for row in rows:
        assert row.problem == ""
        assert len(row.losses) == 2
        assert all(math.isfinite(loss) and loss > 0 for loss in row.losses)
    assert list(rows[1].channels) == channels
    assert list(rows[0].channels) == channels[1:]


def test_a_network_under_the_nm_rule_trains_two_steps() -> None:
    assert [row.problem for row in sweep([RULED])] == ["", ""]


def test_a_network_that_does_not_train_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    build = detector_sweep.build

    def with_a_loose_end(name: str, kind: str) -> torch.nn.Module:
        detector = build(name, kind)
        if kind == "retinanet":
            detector.loose_end = torch.nn.Linear(2, 2)
        return detector

    monkeypatch.setattr(detector_sweep, "build", with_a_loose_end)
    assert execute("sweep_detectors", ["rexnet_0.6"]) == 1
    out = capsys.readouterr().out
    assert "rexnet_0.6  retinanet  no gradient reaches loose_end.weight and 1 more" in out
    assert "1 of 2 train" in out


def test_numbers_that_are_not_finite_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_sweep, "LEARNING_RATE", 1e30)
    problems = {row.detector: row.problem for row in sweep(["rexnet_0.6"])}
    assert "not finite" in problems["retinanet"]
    # detectron2 looks at proposals itself.
    assert problems["faster_rcnn"].startswith("FloatingPointError: ")


def test_one_failure_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, kind: str) -> torch.nn.Module:
        raise rexdet.UserError("no such thing", where=name)

    monkeypatch.setattr(detector_sweep, "build", fails)
    told: list[str] = []
    rows = sweep(["a", "b"], lambda row: told.append(f"{row.network} {row.detector}"))
    assert told == ["a retinanet", "a faster_rcnn", "b retinanet", "b faster_rcnn"]
    assert [row.problem for row in rows] == ["a: no such thing"] * 2 + ["b: no such thing"] * 2
    assert json.loads(json.dumps(rows[0].as_json()))["channels"] == []


def test_the_command_prints_json(capsys) -> None:
    assert execute("sweep_detectors", ["resnet18", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["network"], row["detector"], row["channels"]) for row in rows] == [
        ("resnet18", "retinanet", [128, 256, 512]),
        ("resnet18", "faster_rcnn", [64, 128, 256, 512]),
    ]


@pytest.mark.parametrize("pattern", ["resnet20_cifar", "nothing*", "*_cifar", "timm:zzzz", "timm:vit_tiny_patch16_224"])
def test_a_pattern_without_a_backbone_is_one_line(pattern: str, capsys) -> None:
    assert execute("sweep_detectors", [pattern]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_network_that_only_its_authors_have_is_asked_for(capsys) -> None:
    assert execute("sweep_detectors", ["resnet50_lwdna"]) == 2
    assert "known by its authors' file alone" in capsys.readouterr().err


def test_every_listed_backbone_is_swept(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    seen: list[str] = []
    monkeypatch.setattr(detector_sweep, "sweep", lambda names, told: seen.extend(names) or [])
    assert execute("sweep_detectors", []) == 0
    assert seen == [name for name in rexdet.list_models() if resolve(name).detection]
    assert not any("cifar" in name for name in seen)
