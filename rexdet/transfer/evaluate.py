"""Accuracy of a classifier, the same at any batch size: evaluation mode, every image once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.processes import gather, rank, share, world_size
from rexdet.transfer.augment import Normaliser
from rexdet.weights.pixels import Preprocessing


@dataclass(frozen=True)
class Evaluation:
    """predictions, labels: (N,) int64, places in the classes. loss: mean cross-entropy over the images."""

    predictions: Tensor
    labels: Tensor
    loss: float

    @property
    def top1(self) -> float:
        """Share of the images that are classified right, 0 to 1."""
        return float((self.predictions == self.labels).double().mean())

    @property
    def mean_per_class(self) -> float:
        """Mean over the classes that have images of the share that is classified right, 0 to 1."""
        right = (self.predictions == self.labels).double()
        return float(torch.stack([right[self.labels == label].mean() for label in self.labels.unique()]).mean())

    def as_metrics(self) -> dict[str, float | None]:
        """The numbers as a run's record holds them; a loss that is not finite is None."""
        loss = self.loss if torch.isfinite(torch.tensor(self.loss)) else None
        return {"top1": self.top1, "mean_per_class": self.mean_per_class, "loss": loss}


class EvaluationImages(Protocol):
    """What is evaluated: images of one size by place, with their labels (N,) int64."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""

    def __len__(self) -> int: ...

    def images(self, indices: Sequence[int] | Tensor, /) -> Tensor:
        """(B, 3, S, S) uint8 RGB."""


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: EvaluationImages,
    pixels: Preprocessing,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    amp: str | None = None,
) -> Evaluation:
    """Classify every image of a split. The network's mode is as before afterwards.

    Norms use their running statistics, so neither the batch size nor the number of processes changes anything but the
    speed: among several, each takes every world_size-th image, and all get the whole. amp: "bf16" or None.
    """
    normalise = Normaliser(pixels)
    own = torch.arange(rank(), len(images), world_size())
    predictions, total = [torch.empty(0, dtype=torch.int64)], 0.0
    device = torch.device(device)
    with evaluation_mode(network), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp == "bf16"):
        for start in range(0, len(own), batch_size):
            places = own[start : start + batch_size]
            batch = normalise(images.images(places).to(device)).contiguous(memory_format=torch.channels_last)
            logits = network(batch).float().cpu()
            total += float(F.cross_entropy(logits, images.labels[places], reduction="sum"))
            predictions.append(logits.argmax(1))
    parts = share(gather((torch.cat(predictions), total)))
    whole = torch.empty(len(images), dtype=torch.int64)
    for number, (part, _) in enumerate(parts):
        whole[number :: len(parts)] = part
    return Evaluation(whole, images.labels, sum(loss for _, loss in parts) / len(images))


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Within the block every module is in evaluation mode; afterwards each is as it was."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
