"""The convex solver beside scikit-learn's, and what its answer must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rexdet.errors import UserError
from rexdet.transfer.softmax_regression import SoftmaxRegression

CLASSES = 5
PATH = (1e3, 1e2, 1e1, 1.0, 0.1)


def features(images: int, dimensions: int, seed: int = 0, spread: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes around means of their own, like pooled activations: not negative, correlated, far from centred."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % CLASSES
    latent = np.random.default_rng(99).normal(size=(CLASSES, 8))[labels] + spread * random.normal(size=(images, 8))
    mixing = np.random.default_rng(98).normal(size=(8, dimensions))
    x = np.maximum(latent @ mixing + 0.5 * random.normal(size=(images, dimensions)), 0.0)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


def loss_of(x: torch.Tensor, y: torch.Tensor, weights: np.ndarray, intercepts: np.ndarray, penalty: float) -> float:
    """The objective in float64, written down again."""
    logits = torch.from_numpy(x.numpy().astype(np.float64) @ weights.T + intercepts)
    loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
    return float(loss + 0.5 * penalty * (torch.from_numpy(weights) ** 2).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("images", "dimensions"), [(120, 20), (40, 60)])
def test_same_optimum_as_scikit_learn(images: int, dimensions: int, dtype: torch.dtype) -> None:
    x, y = features(images, dimensions)
    held, _ = features(100, dimensions, seed=1)
    problem = SoftmaxRegression(x, y, CLASSES, scale=1.0, dtype=dtype)
    for solution in problem.path(PATH, tolerance=1e-7, per_image=0.0):
        weights, intercepts = (value.double().numpy() for value in problem.weights(solution))
        ours = loss_of(x, y, weights.T, intercepts, solution.penalty)
        peer = LogisticRegression(C=1 / solution.penalty, tol=1e-9, max_iter=20_000).fit(x.double().numpy(), y.numpy())
        theirs = loss_of(x, y, peer.coef_, peer.intercept_, solution.penalty)
        assert solution.loss == pytest.approx(ours, rel=1e-4)
        assert ours <= theirs * (1 + 1e-4)
        assert solution.converged
        if ours == pytest.approx(theirs, rel=1e-4):
            same = problem.logits(solution, problem.rotate(held)).argmax(1).numpy() == peer.predict(
                held.double().numpy()
            )
            assert same.mean() >= 0.99


def test_the_gap_bounds_what_is_left_to_gain() -> None:
    x, y = features(120, 20)
    problem = SoftmaxRegression(x, y, CLASSES, dtype=torch.float64)
    rough = list(problem.path(PATH, tolerance=1e-2))
    exact = list(problem.path(PATH, tolerance=1e-12, per_image=0.0))
    for one, best in zip(rough, exact, strict=True):
        assert best.loss <= one.loss * (1 + 1e-12)
        # By hand for the weights; the intercept, which no penalty bounds, is estimated from its curvature.
        assert one.loss - best.loss <= 1.1 * one.gap * one.loss + 1e-9
        assert best.gap < 1e-6


@pytest.mark.parametrize("factor", [100.0, 0.01, 1e-12])
def test_no_dependence_on_the_features_scale_or_offset(factor: float) -> None:
    x, y = features(120, 20)
    problem, scaled = SoftmaxRegression(x, y, CLASSES), SoftmaxRegression(factor * (x - 3.0), y, CLASSES)
    held = features(50, 20, seed=1)[0]
    for one, other in zip(
        problem.path(PATH, tolerance=1e-8, per_image=0.0), scaled.path(PATH, tolerance=1e-8, per_image=0.0), strict=True
    ):
        assert one.loss == pytest.approx(other.loss, rel=2e-5)
        first = problem.logits(one, problem.rotate(held)).softmax(1)
        second = scaled.logits(other, scaled.rotate(factor * (held - 3.0))).softmax(1)
        assert float((first - second).abs().max()) < 5e-3


def test_no_dependence_on_the_order_of_images_or_the_path() -> None:
    x, y = features(120, 20)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    alone = next(SoftmaxRegression(x[order], y[order], CLASSES).path([10.0], tolerance=1e-8, per_image=0.0))
    along = list(SoftmaxRegression(x, y, CLASSES).path(PATH, tolerance=1e-8, per_image=0.0))[2]
    assert along.penalty == alone.penalty
    assert along.loss == pytest.approx(alone.loss, rel=1e-5)


def test_penalties_of_unscaled_features_follow_from_the_scale() -> None:
    x, y = features(120, 20)
    by_unit = SoftmaxRegression(x, y, CLASSES)
    as_they_are = SoftmaxRegression(x, y, CLASSES, scale=1.0)
    one = next(by_unit.path([0.5]))
    other = next(as_they_are.path([0.5 * by_unit.scale**2]))
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_a_class_without_images_is_never_predicted() -> None:
    x, y = features(120, 20)
    kept = y != 2
    problem = SoftmaxRegression(x[kept], y[kept], CLASSES)
    for solution in problem.path(PATH):
        assert not (problem.logits(solution, problem.rotate(x)).argmax(1) == 2).any()
        assert solution.converged


def test_features_that_tell_nothing_give_the_classes_shares() -> None:
    y = torch.tensor([0, 0, 0, 1])
    problem = SoftmaxRegression(torch.ones(4, 3), y, 2)
    solution = next(problem.path([1.0]))
    shares = problem.logits(solution, problem.rotate(torch.ones(1, 3))).softmax(1)
    assert shares[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


def test_what_cannot_be_solved_is_refused() -> None:
    x, y = features(10, 4)
    x[3, 2] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        SoftmaxRegression(x, y, CLASSES)
    with pytest.raises(UserError, match="one class"):
        SoftmaxRegression(torch.ones(4, 3), torch.ones(4, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="positive"):
        next(SoftmaxRegression(features(10, 4)[0], y, CLASSES).path([0.0]))
