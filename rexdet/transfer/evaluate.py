"""Accuracy of a classifier, the same at any batch size: evaluation mode, every image once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rexdet.transfer.augment import Normaliser
from rexdet.transfer.images import ImageSet
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


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: ImageSet,
    pixels: Preprocessing,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Classify every image of a split. The network's mode is as before afterwards.

    Norms use their running statistics, so the batch size changes nothing but speed.
    """
    normalise = Normaliser(pixels)
    predictions, total = [], 0.0
    with evaluation_mode(network):
        for start in range(0, len(images), batch_size):
            places = torch.arange(start, min(start + batch_size, len(images)))
            logits = network(normalise(images.images(places)).to(device)).float().cpu()
            total += float(F.cross_entropy(logits, images.labels[places], reduction="sum"))
            predictions.append(logits.argmax(1))
    return Evaluation(torch.cat(predictions), images.labels, total / len(images))


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
