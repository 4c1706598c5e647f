"""The closed form beside scikit-learn's ridge regression on features standardised by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from rexdet.errors import UserError
from rexdet.transfer.features import FeatureSet
from rexdet.transfer.few_shot import draw_shots, fit_ridge, run_few_shot

NAMES = ("a", "b", "c")


def feature_set(images: int, seed: int, dimensions: int = 10) -> FeatureSet:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % len(NAMES)
    means = np.random.default_rng(77).normal(size=(len(NAMES), dimensions))
    x = (means[labels] + 1.5 * random.normal(size=(images, dimensions))).astype(np.float32)
    return FeatureSet(x, torch.from_numpy(labels), NAMES)


@pytest.mark.parametrize("dimensions", [10, 200])
def test_same_weights_as_scikit_learn(dimensions: int) -> None:
    images = feature_set(60, 0, dimensions)
    weights, mean, _ = fit_ridge(images.tensor(), images.labels, 3, 2.0**10)
    x = images.features.astype(np.float64)
    x = np.hstack([(x - x.mean(0)) / (x.std(0) + 1e-5), np.full((len(x), 1), 100.0)])
    peer = Ridge(alpha=2.0**10, fit_intercept=False, solver="svd").fit(x, 2.0 * np.eye(3)[images.labels.numpy()] - 1.0)
    np.testing.assert_allclose(weights.numpy(), peer.coef_.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(mean.numpy(), images.features.astype(np.float64).mean(0), atol=1e-12)


def test_shots_are_drawn_by_class_and_seed_and_nest() -> None:
    labels = torch.arange(60) % 3
    drawn = draw_shots(labels, 5, seed=0)
    assert torch.bincount(labels[drawn]).tolist() == [5, 5, 5]
    assert len(set(drawn.tolist())) == 15
    assert drawn.tolist() == draw_shots(labels, 5, seed=0).tolist()
    assert drawn.tolist() != draw_shots(labels, 5, seed=1).tolist()
    assert set(draw_shots(labels, 2, seed=0).tolist()) < set(drawn.tolist())


def test_cells_and_their_means() -> None:
    test = feature_set(300, 2)
    result = run_few_shot(feature_set(60, 0), lambda: test, shots=(1, 10, 25), seeds=(0, 1))
    assert sorted(result.cells) == [(1, 0), (1, 1), (10, 0), (10, 1)]
    assert result.notes == ("25 shots are left out: class 'a' has 20 images",)
    metrics = result.as_metrics()
    assert metrics["test_10_shot"]["top1"] == pytest.approx(np.mean([result.cells[10, s].top1 for s in (0, 1)]))
    assert metrics["test_10_shot"]["top1"] > metrics["test_1_shot"]["top1"] > 1 / 3


def test_scale_of_the_features_changes_nothing() -> None:
    images, test = feature_set(60, 0), feature_set(300, 2)
    large = [FeatureSet(one.features * np.float32(100), one.labels, one.classes) for one in (images, test)]
    plain = run_few_shot(images, lambda: test, shots=(5,), seeds=(0,)).cells[5, 0]
    scaled = run_few_shot(large[0], lambda: large[1], shots=(5,), seeds=(0,)).cells[5, 0]
    assert torch.equal(plain.predictions, scaled.predictions)


def test_the_test_set_stays_shut_where_nothing_can_be_fitted() -> None:
    def never() -> FeatureSet:
        raise AssertionError("opened")

    with pytest.raises(UserError, match="has 2 images"):
        run_few_shot(feature_set(6, 0), never, shots=(5,))
    with pytest.raises(UserError, match="ridge"):
        run_few_shot(feature_set(60, 0), never, l2=0.0)
