"""tools/models.py: the named networks, what they cost and what was published of them."""

from __future__ import annotations

import json

import pytest

import rexdet
from rexdet.cli import execute

# GMACs at 224 x 224 as the authors' code counts (convolutions and the classifier).
GMACS = {"rexnet_0.9": 0.348, "rexnet_1.0": 0.398, "rexnet_1.3": 0.662, "rexnet_2.0": 1.529, "rexnet_3.0": 3.396}


def test_every_listed_network_has_its_published_cost(capsys) -> None:
    assert execute("models", ["rexnet_?.?", "--json"]) == 0
    costs = {cost["name"]: cost for cost in json.loads(capsys.readouterr().out)}
    assert list(costs) == rexdet.list_models("rexnet_?.?")
    for name, gmacs in GMACS.items():
        assert costs[name]["macs"] / 1e9 == pytest.approx(gmacs, abs=0.0006)
    rexnet = costs["rexnet_1.0"]
    assert rexnet["parameters"] == 4_796_873
    assert rexnet["channels"] == {"res2": 38, "res3": 61, "res4": 128, "res5": 185}
    assert rexnet["weights"] == [{"tag": "nav_in1k", "licence": "MIT", "top1": 77.862}]
    assert rexnet["accuracy"]["value"] == 77.9
    assert rexnet["accuracy"]["protocol"] == "rexnet_imagenet"
    assert rexnet["accuracy"]["source"]["address"] == "https://arxiv.org/abs/2007.00992"
    assert costs["rexnet_0.9"]["weights"] == []


def test_the_table_names_networks_accuracy_source_and_weights(capsys) -> None:
    assert execute("models", ["rexnet_lite_1.0"]) == 0
    out = capsys.readouterr().out
    assert "4,740,056" in out
    assert "@nav_in1k (MIT)" in out
    assert "76.2" in out
    assert "clovaai/rexnet, README.md" in out
    assert "rexnet_1.0" not in out


@pytest.mark.parametrize(
    ("name", "parameters", "size", "accuracy"),
    [
        ("resnext50_32x4d", 25_028_904, 224, ("top1", 77.618)),
        ("resnext50_8x14d", 25_603_016, 224, ("top1_error", 22.3)),
        ("resnext29_8x64d_cifar", 34_426_634, 32, ("top1_error", 3.65)),
        ("rexnetr_1.0", 4_883_304, 224, None),
    ],
)
def test_a_single_network(name: str, parameters: int, size: int, accuracy: tuple[str, float] | None, capsys) -> None:
    assert execute("models", [name, "--json"]) == 0
    (cost,) = json.loads(capsys.readouterr().out)
    assert (cost["name"], cost["parameters"], cost["size"]) == (name, parameters, size)
    said = cost["accuracy"]
    assert (said and (said["metric"], said["value"])) == accuracy


def test_a_network_that_is_not_listed_is_counted_by_its_name(capsys) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    theirs = ResNet(Bottleneck, [3, 4, 6, 3], groups=16, width_per_group=8)
    assert "resnext50_16x8d" not in rexdet.list_models()
    assert execute("models", ["resnext50_16x8d", "--json"]) == 0
    (cost,) = json.loads(capsys.readouterr().out)
    assert cost["parameters"] == sum(parameter.numel() for parameter in theirs.parameters())


def test_tags_stand_by_licence(capsys) -> None:
    assert execute("models", ["resnext50_32x4d"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert "@tv_in1k @tv2_in1k (BSD-3-Clause)" in row


def test_cifar_forms_are_counted_at_their_size_and_are_no_backbones(capsys) -> None:
    assert execute("models", ["resnet20_cifar"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    # He et al., arXiv 1512.03385, Table 6: 0.27M.
    assert row.split()[:8] == ["resnet20_cifar", "269,722", "0.041", "32", "0.19", "16", "32", "64"]
    assert "8.27 error (cifar10)" in row
    assert execute("models", ["resnet20_cifar", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["detection"] is False


def test_the_network_that_only_its_authors_have_is_listed_and_not_built(capsys) -> None:
    assert execute("models", ["resnet50*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[0] == "resnet50" for line in lines)
    (row,) = (line for line in lines if line.startswith("resnet50_lwdna"))
    assert row.split(maxsplit=1)[1].strip() == "needs the authors' file"
    assert execute("models", ["resnet50_lwdna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "resnet50_lwdna", "needs": "needs the authors' file"}]


@pytest.mark.parametrize(
    "arguments",
    [["nothing*"], ["nothing"], ["--size", "8"], ["--size", "224", "--ssdlite"], ["--ssdlite", "--detectors"]],
)
def test_a_mistake_is_one_line(arguments: list[str], capsys) -> None:
    assert execute("models", arguments) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
