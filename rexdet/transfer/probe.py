"""Linear probe: multinomial logistic regression on features, its L2 penalty chosen on the validation images.

Kornblith, Shlens, Le 2019 (arXiv 1805.08974) and SimCLR (arXiv 2002.05709, B.8): features of the last layer but one, no
augmentation, L-BFGS, 45 penalties from 1e-6 to 1e5, evenly spaced in their logarithm, on the sum of the losses; the
chosen one is retrained on train + val and tested once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from rexdet.processes import is_main, share
from rexdet.transfer.evaluate import Evaluation
from rexdet.transfer.features import FeatureSet
from rexdet.transfer.softmax_regression import SoftmaxRegression

Metric = Literal["top1", "mean_per_class"]
# Of the tested probe, as a share of its loss: at weak penalties accuracy still moves while the loss hardly does.
_RETRAINED_TOLERANCE = 1e-7
PENALTIES: tuple[float, ...] = tuple(float(10.0**exponent) for exponent in np.linspace(-6.0, 5.0, 45))


@dataclass(frozen=True)
class ProbeChoice:
    """What the validation images chose.

    penalty: the chosen one, for features divided by `scale`; scale: root mean square deviation of the training
    features (penalty * scale^2 is the penalty for features as they are, and 1 over that scikit-learn's C).
    penalties: rising. val: the metric of each, 0 to 1. losses: the minimised sum of each. gaps: upper bounds of what is
    left to gain of each, in units of its loss. converged: of each. grid_end: "weakest" or "strongest" where the chosen
    one is the grid's first or last, else "": a wider grid might choose better.
    """

    metric: Metric
    penalty: float
    scale: float
    penalties: tuple[float, ...]
    val: tuple[float, ...]
    losses: tuple[float, ...]
    gaps: tuple[float, ...]
    converged: tuple[bool, ...]
    grid_end: str

    @property
    def best(self) -> float:
        """The metric of the chosen penalty on the validation images, 0 to 1."""
        return self.val[self.penalties.index(self.penalty)]

    def as_metrics(self) -> dict[str, float | None]:
        """The numbers as a run's record holds them."""
        return {
            self.metric: self.best,
            "penalty": self.penalty,
            "penalty_unscaled": self.penalty * self.scale**2,
            "feature_scale": self.scale,
            "grid_end_won": float(bool(self.grid_end)),
            "not_converged": float(self.converged.count(False)),
        }

    def __str__(self) -> str:
        text = f"L2 penalty {self.penalty:.3g} of {len(self.penalties)}, val {100 * self.best:.1f}%"
        if self.grid_end:
            text += f"; it is the {self.grid_end} of the grid: a wider one might choose another"
        return text


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """choice: made on the validation images. test: the retrained probe on the test images. weights (D, K), intercepts
    (K): of the retrained probe, for the features as they are. classes: (K,) int64, which class a column is.
    """

    choice: ProbeChoice
    test: Evaluation
    weights: Tensor
    intercepts: Tensor
    classes: Tensor

    def as_metrics(self) -> dict[str, dict[str, float | None]]:
        """The numbers as a run's record holds them, by split."""
        return {"val": self.choice.as_metrics(), "test": self.test.as_metrics()}


def run_linear_probe(
    train: FeatureSet,
    val: FeatureSet,
    test: Callable[[], FeatureSet],
    *,
    metric: Metric = "top1",
    penalties: Sequence[float] = PENALTIES,
    device: str | torch.device = "cpu",
    progress: bool = False,
    on_chosen: Callable[[ProbeChoice], None] = lambda choice: None,
) -> ProbeResult:
    """Choose on val, retrain on train + val, test.

    test: opens the test images' features; called once, after `on_chosen`. Among several processes the main one solves,
    and all get its result.

    Raises UserError as `SoftmaxRegression` does.
    """
    choice = share(choose_penalty(train, val, metric, penalties, device, progress) if is_main() else None)
    on_chosen(choice)
    opened = test()
    return share(_retrained(choice, train.joined(val), opened, device) if is_main() else None)


def choose_penalty(
    train: FeatureSet,
    val: FeatureSet,
    metric: Metric = "top1",
    penalties: Sequence[float] = PENALTIES,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> ProbeChoice:
    """Solve for every penalty on train, and take the one that is best on val; of equals the strongest.

    Raises UserError as `SoftmaxRegression` does.
    """
    problem = SoftmaxRegression(train.tensor(), train.labels, len(train.classes), device=device)
    rotated = problem.rotate(val.tensor())
    solutions, scores = [], []
    bar = tqdm(total=len(penalties), desc="penalties", unit="", disable=not progress, leave=False)
    with bar:
        for solution in problem.path(penalties):
            solutions.append(solution)
            scores.append(getattr(evaluation_of(problem.logits(solution, rotated), val.labels), metric))
            bar.update()
            bar.set_postfix(val=f"{100 * max(scores):.1f}%")
    # The path begins at the strongest, and the first of equals is taken.
    best = solutions[int(np.argmax(scores))].penalty
    rising = [(solution, score) for solution, score in zip(solutions, scores, strict=True)][::-1]
    grid = tuple(solution.penalty for solution, _ in rising)
    return ProbeChoice(
        metric=metric,
        penalty=best,
        scale=problem.scale,
        penalties=grid,
        val=tuple(score for _, score in rising),
        losses=tuple(solution.loss for solution, _ in rising),
        gaps=tuple(solution.gap for solution, _ in rising),
        converged=tuple(solution.converged for solution, _ in rising),
        grid_end=_grid_end(best, grid),
    )


def _grid_end(best: float, grid: Sequence[float]) -> str:
    if len(grid) < 2 or best not in (grid[0], grid[-1]):
        return ""
    return "weakest" if best == grid[0] else "strongest"


def _retrained(choice: ProbeChoice, images: FeatureSet, test: FeatureSet, device: str | torch.device) -> ProbeResult:
    """The probe of the chosen penalty, in the units in which it was chosen, on all images that are not test images."""
    problem = SoftmaxRegression(images.tensor(), images.labels, len(images.classes), scale=choice.scale, device=device)
    # From strong penalties down to the chosen one: a start from nothing would take longer.
    *_, solution = problem.path(_ladder(choice), tolerance=_RETRAINED_TOLERANCE, per_image=0.0)
    logits = problem.logits(solution, problem.rotate(test.tensor()))
    weights, intercepts = problem.weights(solution)
    return ProbeResult(
        choice, evaluation_of(logits, test.labels), weights.cpu(), intercepts.cpu(), problem.present.cpu()
    )


def _ladder(choice: ProbeChoice) -> tuple[float, ...]:
    """Every fourth penalty from the strongest down, the chosen one last."""
    stronger = [penalty for penalty in choice.penalties if penalty >= choice.penalty]
    return tuple(stronger[::4])


def evaluation_of(logits: Tensor, labels: Tensor) -> Evaluation:
    """(N, K) logits and (N,) labels -> what they are worth; the loss is infinite where a label's class was unknown."""
    logits = logits.double().cpu()
    return Evaluation(logits.argmax(1), labels, float(F.cross_entropy(logits, labels)))
