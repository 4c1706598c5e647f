"""tools/models.py --ssdlite and --detectors: what the ReXNet paper prints of whole detectors, counted again."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from rexdet.cli import execute


def printed_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert execute("models", [*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_ssdlite_is_counted_beside_what_the_paper_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """arXiv 2007.00992v3, Table 6."""
    told = printed_json(["--ssdlite"], capsys)
    rows = [
        (
            cost["name"],
            round(cost["parameters"] / 1e6, 3),
            round(cost["macs"] / 1e9, 3),
            cost["printed"]["parameters_millions"],
            cost["printed"]["macs_billions"],
            cost["printed"]["ap"],
        )
        for cost in told["detectors"]
    ]
    assert rows == [
        ("rexnet_0.9", 4.985, 0.888, 5.0, 0.88, 24.7),
        ("rexnet_1.0", 5.682, 1.008, 5.7, 1.01, 25.3),
        ("rexnet_1.3", 8.426, 1.601, 8.4, 1.60, 27.3),
    ]
    assert "expand5 and penultimate" in told["rule"]
    assert execute("models", ["--ssdlite"]) == 0
    out = capsys.readouterr().out
    assert "Counted: SSDLite at 320 x 320" in out
    assert "ReXNet paper (arXiv 2007.00992v3, CVPR 2021), Table 6" in out


def test_a_pattern_takes_other_networks(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed_json(["rexnet_lite_1.*", "--ssdlite"], capsys)
    assert [cost["name"] for cost in told["detectors"]] == ["rexnet_lite_1.0", "rexnet_lite_1.3", "rexnet_lite_1.5"]
    assert all(cost["printed"] is None for cost in told["detectors"])


@pytest.mark.parametrize("arguments", [["resnet50", "--ssdlite"], ["nothing*", "--ssdlite"]])
def test_a_network_without_the_maps_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("models", arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_detectron2_detectors_say_what_they_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "detectron2" else find(name, *rest)
    )
    assert execute("models", ["--detectors"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: --detectors counts detectron2's heads, and detectron2 is not installed; `make setup` installs it; "
        "--ssdlite needs torchvision alone\n"
    )
    assert execute("models", ["rexnet_1.0"]) == 0


def test_detectors_are_counted_beside_what_the_paper_prints(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("detectron2")
    told = printed_json(["--detectors"], capsys)
    rows = {(cost["name"], cost["detector"]): cost for cost in told["detectors"]}
    assert [name for name, kind in rows if kind == "mask_rcnn"] == [
        "rexnet_0.9", "rexnet_1.0", "resnet50", "resnext101_32x4d", "rexnet_2.2",
    ]  # fmt: skip
    assert rows["resnet50", "faster_rcnn"]["printed"]["parameters_millions"] == 41.8
    assert round(rows["resnet50", "faster_rcnn"]["parameters"] / 1e6, 1) == 41.8
    assert rows["resnext101_32x4d", "faster_rcnn"]["printed"]["parameters_millions"] == 60.4
    assert rows["resnext101_32x4d", "mask_rcnn"]["printed"] is None
    assert "1280 x 800" in told["rule"]


def test_a_cifar_form_is_no_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("detectron2")
    assert execute("models", ["resnet20_cifar", "--detectors"]) == 2
    assert "no network that matches 'resnet20_cifar' has maps at strides 4 to 32" in capsys.readouterr().err
