"""The search: widen a network, take two steps through a hypernetwork, shrink it in one shot (arXiv 2006.16242)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.nets.complexity import Complexity, count
from rexdet.shrink.criteria import CRITERIA, scores
from rexdet.shrink.data import random_batches
from rexdet.shrink.emit import genome_keys, largest_difference, mask, shrunk_state
from rexdet.shrink.hypernet import Hypernetwork
from rexdet.shrink.threshold import check_target, shrink
from rexdet.shrink.widen import baseline, default_input_size, trace_named, widen
from rexdet.shrink.widen import costs as costs
from rexdet.zoo.genome import Genome

Batch = tuple[Tensor, Tensor]
MINI_BATCHES = 2
LARGEST_SEED = 2**63 - 1  # torch takes no larger one.
MADE_BY = "rexdet's own search (tools/search_lwdna.py)"


@dataclass(frozen=True)
class Settings:
    """What a search is told beside network, cost and data; the paper's values (as released) by default.

    remain, linear: the share of its channels that a layer keeps at least; linear for what the classifier reads.
    embedding_dim: m of the hypernetwork. micro_batch: images that are in memory at once; norms see these alone.
    loss_scale: the loss is multiplied by it.
    """

    remain: float = 0.4
    linear: float = 0.45
    embedding_dim: int = 2
    micro_batch: int = 8
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    loss_scale: float = 1.0

    def check(self) -> None:
        for name in ("remain", "linear"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name} is {getattr(self, name)}", fix="give a share from 0 to 1")
        for name in ("embedding_dim", "micro_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}", fix="give a number of at least 1")
        for name in ("learning_rate", "loss_scale"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}", fix="give a positive number")
        if not 0.0 <= self.weight_decay < math.inf:
            raise UserError(f"weight_decay is {self.weight_decay}", fix="give 0 or a positive number")


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    genome: the widths. model: the network at these widths with the weights that it inherits from the widened one, in
    training mode. keep_ratios: layer -> share of the widened layer's channels that stay. macs, baseline_macs,
    widened_macs: multiply-accumulates of one image. threshold: the lowest score that was kept for its own sake.
    losses: of the mini-batches. difference: of the masked and the rebuilt network's outputs; "float64" relative to how
    far apart those of two images are, "float32" relative to the largest. seconds: by part of the search.
    """

    genome: Genome
    model: nn.Module
    keep_ratios: dict[str, float]
    macs: int
    baseline_macs: int
    widened_macs: int
    parameters: int
    threshold: float
    criterion: str
    losses: list[float]
    difference: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)


def search(
    network: str,
    *,
    ratio: float,
    width: float = 2.0,
    criterion: str = "gradient",
    data: Iterable[Batch] | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    input_size: int | None = None,
    remain: float = 0.4,
    linear: float = 0.45,
    embedding_dim: int = 2,
    micro_batch: int = 8,
    learning_rate: float = 0.1,
    weight_decay: float = 1e-4,
    loss_scale: float = 1.0,
    progress: bool = False,
) -> SearchResult:
    """Search layer-wise widths for a named network.

    network: one of ours, or of torchvision ("torchvision:mobilenet_v2"), without a tag. ratio: cost wanted, as a share
    of the widened network's multiply-accumulates; the result costs that or a little less. width: every layer has
    int(width * channels) in the widened network, a layer in groups that many inside each group.
    criterion: "gradient", "magnitude" or "random". data: mini-batches (images (N, 3, H, W) float as the network is to
    be trained on, labels (N,) int64), of which two are read; None for random images and labels.
    seed: of hypernetwork, random data and random criterion; the caller's random state stays as it is.
    num_classes, input_size: None for the network's own; an image is (3, input_size, input_size). The rest: Settings.

    Raises UserError for a name that cannot be searched, data that does not fit, and a ratio below the floors.
    """
    settings = Settings(remain, linear, embedding_dim, micro_batch, learning_rate, weight_decay, loss_scale)
    size = default_input_size(network) if input_size is None else input_size
    check_request(settings, criterion, ratio, size, seed)
    clock = _Clock()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        baseline_macs = count(baseline(network, num_classes), (1, 3, size, size)).macs
        wide = widen(network, width, num_classes, input_size=size).train()
        coupling = trace_named(network, wide, size)
        widened_macs = coupling.macs(np.ones(coupling.size, dtype=bool))
        target, shares = int(ratio * widened_macs), {"remain": remain, "linear": linear}
        with _in_network(network):
            check_target(coupling, target, **shares)
        hypernetwork = Hypernetwork(wide, coupling, embedding_dim=embedding_dim)
        clock.lap("widen")
        classes = coupling.layers[-1].out_classes.size
        batches = random_batches(classes, size, seed) if data is None else iter(data)
        gradient, losses = _two_steps(hypernetwork, batches, classes, settings, progress=progress)
        clock.lap("two steps")
        values = scores(criterion, hypernetwork.latent, gradient, seed).double().numpy()
        if not values.any():
            raise UserError(
                "the gradient is 0 in every channel, so it prefers none",
                where=network,
                fix="a classifier needs two classes at least",
            )
        with _in_network(network):
            found = shrink(coupling, values, target, **shares)
        clock.lap("threshold")
        hypernetwork.fill()
        del hypernetwork  # The largest part of the memory.
        keys, widths = genome_keys(wide, coupling), coupling.widths(found.keep)
        genome = Genome(
            network=network,
            channels={key: widths[path] for path, key in keys.items()},
            provenance={
                "made_by": MADE_BY,
                "criterion": criterion,
                "ratio": ratio,
                "width": width,
                "seed": seed,
                "data": "random" if data is None else "given",
                **shares,
                "input_size": size,
                "macs": found.macs,
                "baseline_macs": baseline_macs,
                "widened_macs": widened_macs,
            },
        )
        model = genome.build(num_classes)
        model.load_state_dict(shrunk_state(wide, coupling, found.keep))
        cost = _check_cost(model, found.macs, size)
        mask(wide, coupling, found.keep)  # In place: from here on `wide` is the masked network.
        difference = _differences(wide, model, size)
        clock.lap("rebuild")
    full = {layer.path: len(layer.out_classes) for layer in coupling.layers}
    return SearchResult(
        genome=genome,
        model=model.train(),
        keep_ratios={key: widths[path] / full[path] for path, key in keys.items()},
        macs=found.macs,
        baseline_macs=baseline_macs,
        widened_macs=widened_macs,
        parameters=cost.parameters,
        threshold=found.threshold,
        criterion=criterion,
        losses=losses,
        difference=difference,
        seconds=clock.seconds,
    )


def check_request(settings: Settings, criterion: str, ratio: float, size: int, seed: int) -> None:
    """Raise the UserError of `search` for numbers that no search can have, before anything is built."""
    settings.check()
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed is {seed}", fix=f"give a whole number from 0 to {LARGEST_SEED}")
    if criterion not in CRITERIA:
        raise UserError(f"there is no criterion {criterion!r}", fix=f"give {', '.join(CRITERIA)}")
    if not 0.0 < ratio <= 1.0:
        raise UserError(f"ratio is {ratio}", fix="give a share of the widened network's cost, above 0 and up to 1")
    if size < 1:
        raise UserError(f"input size is {size}", fix="give the side of an image in pixels")


@contextmanager
def _in_network(name: str) -> Iterator[None]:
    """What is complained of inside is told with the network's name."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=name, fix=error.fix) from None


class _Clock:
    """Seconds by part: a lap ends where the next one begins."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._started, 3)
        self._started = now


def _two_steps(
    hypernetwork: Hypernetwork, batches: Iterator[Batch], classes: int, settings: Settings, *, progress: bool
) -> tuple[Tensor, list[float]]:
    """Train on two mini-batches; returns the last one's gradient of the latent numbers, and the losses."""
    gradient = torch.zeros_like(hypernetwork.latent)
    losses = []
    for number in range(MINI_BATCHES):
        batch = next(batches, None)
        if batch is None:
            raise UserError(f"data has {number} mini-batches", fix=f"give at least {MINI_BATCHES}")
        _check_batch(batch, classes)
        hypernetwork.fill()
        losses.append(_accumulate(hypernetwork.network, batch, settings, progress=progress, number=number + 1))
        gradient = hypernetwork.step(learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)
    return gradient, losses


def _accumulate(network: nn.Module, batch: Batch, settings: Settings, *, progress: bool, number: int) -> float:
    """Forward and backward through one mini-batch in micro-batches; the loss is the mean over the whole of it."""
    images, labels = batch
    total = 0.0
    dtype = next(network.parameters()).dtype
    starts = range(0, len(images), settings.micro_batch)
    for start in tqdm(starts, desc=f"mini-batch {number} of {MINI_BATCHES}", disable=not progress):
        part = slice(start, start + settings.micro_batch)
        loss = F.cross_entropy(network(images[part].to(dtype)), labels[part], reduction="sum") / len(images)
        (loss * settings.loss_scale).backward()
        total += float(loss.detach())
    return total


def _check_batch(batch: Batch, classes: int) -> None:
    images, labels = batch
    if images.dim() != 4 or images.shape[1] != 3 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(
            f"a mini-batch has images {tuple(images.shape)} and labels {tuple(labels.shape)}",
            fix="give images (N, 3, H, W) and labels (N,)",
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(
            f"a label is {int(labels.max())}, and the network has {classes} classes", fix="give num_classes"
        )


def _check_cost(model: nn.Module, expected: int, size: int) -> Complexity:
    cost = count(model, (1, 3, size, size))
    if cost.macs != expected:
        raise AssertionError(f"the rebuilt network costs {cost.macs} MACs, and the masks say {expected}")
    return cost


def _differences(masked: nn.Module, rebuilt: nn.Module, size: int) -> dict[str, float]:
    images = torch.randn(2, 3, size, size)
    single, _ = largest_difference(masked, rebuilt, images)
    _, double = largest_difference(masked.double(), copy.deepcopy(rebuilt).double(), images.double())
    return {"float32": single, "float64": double}
