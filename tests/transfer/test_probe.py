"""The linear probe: what chooses, what is retrained, what the test set sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rexdet.transfer.features import FeatureSet
from rexdet.transfer.probe import PENALTIES, ProbeChoice, choose_penalty, run_linear_probe

NAMES = ("a", "b", "c")


def feature_set(images: int, seed: int, noise: float = 2.0, dimensions: int = 12) -> FeatureSet:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % len(NAMES)
    means = np.random.default_rng(77).normal(size=(len(NAMES), dimensions))
    x = (means[labels] + noise * random.normal(size=(images, dimensions))).astype(np.float32)
    return FeatureSet(x, torch.from_numpy(labels), NAMES)


def unequal(features: FeatureSet) -> FeatureSet:
    """With a quarter of the first class's images: what a strong penalty predicts is then the other two's."""
    kept = (features.labels != 0) | (torch.arange(len(features)) % 4 == 0)
    return FeatureSet(features.features[kept.numpy()], features.labels[kept], features.classes)


def test_the_grid_is_the_published_one() -> None:
    assert len(PENALTIES) == 45
    assert PENALTIES[0] == pytest.approx(1e-6)
    assert PENALTIES[-1] == pytest.approx(1e5)
    assert np.ptp(np.diff(np.log(PENALTIES))) < 1e-12


def test_chosen_on_val_retrained_on_both_as_scikit_learn_would() -> None:
    # Seldom the same class, so that a strong penalty is no longer as good as a weak one.
    train, val, test = (unequal(feature_set(240, seed)) for seed in range(3))
    result = run_linear_probe(train, val, lambda: test)
    choice = result.choice
    assert choice.best == max(choice.val)
    assert 1e-6 < choice.penalty < 1e5
    assert choice.grid_end == ""
    both = np.concatenate([train.features, val.features]).astype(np.float64)
    labels = torch.cat([train.labels, val.labels]).numpy()
    peer = LogisticRegression(C=1 / (choice.penalty * choice.scale**2), tol=1e-9, max_iter=10_000).fit(both, labels)
    assert result.test.top1 == pytest.approx(peer.score(test.features, test.labels.numpy()), abs=0.006)
    # The weights that are handed out are those that were tested.
    logits = test.tensor() @ result.weights + result.intercepts
    assert torch.equal(result.classes[logits.argmax(1)], result.test.predictions)


def test_the_test_set_opens_once_and_after_the_choice_is_told() -> None:
    told: list[str] = []

    def opened() -> FeatureSet:
        told.append("test")
        return feature_set(30, 2)

    def chosen(choice: ProbeChoice) -> None:
        told.append(f"{choice.penalty:g}")

    result = run_linear_probe(feature_set(90, 0), feature_set(60, 1), opened, penalties=(1.0, 100.0), on_chosen=chosen)
    assert told == [f"{result.choice.penalty:g}", "test"]


def test_a_grid_end_that_wins_is_reported() -> None:
    train, val = feature_set(90, 0, noise=4.0), feature_set(60, 1, noise=4.0)
    whole = choose_penalty(train, val)
    weaker = choose_penalty(train, val, penalties=[p for p in PENALTIES if p < whole.penalty / 100])
    assert max(weaker.val) < whole.best
    only_end = choose_penalty(train, val, penalties=[whole.penalty, whole.penalty * 1e-7, whole.penalty * 1e-6])
    assert only_end.grid_end == "strongest"
    assert "wider" in str(only_end)


def test_of_equally_good_penalties_the_strongest_is_taken() -> None:
    # Classes far apart: nearly every penalty gets everything right.
    choice = choose_penalty(feature_set(90, 0, noise=0.01), feature_set(60, 1, noise=0.01))
    best = [penalty for penalty, score in zip(choice.penalties, choice.val, strict=True) if score == choice.best]
    assert choice.penalty == max(best)
    assert len(best) > 1


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_the_choice_does_not_depend_on_the_features_scale(factor: float) -> None:
    def scaled(features: FeatureSet) -> FeatureSet:
        return FeatureSet(features.features * np.float32(factor), features.labels, features.classes)

    sets = [feature_set(90, 0), feature_set(60, 1), feature_set(200, 2)]
    plain = run_linear_probe(sets[0], sets[1], lambda: sets[2])
    other = run_linear_probe(scaled(sets[0]), scaled(sets[1]), lambda: scaled(sets[2]))
    assert other.choice.penalty == plain.choice.penalty
    assert other.choice.val == pytest.approx(plain.choice.val, abs=0.02)
    assert other.test.top1 == pytest.approx(plain.test.top1, abs=0.006)


def test_mean_per_class_may_choose_otherwise_and_is_what_is_told() -> None:
    train, val = feature_set(90, 0), feature_set(60, 1)
    choice = choose_penalty(train, val, metric="mean_per_class")
    assert choice.as_metrics()["mean_per_class"] == choice.best
    assert "top1" not in choice.as_metrics()
