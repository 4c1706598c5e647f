"""Multinomial logistic regression with an L2 penalty, for a whole path of penalties: convex, so its answer is the one.

    minimise over W (D, K), b (K):   sum of the N cross-entropies of softmax(x W + b)  +  penalty / 2 * |W|^2

The intercept is not penalised. scikit-learn's LogisticRegression(C) minimises the same with penalty = 1 / C (for three
classes and more; its form for two has one weight vector, whose penalty counts half).

How it is solved: features are centred (the intercept takes that up), brought to unit size and rotated into the
eigenvectors of their covariance, all of which leave the problem what it is. There the Hessian is close to diagonal:
eigenvalue * mean curvature of the class + penalty. L-BFGS (Liu, Nocedal 1989) with that diagonal as its first guess,
the pairs carried from penalty to penalty (what a new penalty changes in them is known), and the start extrapolated from
the two solutions before. The line search knows the logits along its line, and costs no product with the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rexdet.errors import UserError

# A solution is done where the Newton decrement, which estimates what is still to be gained, is below this share of the
# loss and a tenth of it of what has been gained over weights of 0, or below this much an image: a mean loss has no
# meaning to the eighth decimal. At strong penalties all that tells classes apart is in the little that was gained.
TOLERANCE = 1e-5
PER_IMAGE = 1e-8
_SHARE_OF_GAINED = 0.1
_PAIRS = 10
_MOST_STEPS = 500
_MOST_TRIALS = 12
# Products with the features take a quarter less time for a multiple of this many classes. Those that fill it up have
# this intercept, which keeps their probability at 0.
_CLASSES_AT_A_TIME = 8
_NEVER = -1e30
# The logits of extrapolated weights are extrapolated, too; as often as this they are computed from the features.
_REFRESH = 8


@dataclass(frozen=True, eq=False)
class Solution:
    """One point of the path.

    penalty: as asked for, in the units of the features' scale (see `SoftmaxRegression`). loss: the minimised sum, the
    penalty's part included. gap: an upper bound of loss minus the least possible, in units of the loss; the part of the
    intercept, which no penalty bounds, is estimated from its curvature. steps: of L-BFGS. converged: the tolerance was
    reached. rotated: (R + 1, K) weights in the rotated features, the intercept last.
    """

    penalty: float
    loss: float
    gap: float
    steps: int
    converged: bool
    rotated: Tensor


class SoftmaxRegression:
    """The problem of one training set; `path` solves it.

    features: (N, D) float. labels: (N,) int64, 0 to classes - 1; classes without an image are never predicted.
    scale: the size by which features are divided before the penalty counts; None for their root mean square deviation,
        with which a path does not depend on the features' units; 1.0 for penalties in those units.
    dtype: of the computation, float32 or float64. device: where it runs.

    Raises UserError for features that are not finite, and for fewer than two classes with images.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        classes: int,
        *,
        scale: float | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype, self.classes = torch.device(device), dtype, classes
        x = features.to(device=self.device, dtype=dtype)
        if not bool(torch.isfinite(x).all()):
            raise UserError("the features hold NaN or infinity", fix="check the network's weights and pixels")
        self.present, self.labels = labels.to(self.device).unique(return_inverse=True)
        if len(self.present) < 2:
            raise UserError("the training images are of one class: there is nothing to tell apart")
        self.mean = x.mean(0, dtype=torch.float64).to(dtype)
        x = x - self.mean
        self.deviation = float(x.square().mean(dtype=torch.float64).sqrt())
        self.scale = scale if scale is not None else (self.deviation or 1.0)
        # The work is done at unit size whatever the scale: no number is too large or too small for float32.
        unit = self.deviation or 1.0
        self._in_units = (self.scale / unit) ** 2
        rotation, variances = _principal_axes(x.div_(unit))
        self.rotation = rotation / unit
        ones = torch.ones(len(x), 1, device=self.device, dtype=dtype)
        self._z = torch.cat([x @ rotation, ones], 1)
        self._zt = self._z.t().contiguous()
        self._variances = torch.cat([variances, torch.ones_like(variances[:1])])[:, None]
        self._rows = torch.arange(len(x), device=self.device)
        self._columns = -(-len(self.present) // _CLASSES_AT_A_TIME) * _CLASSES_AT_A_TIME
        shares = self.labels.bincount().double() / len(x)
        self._untold = -len(x) * float((shares * shares.log()).sum())

    def rotate(self, features: Tensor) -> Tensor:
        """(M, D) features of other images -> (M, R + 1), which times a solution's `rotated` weights are logits."""
        x = features.to(device=self.device, dtype=self.dtype) - self.mean
        return torch.cat([x @ self.rotation, torch.ones_like(x[:, :1])], 1)

    def logits(self, solution: Solution, rotated: Tensor) -> Tensor:
        """(M, R + 1) rotated features -> (M, classes) logits; -inf for classes without a training image."""
        logits = torch.full((len(rotated), self.classes), -torch.inf, device=self.device, dtype=self.dtype)
        logits[:, self.present] = rotated @ solution.rotated
        return logits

    def weights(self, solution: Solution) -> tuple[Tensor, Tensor]:
        """(D, K) weights and (K,) intercepts for features as they were given; K counts the classes with images."""
        weights = self.rotation @ solution.rotated[:-1]
        return weights, solution.rotated[-1] - self.mean @ weights

    def path(
        self, penalties: Sequence[float], *, tolerance: float = TOLERANCE, per_image: float = PER_IMAGE
    ) -> Iterator[Solution]:
        """Solutions for all penalties (positive, any order), the strongest first: from there every next is near.

        tolerance, per_image: what may be left to gain, as a share of the loss (and a tenth of it of what is gained
        over weights of 0) and an image; the larger counts.

        Raises ValueError for a penalty that is not positive.
        """
        if not all(penalty > 0.0 for penalty in penalties):
            raise ValueError(f"penalties must be positive numbers: {list(penalties)}")
        memory = _Memory()
        weights = torch.zeros(self._z.shape[1], self._columns, device=self.device, dtype=self.dtype)
        weights[-1, len(self.present) :] = _NEVER
        logits = weights[-1].repeat(len(self._z), 1)
        before: tuple[Tensor, Tensor, float] | None = None
        last: tuple[Tensor, Tensor, float] | None = None
        for position, penalty in enumerate(sorted(penalties, reverse=True)):
            if before is not None and last is not None and last[2] < before[2]:
                weights, logits = _extrapolated(before, last, penalty)
                if position % _REFRESH == 0:
                    logits = self._z @ weights
            solution, weights, logits = self._solve(penalty, weights, logits, memory, (tolerance, per_image))
            before, last = last, (weights, logits, penalty)
            yield solution

    def _solve(
        self, penalty: float, weights: Tensor, logits: Tensor, memory: _Memory, tolerances: tuple[float, float]
    ) -> tuple[Solution, Tensor, Tensor]:
        # In the rotated features, which have unit size, the same penalty is this number.
        own = penalty * self._in_units
        ridge = torch.full_like(self._variances, own)
        ridge[-1] = 0.0
        losses, residuals = _cross_entropy(logits, self.labels, self._rows)
        loss_gradient = self._zt @ residuals
        loss = _sum(losses) + 0.5 * _dot(ridge * weights, weights)
        curvature = (residuals.abs() * (1.0 - residuals.abs())).mean(0, keepdim=True)
        diagonal = self._variances * curvature.mul(len(losses)) + ridge
        diagonal.clamp_(min=torch.finfo(self.dtype).tiny * 1e6)
        memory.take(ridge)
        steps, converged = 0, False
        while True:
            gradient = loss_gradient + ridge * weights
            direction = memory.times_inverse_hessian(gradient, diagonal).neg_()
            slope = _dot(gradient, direction)
            if not slope < 0.0:
                if memory.is_empty():
                    converged = slope == 0.0
                    break
                memory.clear()
                continue
            least = min(loss, _SHARE_OF_GAINED * max(self._untold - loss, 0.0))
            converged = -0.5 * slope <= max(tolerances[0] * least, tolerances[1] * len(losses))
            if converged or steps == _MOST_STEPS:
                break
            line = _Line(self, weights, logits, direction, ridge, loss, slope)
            moved = line.search()
            if moved is None:
                # The loss cannot be told apart from that of the next point: this is what the precision gives.
                if memory.is_empty():
                    break
                memory.clear()
                continue
            steps += 1
            length, loss, logits, residuals = moved
            new_gradient = self._zt @ residuals
            direction.mul_(length)
            weights = weights + direction
            memory.add(direction, new_gradient - loss_gradient, ridge)
            loss_gradient = new_gradient
        gap = _left_to_gain(gradient, own, residuals) / max(loss, torch.finfo(torch.float64).tiny)
        rotated = weights[:, : len(self.present)].contiguous()
        return Solution(penalty, loss, gap, steps, converged, rotated), weights, logits


class _Line:
    """The loss along a direction: logits are linear in the step, so a trial costs N x K numbers and no product."""

    def __init__(
        self,
        problem: SoftmaxRegression,
        weights: Tensor,
        logits: Tensor,
        direction: Tensor,
        ridge: Tensor,
        loss: float,
        slope: float,
    ) -> None:
        self.problem, self.logits, self.loss, self.slope = problem, logits, loss, slope
        self.change = problem._z @ direction
        penalised = ridge * direction
        self.at_start = 0.5 * _dot(ridge * weights, weights)
        self.linear = _dot(penalised, weights)
        self.square = _dot(penalised, direction)

    def search(self) -> tuple[float, float, Tensor, Tensor] | None:
        """A step that takes the loss down enough, by Newton's method in one dimension inside a bracket.

        Gives the step, the loss, the logits and the residuals there; None where rounding hides any descent.
        """
        step, low, high = 1.0, 0.0, float("inf")
        for _ in range(_MOST_TRIALS):
            logits = torch.add(self.logits, self.change, alpha=step)
            losses, residuals = _cross_entropy(logits, self.problem.labels, self.problem._rows)
            loss = _sum(losses) + self.at_start + step * self.linear + 0.5 * step * step * self.square
            slope = _dot(residuals, self.change) + self.linear + step * self.square
            if loss <= self.loss + 1e-4 * step * self.slope and abs(slope) <= 0.5 * -self.slope:
                return step, loss, logits, residuals
            if slope < 0.0:
                low = step
            else:
                high = step
            step = self._next(step, slope, residuals, low, high)
        return None

    def _next(self, step: float, slope: float, residuals: Tensor, low: float, high: float) -> float:
        probabilities = residuals.clone()
        rows, labels = self.problem._rows, self.problem.labels
        probabilities[rows, labels] += 1.0
        weighted = probabilities.mul_(self.change)
        bend = _dot(weighted, self.change) - _sum(weighted.sum(1).square()) + self.square
        newton = step - slope / bend if bend > 0.0 else float("inf")
        if low < newton < min(high, 10.0 * step):
            return newton
        return 0.5 * (low + high) if high < float("inf") else 4.0 * step


class _Memory:
    """The last steps and what they did to the gradient of the losses; the penalty's part is added when it is known."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.of_losses: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.products: list[float] = []

    def is_empty(self) -> bool:
        return not self.steps

    def clear(self) -> None:
        for each in (self.steps, self.of_losses, self.changes, self.products):
            each.clear()

    def take(self, ridge: Tensor) -> None:
        """Another penalty: each step would have changed the gradient by another known amount."""
        self.changes = [of_loss + ridge * step for step, of_loss in zip(self.steps, self.of_losses, strict=True)]
        self.products = [_dot(step, change) for step, change in zip(self.steps, self.changes, strict=True)]

    def add(self, step: Tensor, of_losses: Tensor, ridge: Tensor) -> None:
        change = of_losses + ridge * step
        product = _dot(step, change)
        if not product > 0.0:
            return
        self.steps.append(step)
        self.of_losses.append(of_losses)
        self.changes.append(change)
        self.products.append(product)
        if len(self.steps) > _PAIRS:
            for each in (self.steps, self.of_losses, self.changes, self.products):
                del each[0]

    def times_inverse_hessian(self, gradient: Tensor, diagonal: Tensor) -> Tensor:
        """The two loops of L-BFGS, with the inverse of `diagonal`, scaled by the last pair, as their first guess."""
        result = gradient.clone()
        shares = []
        pairs = list(zip(self.steps, self.changes, self.products, strict=True))
        for step, change, product in reversed(pairs):
            share = _dot(step, result) / product
            shares.append(share)
            result.sub_(change, alpha=share)
        result.div_(diagonal)
        if pairs:
            change, product = self.changes[-1], self.products[-1]
            result.mul_(product / _dot(change, change / diagonal))
        for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
            result.add_(step, alpha=share - _dot(change, result) / product)
        return result


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Axes (D, R) of centred features (N, D) and the variance along each (R), R = min(N, D).

    Fewer images than features span a space of fewer dimensions, and no penalised weight leaves it.
    """
    if len(x) < x.shape[1]:
        basis, triangle = torch.linalg.qr(x.t())
        axes, variances = _principal_axes(triangle.t().contiguous())
        return basis @ axes, variances
    eigenvalues, vectors = torch.linalg.eigh(x.t() @ x)
    return vectors, eigenvalues.clamp(min=0.0) / len(x)


def _cross_entropy(logits: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (N,), and residuals (N, K): probability minus 1 for the label, both with relative precision near 0.

    Written down directly, 1 - p would be all rounding where a network is sure and right, which at weak penalties is
    everywhere.
    """
    own = logits[rows, labels]
    top = logits.amax(1)
    residuals = (logits - top[:, None]).exp_()
    mine = residuals[rows, labels]
    residuals[rows, labels] = 0.0
    others = residuals.sum(1)
    total = mine + others
    losses = torch.where(own >= top, torch.log1p(others), (top - own) + total.log())
    residuals.div_(total[:, None])
    residuals[rows, labels] = -others / total
    return losses, residuals


def _left_to_gain(gradient: Tensor, penalty: float, residuals: Tensor) -> float:
    """What a loss can still lose: at most |g|^2 / (2 penalty) by the weights, where it bends by the penalty at least.

    gradient (R + 1, K); residuals (N, K). The intercept's part is twice the Newton decrement of the classes one by one.
    """
    bends = (residuals.abs() * (1.0 - residuals.abs())).sum(0).clamp(min=torch.finfo(residuals.dtype).tiny * 1e6)
    return _dot(gradient[:-1], gradient[:-1]) / (2.0 * penalty) + _sum(gradient[-1].square() / bends)


def _extrapolated(
    before: tuple[Tensor, Tensor, float], last: tuple[Tensor, Tensor, float], penalty: float
) -> tuple[Tensor, Tensor]:
    """Weights and logits at the next penalty, if both went on along a line in the penalty's logarithm."""
    ratios = torch.tensor([before[2] / last[2], last[2] / penalty], dtype=torch.float64).log()
    ahead = float(ratios[1] / ratios[0])
    return torch.lerp(before[0], last[0], 1.0 + ahead), torch.lerp(before[1], last[1], 1.0 + ahead)


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.reshape(-1), other.reshape(-1)))


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))
