"""Nearest neighbours beside scikit-learn's, with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from rexdet.errors import UserError
from rexdet.transfer.features import FeatureSet
from rexdet.transfer.knn import classify, run_knn

NAMES = ("a", "b", "c")


def feature_set(images: int, seed: int) -> FeatureSet:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % len(NAMES)
    means = np.random.default_rng(77).normal(size=(len(NAMES), 10))
    x = (means[labels] + 1.5 * random.normal(size=(images, 10))).astype(np.float32)
    return FeatureSet(x, torch.from_numpy(labels), NAMES)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 7, 20, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_same_votes_as_scikit_learn(k: int, temperature: float) -> None:
    bank, queries = feature_set(90, 0), feature_set(700, 1)
    ours = classify(bank, queries, k, temperature=temperature)
    # For vectors of length 1 the product is 1 - distance^2 / 2.
    peer = KNeighborsClassifier(
        min(k, 90), weights=lambda distance: np.exp((1 - distance**2 / 2) / temperature), algorithm="brute"
    ).fit(unit(bank.features.astype(np.float64)), bank.labels.numpy())
    assert (ours.predictions.numpy() == peer.predict(unit(queries.features.astype(np.float64)))).mean() >= 0.998


def test_without_norm_the_distance_of_the_features_counts() -> None:
    bank, queries = feature_set(90, 0), feature_set(100, 1)
    peer = KNeighborsClassifier(1, algorithm="brute").fit(bank.features, bank.labels.numpy())
    ours = classify(bank, queries, 1, norm="none")
    assert ours.predictions.tolist() == peer.predict(queries.features).tolist()


def test_l2_norm_takes_scale_out() -> None:
    bank, queries = feature_set(90, 0), feature_set(100, 1)
    scaled = FeatureSet(queries.features * np.float32(100.0), queries.labels, queries.classes)
    assert torch.equal(classify(bank, queries, 20).predictions, classify(bank, scaled, 20).predictions)


def test_k_is_chosen_on_val_and_named_in_the_head() -> None:
    train, val, test = feature_set(90, 0), feature_set(60, 1), feature_set(60, 2)
    told: list[str] = []
    result = run_knn(train, val, lambda: test, neighbours=(1, 20), on_chosen=lambda choice: told.append(choice.head))
    scores = [classify(train, val, k).top1 for k in (1, 20)]
    assert result.choice.val == tuple(scores)
    assert result.choice.neighbours == (1, 20)[int(np.argmax(scores))]
    assert told == [result.head] == [f"kNN (k {result.choice.neighbours}, T 0.07, L2)"]
    again = classify(train.joined(val), test, result.choice.neighbours)
    assert torch.equal(result.test.predictions, again.predictions)


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.07), (5, 0.0), (5, -1.0)])
def test_values_out_of_range_are_refused(k: int, temperature: float) -> None:
    with pytest.raises(UserError, match="give"):
        classify(feature_set(9, 0), feature_set(9, 1), k, temperature=temperature)
