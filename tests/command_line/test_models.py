"""tools/models.py: the named networks and what they cost."""

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
    assert costs["rexnet_1.0"]["parameters"] == 4_796_873
    assert costs["rexnet_1.0"]["channels"] == [38, 61, 128, 185]
    assert costs["rexnet_1.0"]["tags"] == ["nav_in1k"]
    assert costs["rexnet_0.9"]["tags"] == []


def test_the_table_names_networks_and_tags(capsys) -> None:
    assert execute("models", ["rexnet_lite_1.0"]) == 0
    out = capsys.readouterr().out
    assert "4,740,056" in out
    assert "@nav_in1k" in out
    assert "rexnet_1.0" not in out


@pytest.mark.parametrize("arguments", [["nothing*"], ["--size", "8"]])
def test_a_mistake_is_one_line(arguments: list[str], capsys) -> None:
    assert execute("models", arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
