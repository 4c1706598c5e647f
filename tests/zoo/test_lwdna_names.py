"""lwdna:NAME and lwdna:FILE: a genome's network wherever a name goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rexdet
from rexdet.zoo.costs import cost_of
from rexdet.zoo.genome import Genome, find_genome, shipped_genomes, write_genome
from rexdet.zoo.registry import identify, resolve, skeleton

SHIPPED = [f"lwdna:{name}" for name in shipped_genomes()]


@pytest.fixture
def genome_file(tmp_path: Path) -> Path:
    """A genome of ResNet-20 for 32 x 32 images whose first block is narrower inside."""
    path = tmp_path / "my genome.yaml"
    write_genome(path, Genome(network="resnet20b_cifar", channels={"stages.0.0.unit1": 5}))
    return path


def test_the_genomes_that_come_with_rexdet_are_listed() -> None:
    assert SHIPPED
    assert rexdet.list_models("lwdna:*") == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_genome_is_its_base_at_its_widths(name: str) -> None:
    genome = find_genome(name)
    network, base = rexdet.create_model(name), resolve(genome.network)
    assert type(network) is base.constructor
    assert {key: network.channels[key] for key in genome.channels} == genome.channels
    assert resolve(name).detection == base.detection
    backbone = rexdet.create_backbone(name)
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert {level: tensor.shape[1] for level, tensor in maps.items()} == {
        level: feature.channels for level, feature in backbone.features.items()
    }
    assert cost_of(name).macs == pytest.approx(int(genome.provenance["macs"]), rel=0.001)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_of_weights_tells_the_widths_and_not_the_genomes_name(name: str) -> None:
    state = skeleton(name).state_dict()
    found = identify(state)
    assert found is not None
    base, overrides = found
    assert not base.startswith("lwdna:")
    assert set(overrides) == {"channels"}
    shapes = {key: tensor.shape for key, tensor in skeleton(base, **overrides).state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in state.items()}


def test_a_file_of_ones_own_is_a_name_too(genome_file: Path) -> None:
    name = f"lwdna:{genome_file}"
    network = rexdet.create_model(name)
    assert network.channels["stages.0.0.unit1"] == 5
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert resolve(name).detection is False
    assert rexdet.create_model(f"nm2:1/{name}", num_classes=3)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_its_weights_go_to_it_and_to_nothing_else(genome_file: Path, tmp_path: Path) -> None:
    name, weights = f"lwdna:{genome_file}", tmp_path / "weights.pth"
    torch.manual_seed(0)
    network = rexdet.create_model(name).eval()
    torch.save(network.state_dict(), weights)
    again = rexdet.create_model(name, weights=weights).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(x), network(x))
    with pytest.raises(rexdet.UserError):
        rexdet.create_model("resnet20b_cifar", weights=weights)


def test_the_widths_are_the_names(genome_file: Path) -> None:
    with pytest.raises(rexdet.UserError, match="channels is what the name says"):
        rexdet.create_model(f"lwdna:{genome_file}", channels={"stem": 8})
    assert rexdet.create_model(f"lwdna:{genome_file}", drop_path=0.1) is not None


def test_a_genome_of_another_packages_network_is_a_classifier(tmp_path: Path) -> None:
    path = tmp_path / "mobile.yaml"
    write_genome(path, Genome(network="torchvision:mobilenet_v2", channels={"features.18.0": 640}))
    name = f"lwdna:{path}"
    assert rexdet.create_model(name, num_classes=7).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert resolve(name).detection is False
    assert cost_of(name).channels == {}
    with pytest.raises(rexdet.UserError, match="builds its classifier, and no backbone"):
        rexdet.create_backbone(name)


@pytest.mark.parametrize("name", ["lwdna:nothing", "lwdna:nothing.yaml", "nm2:1/lwdna:nothing"])
def test_a_genome_that_there_is_not_is_one_line(name: str) -> None:
    with pytest.raises(rexdet.UserError, match=r"no genome|no such genome"):
        rexdet.create_model(name)
