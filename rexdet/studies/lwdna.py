"""LW-DNA's claim at a small scale: do the widths that its search finds classify better than the network's own?

For each seed the network is widened, its widths are searched on the first two mini-batches that training will see, and
the threshold is set so that the result costs no more than the network itself. Then both are trained alike, from
scratch. The criterion is the paper's (gradient), what the released code of its ResNet-50 does (magnitude, a null by
construction), or random.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets.complexity import count
from rexdet.runs import Network, ResumableSampler
from rexdet.shrink.criteria import CRITERIA
from rexdet.shrink.search import SearchResult, search
from rexdet.shrink.widen import widen
from rexdet.studies.cells import Cell, config_text
from rexdet.transfer.augment import Augmenter, Normaliser
from rexdet.transfer.job import Job
from rexdet.transfer.optimise import network_options
from rexdet.zoo.genome import write_genome
from rexdet.zoo.open import create_model

NAME = "lwdna"
NETWORKS = ("resnet8b_cifar",)
BASELINE = "baseline"
SETTINGS = (BASELINE, *CRITERIA)
WEIGHTS = ("reinitialised", "inherited")
# What is compared with what, beside every criterion with the baseline.
COMPARED = (
    ("gradient", BASELINE),
    ("magnitude", BASELINE),
    ("random", BASELINE),
    ("gradient", "magnitude"),
    ("gradient", "random"),
)
GENOME_FILE = "genome.yaml"


def make_job(cell: Cell, output: Path) -> Job:
    """The run of a cell; for a criterion the widths are searched here.

    Options of the cell: width (of the widened network, 2 in the paper), weights ("reinitialised" or "inherited"), and
    remain and linear, the floors of the search. Raises UserError where the floors cost more than the network itself.
    """
    images = cell.train_images()
    classes = len(images.classes)
    notes: dict[str, dict[str, float | None]] = {}
    files: dict[str, str] = {}
    overrides: dict[str, object] = {}
    if cell.setting == BASELINE:

        def build() -> nn.Module:
            return create_model(cell.network, classes, **network_options(cell.protocol))

    else:
        result = find_widths(cell)
        folder = cell.folder(output)
        write_genome(folder / GENOME_FILE, result.genome)
        files["genome"] = GENOME_FILE
        overrides["channels"] = dict(result.genome.channels)
        notes["search"] = {
            "baseline_macs": float(result.baseline_macs),
            "widened_macs": float(result.widened_macs),
            "macs": float(result.macs),
        }

        def build() -> nn.Module:
            # The weights that the search ends with, or fresh ones: the claim is about the widths.
            if cell.options["weights"] == "inherited":
                return result.model
            return result.genome.build(classes, **network_options(cell.protocol))

    return Job(
        name=cell.name,
        folder=cell.folder(output),
        network=Network.model_validate({"name": cell.network, "overrides": overrides}),
        build=build,
        protocol=cell.protocol,
        train=images,
        test=cell.test_images,
        seed=cell.seed,
        config=config_text(cell),
        notes=notes,
        files=files,
    )


def find_widths(cell: Cell) -> SearchResult:
    """Search the widths of a cell at no more than the cost of its network. A function of the cell alone."""
    options = cell.options
    classes = len(cell.train_images().classes)
    size = cell.protocol.size()
    shape = (1, 3, size, size)
    widened = count(widen(cell.network, options["width"], classes, input_size=size), shape).macs
    baseline = count(create_model(cell.network, classes), shape).macs
    if baseline >= widened:
        raise UserError(f"width {options['width']} widens nothing", cell.network, "give more than 1")
    return search(
        cell.network,
        ratio=baseline / widened,
        width=options["width"],
        criterion=cell.setting,
        data=first_batches(cell),
        seed=cell.seed,
        num_classes=classes,
        input_size=size,
        remain=options["remain"],
        linear=options["linear"],
        micro_batch=cell.protocol.batch_size,
        learning_rate=cell.protocol.learning_rate,
    )


def first_batches(cell: Cell) -> Iterator[tuple[Tensor, Tensor]]:
    """The mini-batches that the training of a cell begins with: images (B, 3, H, W) as it sees them, labels (B,)."""
    images, protocol = cell.train_images(), cell.protocol
    sampler = ResumableSampler(len(images), cell.seed, batch_size=protocol.batch_size)
    normalise = Normaliser(protocol.preprocessing())
    augment = Augmenter(protocol.augmentation, seed=cell.seed, length=len(images))
    order = iter(sampler)
    while True:
        samples = list(islice(order, protocol.batch_size))
        places = torch.tensor([index for _, index in samples])
        yield augment(normalise(images.images(places)), samples), images.labels[places]
