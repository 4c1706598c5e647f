"""tools/search_lwdna.py: what it leaves in its folder, and what it refuses."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rexdet.cli import execute
from rexdet.runs import read_record
from rexdet.shrink.data import folder_batches, list_pictures
from rexdet.weights.formats import read_file
from rexdet.zoo.genome import read_genome

NETWORK = "resnet20b_cifar"


def make_pictures(folder: Path, count: int, classes: list[str]) -> Path:
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "animals", 130, ["cat", "dog", "owl"])


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The folder of a search on pictures."""
    output = tmp_path_factory.mktemp("search") / "run"
    command = ["--network", NETWORK, "--ratio", "0.25", "--width", "2", "--data", str(pictures), "--seed", "3"]
    assert execute("search_lwdna", [*command, "--output", str(output), "--save-weights"]) == 0
    return output


def test_it_leaves_genome_ratios_plot_weights_and_record(searched: Path) -> None:
    genome = read_genome(searched / "genome.yaml")
    record = read_record(searched)
    assert (record.kind, record.status, record.seed) == ("search", "done", 3)
    assert record.network is not None
    assert record.network.name == genome.network == NETWORK
    assert set(record.files.values()) == {
        "genome.yaml",
        "keep_ratios.json",
        "keep_ratios.png",
        "inherited.safetensors",
    }
    assert all((searched / name).is_file() for name in record.files.values())
    cost = record.metrics["cost"]
    assert cost["macs"] == genome.provenance["macs"]
    assert 0.24 < cost["share_of_widened"] <= 0.25
    ratios = json.loads((searched / "keep_ratios.json").read_text())
    assert record.metrics["keep_ratio"] == ratios
    assert ratios["stem"] == genome.channels["stem"] / 32
    assert Image.open(searched / "keep_ratios.png").size[0] > 300
    assert record.data.train is not None
    assert record.data.train.images == 128
    assert record.data.train.fingerprint is not None
    assert record.recipe is not None
    assert record.recipe.effective_batch == 64


def test_a_genome_names_the_folder_of_its_data_and_not_where_it_lies(searched: Path, pictures: Path) -> None:
    assert read_genome(searched / "genome.yaml").provenance["data"] == "128 pictures of animals"
    assert str(pictures) not in (searched / "genome.yaml").read_text()


def test_inherited_weights_fill_the_network_of_the_genome(searched: Path) -> None:
    network = read_genome(searched / "genome.yaml").build()
    network.load_state_dict(read_file(searched / "inherited.safetensors").value)
    assert torch.isfinite(network.eval()(torch.randn(2, 3, 32, 32))).all()


def test_it_says_what_it_found_and_that_the_controls_say_nothing(tmp_path: Path, capsys) -> None:
    command = ["--network", NETWORK, "--ratio", "0.25", "--criterion", "magnitude", "--output", str(tmp_path / "run")]
    assert execute("search_lwdna", command) == 0
    out = capsys.readouterr().out
    assert "% of the widened network's" in out
    assert "magnitude says nothing about the layers" in out
    assert "rebuilt network = masked network within" in out
    assert str(tmp_path / "run" / "genome.yaml") in out
    assert execute("search_lwdna", command) == 2
    assert "holds a finished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (["--network", "resnet51"], "there is no network 'resnet51'"),
        (["--ratio", "2"], "ratio is 2.0"),
        (["--ratio", "0.01"], "the floors alone cost"),
        (["--criterion", "size"], "there is no criterion 'size'"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", str(2**63)], "seed is 9223372036854775808"),
        (["--width", "inf"], "width is inf"),
        (["--width", "1e9"], "makes a layer of 64,000,000,000 channels"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--learning-rate", "-0.1"], "learning_rate is -0.1"),
        (["--network", ""], "'' is no name"),
        (["--output", ""], "--output is empty"),
        (["--micro-batch", "0"], "micro_batch is 0"),
        (["--input-size", "0"], "input size is 0"),
        (["--num-classes", "0"], "num_classes is 0"),
    ],
)
def test_mistakes_are_one_line_and_status_2(switches: list[str], message: str, tmp_path: Path, capsys) -> None:
    command = ["--network", NETWORK, "--ratio", "0.25", "--output", str(tmp_path / "run"), *switches]
    assert execute("search_lwdna", command) == 2
    (line,) = capsys.readouterr().err.splitlines()  # Before any image is looked at: no progress bar.
    assert message in line
    assert not (tmp_path / "run" / "genome.yaml").exists()


def test_labels_come_from_folders_numbers_or_names(tmp_path: Path) -> None:
    named = make_pictures(tmp_path / "named", 4, ["zebra", "ant"])
    assert [(path.parent.name, label) for path, label in list_pictures(named)][::2] == [("ant", 0), ("zebra", 1)]
    numbered = make_pictures(tmp_path / "numbered", 4, ["10", "9"])
    assert {path.parent.name: label for path, label in list_pictures(numbered)} == {"10": 10, "9": 9}
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "0042_n01_agama.jpg")
    assert [label for _, label in list_pictures(flat)] == [42]


def test_pictures_are_drawn_once_each_and_the_same_for_a_seed(pictures: Path) -> None:
    first, again = list(folder_batches(pictures, 32, 0)), list(folder_batches(pictures, 32, 0))
    assert len(first) == 2
    for (images, labels), (same, theirs) in zip(first, again, strict=True):
        assert images.shape == (64, 3, 32, 32)
        assert torch.equal(images, same)
        assert torch.equal(labels, theirs)
        assert set(labels.tolist()) == {0, 1, 2}
    other = next(folder_batches(pictures, 32, 1))
    assert not torch.equal(first[0][0], other[0])


def test_data_that_cannot_be_used_is_refused(tmp_path: Path, capsys) -> None:
    few = make_pictures(tmp_path / "few", 5, ["cat", "dog"])
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    Image.new("RGB", (8, 8)).save(nameless / "picture.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = make_pictures(tmp_path / "broken", 128, ["cat", "dog"])
    (broken / "cat" / "0.png").write_bytes(b"no picture")
    many = make_pictures(tmp_path / "many", 130, [str(label) for label in range(13)])
    for folder, message in (
        (few, "holds 5 pictures, and a search looks at 128"),
        (nameless, "a picture without a class"),
        (empty, "holds no pictures"),
        (broken, "cannot be read"),
        (many, "the network has 10 classes"),
    ):
        command = ["--network", NETWORK, "--ratio", "0.25", "--data", str(folder), "--output", str(tmp_path / "run")]
        assert execute("search_lwdna", command) == 2
        assert message in capsys.readouterr().err


def test_a_picture_that_claims_to_be_endless_is_one_line(tmp_path: Path, capsys) -> None:
    """A PNG of 60,000 x 60,000 pixels by its header: Pillow's error for it is no OSError."""
    folder = make_pictures(tmp_path / "data", 128, ["cat", "dog"])
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    command = ["--network", NETWORK, "--ratio", "0.25", "--data", str(folder), "--output", str(tmp_path / "run")]
    assert execute("search_lwdna", command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cat/0.png: cannot be read" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [["--ratio", "1.5"], ["--ratio", "nan"], ["--criterion", "best"], ["--seed", "-1"]])
def test_what_no_search_can_be_asked_for_leaves_no_folder(tmp_path: Path, capsys, wrong: list[str]) -> None:
    output = tmp_path / "run"
    assert execute("search_lwdna", ["--network", NETWORK, "--ratio", "0.25", "--output", str(output), *wrong]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not output.exists()
