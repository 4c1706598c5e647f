"""The N:M rule at a small scale: does a network with fewer activations than convolutions classify better?

Where the activations go is a rule of ours (rexdet.nets.nm_relu), and so is this study: the paper's placement and tables
could not be verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from rexdet.runs import Network
from rexdet.studies.cells import Cell, config_text
from rexdet.studies.networks import make_network, removed_activations
from rexdet.transfer.job import Job
from rexdet.transfer.optimise import network_options

NAME = "nm_relu"
# In a residual branch of two convolutions all ratios take the same activation; in a plain chain they differ.
NETWORKS = ("plain6_cifar", "resnet8b_cifar")
BASELINE = "1:1"
SETTINGS = (BASELINE, "2:1", "3:2")


def distinct_settings(network: str, ratios: Sequence[str], size: int) -> tuple[list[str], dict[str, str]]:
    """The ratios that give different networks, and for each of the others the one whose network it gives again."""
    first: dict[tuple[str, ...], str] = {}
    same: dict[str, str] = {}
    for ratio in ratios:
        removed = removed_activations(network, ratio, size)
        if removed in first:
            same[ratio] = first[removed]
        else:
            first[removed] = ratio
    return list(first.values()), same


def make_job(cell: Cell, output: Path) -> Job:
    """The run of a cell: its network under its ratio, from random weights."""
    images = cell.train_images()
    name = cell.network if cell.setting == BASELINE else f"nm{cell.setting}/{cell.network}"

    def build() -> nn.Module:
        return make_network(name, len(images.classes), **network_options(cell.protocol))

    removed = removed_activations(cell.network, cell.setting, cell.protocol.size())
    return Job(
        name=cell.name,
        folder=cell.folder(output),
        network=Network(name=name),
        build=build,
        protocol=cell.protocol,
        train=images,
        test=cell.test_images,
        seed=cell.seed,
        config=config_text(cell),
        notes={"nm_rule": {"removed_activations": float(len(removed))}},
    )
