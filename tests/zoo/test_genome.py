"""Genome files: read, written, built, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rexdet.errors import UserError
from rexdet.nets import count
from rexdet.zoo.genome import Genome, find_genome, read_genome, shipped_genomes, write_genome
from rexdet.zoo.resize import resize

SMALL = {"stem": 5, "stages.0.0.unit1": 7}
GENOME = """
version: 1
network: resnet20b_cifar
channels:
  stem: 5
  stages.0.0.unit2: 5
  stages.0.1.unit2: 5
  stages.0.2.unit2: 5
  stages.0.0.unit1: 7
provenance:
  criterion: gradient
  ratio: 0.23
"""


def written(folder: Path, text: str, name: str = "my genome.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_builds_the_network_that_it_tells_of(tmp_path: Path) -> None:
    genome = read_genome(written(tmp_path, GENOME))
    network = genome.build()
    assert network.stem.conv.out_channels == 5
    assert network.stages[0][0].unit1.conv.out_channels == 7
    assert network.stages[1][0].unit1.conv.out_channels == 32  # Left out: its own.
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert genome.build(3, drop_path=0.1)(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    genome = read_genome(written(tmp_path, GENOME))
    write_genome(tmp_path / "again" / "genome.yaml", genome)
    assert read_genome(tmp_path / "again" / "genome.yaml") == genome
    assert genome.provenance == {"criterion": "gradient", "ratio": 0.23}
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["genome.yaml"]


def test_names_find_files_and_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GENOME)
    assert find_genome(f"lwdna:{path}").channels["stem"] == 5
    monkeypatch.chdir(tmp_path)
    assert find_genome("lwdna:my genome.yaml") == find_genome(str(path))
    for name in shipped_genomes():
        assert find_genome(f"lwdna:{name}") == read_genome(shipped_genomes()[name])
    with pytest.raises(UserError, match=r"no genome 'resnet50_w2'.*lwdna:"):
        find_genome("lwdna:resnet50_w2")
    with pytest.raises(UserError, match=r"nothing.yaml: no such genome file"):
        find_genome("lwdna:nothing.yaml")


@pytest.mark.parametrize("name", shipped_genomes())
def test_a_shipped_genome_costs_what_it_says_and_tells_where_it_comes_from(name: str) -> None:
    genome = find_genome(f"lwdna:{name}")
    with torch.device("meta"):
        network = genome.build()
    assert set(genome.channels) == set(network.channels)
    size = genome.provenance["input_size"]
    assert count(network, (1, 3, size, size)).macs == genome.provenance["macs"]
    assert genome.provenance["macs"] <= genome.provenance["ratio"] * genome.provenance["widened_macs"]
    assert "own search" in genome.provenance["made_by"]
    assert genome.provenance["data"] not in ("given", "")
    # `resnet50_lwdna` is the authors' network, which only their file gives.
    assert name != "resnet50_lwdna"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a genome: it has no `network`"),
        ("network: resnet18\n", "not a genome: it has no `network` and `channels`"),
        ("- 1\n- 2\n", "not a genome"),
        ("network: [", "not YAML"),
        ("\x00", "not YAML"),
        ("network: resnet18\nchannels: {}\n", "channels"),
        ("network: resnet18\nchannels: {stem: 0}\n", r"channels.stem: .* \(got 0\)"),
        ("network: resnet18\nchannels: {stem: -3}\n", r"channels.stem"),
        ("network: resnet18\nchannels: {stem: 3.5}\n", r"channels.stem"),
        ("network: resnet18\nchannels: {stem: 1000000000}\n", r"channels.stem: .* 65536"),
        ("network: resnet18\nchannels: {stem: '64'}\n", r"channels.stem"),
        ("network: resnet18\nchannels: {stem: true}\n", r"channels.stem"),
        ("network: resnet18\nchannels: {stem: 3, stem: 4}\n", "stem is there twice"),
        ("network: resnet18\nchannels: {stem: 3}\nchannel: {}\n", "channel: Extra inputs"),
        ("network: resnet18\nversion: 2\nchannels: {stem: 3}\n", "version"),
        ("network: resnet50@tv_in1k\nchannels: {stem: 3}\n", "without a tag"),
        ("network: nm2:1/resnet50\nchannels: {stem: 3}\n", "a rule"),
        ("network: lwdna:other.yaml\nchannels: {stem: 3}\n", "or a genome"),
        ("network: timm:resnet18\nchannels: {stem: 3}\n", "one of our networks or torchvision's"),
        ("network: ''\nchannels: {stem: 3}\n", "network"),
        ("network: 'res net'\nchannels: {stem: 3}\n", "no name of a network"),
        ("network: 18\nchannels: {stem: 3}\n", "network"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
        ("w: &w {stem: 64}\nnetwork: resnet18\nchannels: *w\n", r"no references \(\*name\)"),
        ("network: resnet18\nchannels: {stem: " + "9" * 5000 + "}\n", "not YAML: Exceeds the limit"),
        ("network: resnet18\nchannels: " + "[" * 3000 + "]" * 3000 + "\n", "not YAML: maximum recursion"),
        ("network: resnet18\nchannels: {stem: 3}\n" + "#" * 1_000_000, "1,000,038 characters"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_genome(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(UserError, match="not a genome file"):
            read_genome(path)


@pytest.mark.parametrize(
    ("network", "channels", "message"),
    [
        ("resnet18", {"stm": 8}, "did you mean stem"),
        ("resnet18", {"stem": 8}, "all blocks of one stage write the same width"),
        ("resnext50_32x4d", {"stages.0.0.unit1": 100}, "no multiple of 32 groups"),
        ("resnet99", {"stem": 8}, "there is no network 'resnet99'"),
        ("torchvision:mobilenet_v2", {"features.0": 8}, r"no free convolution 'features.0'; did you mean features.0.0"),
        ("torchvision:mobilenet_v2", {"features.2.conv.1.0": 8}, "no free convolution"),  # Depthwise.
        ("torchvision:mobilenet_v2", {"features.3.conv.2": 20}, "do not fit together"),
        ("torchvision:regnet_x_400mf", {"trunk_output.block1.block1-0.f.a.0": 33}, "divided into 2 groups"),
        ("torchvision:nothing", {"stem": 8}, "no classifier 'nothing'"),
    ],
)
def test_widths_that_do_not_fit_are_refused_when_it_is_built(
    network: str, channels: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Genome(network=network, channels=channels).build()
    assert "\n" not in str(caught.value)


def test_torchvisions_networks_take_widths_and_the_rest_follows() -> None:
    genome = Genome(
        network="torchvision:mobilenet_v2",
        channels={"features.0.0": 20, "features.2.conv.0.0": 50, "features.18.0": 600},
    )
    network = genome.build(7)
    assert network.features[1].conv[0][0].groups == network.features[1].conv[0][0].out_channels == 20
    assert network.features[1].conv[0][1].num_features == 20
    assert network.features[2].conv[1][0].weight.shape == (50, 1, 3, 3)
    assert network.features[2].conv[2].weight.shape == (24, 50, 1, 1)
    assert network.classifier[1].weight.shape == (7, 600)
    assert network.train()(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    assert not any((parameter == 0).all() for parameter in network.parameters() if parameter.dim() > 1)


def test_own_widths_change_nothing() -> None:
    import torchvision

    network = torchvision.models.efficientnet_b0()
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    own = {
        path: module.out_channels
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1
    }
    resized = resize(network, own)
    assert resized is network
    assert {key: tensor.shape for key, tensor in resized.state_dict().items()} == shapes
