"""Nearest neighbours on features: each of the k nearest training images votes for its class with exp(similarity / T).

The protocol of InstDisc (Wu et al. 2018, arXiv 1805.01978, 3.4) and DINO (arXiv 2104.14294): features of length 1,
similarity = their product, T 0.07. k, T and the norm are in every table's head: without them the number says little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rexdet.errors import UserError
from rexdet.processes import is_main, share
from rexdet.transfer.evaluate import Evaluation
from rexdet.transfer.features import FeatureSet
from rexdet.transfer.probe import Metric

Norm = Literal["l2", "none"]
_IMAGES_AT_A_TIME = 512


@dataclass(frozen=True)
class KnnChoice:
    """What was chosen on the validation images: neighbours, of those offered. val: the metric of each offer, 0 to 1."""

    metric: Metric
    neighbours: int
    offered: tuple[int, ...]
    val: tuple[float, ...]
    temperature: float
    norm: Norm

    @property
    def head(self) -> str:
        """A table's column head: "kNN (k 20, T 0.07, L2)"."""
        return f"kNN (k {self.neighbours}, T {self.temperature:g}, {'L2' if self.norm == 'l2' else 'no norm'})"

    def as_metrics(self) -> dict[str, float | None]:
        """The numbers as a run's record holds them."""
        return {
            self.metric: self.val[self.offered.index(self.neighbours)],
            "k": float(self.neighbours),
            "temperature": self.temperature,
            "l2_norm": float(self.norm == "l2"),
        }


@dataclass(frozen=True)
class KnnResult:
    """choice: made on the validation images. test: the vote of train + val on the test images."""

    choice: KnnChoice
    test: Evaluation

    @property
    def head(self) -> str:
        """A table's column head."""
        return self.choice.head

    def as_metrics(self) -> dict[str, dict[str, float | None]]:
        """The numbers as a run's record holds them, by split."""
        return {"val": self.choice.as_metrics(), "test": self.test.as_metrics()}


def run_knn(
    train: FeatureSet,
    val: FeatureSet,
    test: Callable[[], FeatureSet],
    *,
    metric: Metric = "top1",
    neighbours: Sequence[int] = (20,),
    temperature: float = 0.07,
    norm: Norm = "l2",
    device: str | torch.device = "cpu",
    on_chosen: Callable[[KnnChoice], None] = lambda choice: None,
) -> KnnResult:
    """Choose k on val among `neighbours` (of equals the first), then let train + val vote on the test images.

    test: opens the test images' features; called once, after `on_chosen`. Among several processes the main one works,
    and all get its result. norm "none": similarity is minus the squared distance, of features as they are.

    Raises UserError for a k or T out of range.
    """
    choice = None
    if is_main():
        votes = [classify(train, val, k, temperature=temperature, norm=norm, device=device) for k in neighbours]
        scores = tuple(float(getattr(vote, metric)) for vote in votes)
        best = neighbours[scores.index(max(scores))]
        choice = KnnChoice(metric, best, tuple(neighbours), scores, temperature, norm)
    choice = share(choice)
    on_chosen(choice)
    images, opened = train.joined(val), test()
    found = None
    if is_main():
        found = classify(images, opened, choice.neighbours, temperature=temperature, norm=norm, device=device)
    return KnnResult(choice, share(found))


def classify(
    bank: FeatureSet,
    queries: FeatureSet,
    neighbours: int,
    *,
    temperature: float = 0.07,
    norm: Norm = "l2",
    device: str | torch.device = "cpu",
) -> Evaluation:
    """The vote of the bank's images on each query; of tied classes the first. k is at most the bank's length.

    Raises UserError for a k or T out of range.
    """
    if neighbours < 1:
        raise UserError(f"k is {neighbours}", fix="give 1 or more neighbours")
    if not temperature > 0.0:
        raise UserError(f"T is {temperature:g}", fix="give a temperature above 0")
    k = min(neighbours, len(bank))
    known = _prepared(bank.tensor().to(device), norm)
    labels = bank.labels.to(device)
    votes = []
    for part in queries.tensor().split(_IMAGES_AT_A_TIME):
        similarity, nearest = _similarity(_prepared(part.to(device), norm), known, norm).topk(k, dim=1)
        # The nearest one's weight is 1: no exponential leaves float32's range.
        weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
        classes = torch.zeros(len(part), len(bank.classes), dtype=torch.float64, device=weights.device)
        votes.append(classes.scatter_add_(1, labels[nearest], weights).cpu())
    shares = F.normalize(torch.cat(votes), p=1.0, dim=1)
    loss = float(F.nll_loss(shares.clamp(min=1e-12).log(), queries.labels))
    return Evaluation(shares.argmax(1), queries.labels, loss)


def _prepared(features: Tensor, norm: Norm) -> Tensor:
    return F.normalize(features, dim=1) if norm == "l2" else features


def _similarity(queries: Tensor, known: Tensor, norm: Norm) -> Tensor:
    if norm == "l2":
        return queries @ known.t()
    return -torch.cdist(queries, known, compute_mode="donot_use_mm_for_euclid_dist").square()
