"""Few-shot probe: a closed form, no search. Ridge regression to -1 and 1 on standardised features of a few images.

The protocol of big_vision's few-shot evaluator: features minus mean, over standard deviation + 1e-5 (both of the shots'
own images), a constant feature of 100 as intercept (so large that the ridge hardly holds it), ridge 2^10, 1, 5, 10 and
25 images a class, 3 draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rexdet.errors import UserError
from rexdet.transfer.evaluate import Evaluation
from rexdet.transfer.features import FeatureSet

INTERCEPT_FEATURE = 100.0
_SMALLEST_DEVIATION = 1e-5
# Separates these numbers from the others that are drawn from the same seed (rexdet.runs.state, augment.py, splits.py).
_SHOTS = 43


@dataclass(frozen=True)
class FewShotResult:
    """cells: what (shots, seed) gave on the test images. l2: the ridge. notes: which shots were left
    out, and why.
    """

    cells: dict[tuple[int, int], Evaluation]
    l2: float
    notes: tuple[str, ...] = field(default=())

    def as_metrics(self) -> dict[str, dict[str, float | None]]:
        """The numbers as a run's record holds them: a group for each number of shots, the means over the draws."""
        groups: dict[str, dict[str, float | None]] = {}
        for shots in sorted({shots for shots, _ in self.cells}):
            draws = [cell for (count, _), cell in self.cells.items() if count == shots]
            groups[f"test_{shots}_shot"] = {
                "top1": float(np.mean([draw.top1 for draw in draws])),
                "mean_per_class": float(np.mean([draw.mean_per_class for draw in draws])),
                "draws": float(len(draws)),
            }
        return groups


def run_few_shot(
    images: FeatureSet,
    test: Callable[[], FeatureSet],
    *,
    shots: Sequence[int] = (1, 5, 10, 25),
    seeds: Sequence[int] = (0, 1, 2),
    l2: float = 2.0**10,
    device: str | torch.device = "cpu",
) -> FewShotResult:
    """Fit on each draw of each number of shots, and test. Nothing is chosen.

    images: those that may be drawn (train and val). test: opens the test images' features; called once. l2: the ridge.
    Shots that a class has too few images for are left out, with a note.

    Raises UserError where that leaves none, and for shots or a ridge out of range.
    """
    if not l2 > 0.0 or not seeds or min(shots, default=0) < 1:
        raise UserError("few-shot needs shots of 1 or more, a seed at least, and a ridge above 0")
    counts = torch.bincount(images.labels, minlength=len(images.classes))
    fewest = int(counts.min())
    notes = tuple(
        f"{count} shots are left out: class {images.classes[int(counts.argmin())]!r} has {fewest} images"
        for count in shots
        if count > fewest
    )
    possible = [count for count in shots if count <= fewest]
    if not possible:
        raise UserError(notes[0], fix="give fewer shots")
    queries = test()
    cells = {}
    for count in possible:
        for seed in seeds:
            drawn = draw_shots(images.labels, count, seed)
            weights, mean, deviation = fit_ridge(
                images.tensor()[drawn].to(device), images.labels[drawn].to(device), len(images.classes), l2
            )
            x = _with_intercept((queries.tensor().to(device).double() - mean) / deviation)
            scores = (x @ weights).cpu()
            loss = float(F.cross_entropy(scores, queries.labels))
            cells[count, seed] = Evaluation(scores.argmax(1), queries.labels, loss)
    return FewShotResult(cells, l2, notes)


def draw_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Places (classes * shots) of `shots` images of each class, by the seed; more shots hold those of fewer."""
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SHOTS]))).permutation(len(labels))
    shuffled = labels[torch.from_numpy(order)]
    drawn = [order[(shuffled == label).numpy()][:shots] for label in labels.unique()]
    return torch.from_numpy(np.concatenate(drawn))


def fit_ridge(features: Tensor, labels: Tensor, classes: int, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (D + 1, classes), and mean and deviation (D) that features lose before, all float64.

    features: (N, D), labels: (N,). The smaller of the two equal systems, D + 1 or N unknowns a class, is solved.
    """
    x = features.double()
    mean, deviation = x.mean(0), x.std(0, unbiased=False) + _SMALLEST_DEVIATION
    x = _with_intercept((x - mean) / deviation)
    targets = 2.0 * F.one_hot(labels, classes).double() - 1.0
    if len(x) >= x.shape[1]:
        gram = x.t() @ x
        gram.diagonal().add_(ridge)
        return torch.cholesky_solve(x.t() @ targets, torch.linalg.cholesky(gram)), mean, deviation
    gram = x @ x.t()
    gram.diagonal().add_(ridge)
    return x.t() @ torch.cholesky_solve(targets, torch.linalg.cholesky(gram)), mean, deviation


def _with_intercept(x: Tensor) -> Tensor:
    return torch.cat([x, torch.full_like(x[:, :1], INTERCEPT_FEATURE)], 1)
