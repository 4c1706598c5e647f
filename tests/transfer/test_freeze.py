"""Frozen parts: neither their weights nor their norms' statistics change in training."""

from __future__ import annotations

import pytest
import torch

from rexdet.errors import UserError
from rexdet.transfer.finetune import train
from rexdet.transfer.freeze import freeze
from rexdet.transfer.images import ImageSet
from rexdet.transfer.protocols import Protocol
from rexdet.zoo import create_model


def changed_keys(what: str, train_set: ImageSet, protocol: Protocol) -> set[str]:
    torch.manual_seed(0)
    network = create_model("resnet8b_cifar", 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(network, train_set, protocol.changed(steps=2, freeze=what), seed=0)
    return {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}


def test_only_the_classifier_learns_behind_a_frozen_backbone(train_set: ImageSet, protocol: Protocol) -> None:
    assert changed_keys("backbone", train_set, protocol) == {"head.weight", "head.bias"}


def test_frozen_norms_keep_their_statistics_and_learn_their_weights(train_set: ImageSet, protocol: Protocol) -> None:
    keys = changed_keys("norms", train_set, protocol)
    assert not any("running" in key or "tracked" in key for key in keys)
    assert any(key.endswith("norm.weight") for key in keys)


def test_frozen_stages_are_those_of_the_stem_on(train_set: ImageSet, protocol: Protocol) -> None:
    network = create_model("resnet8b_cifar", 3)
    stages = {step.path: step.stage for step in network.steps}
    keys = changed_keys("2", train_set, protocol)
    for path, stage in stages.items():
        moved = any(key.startswith(f"{path}.") for key in keys)
        assert moved == (stage > 2), path


def test_stages_of_other_packages_are_not_known() -> None:
    with pytest.raises(UserError, match="stages are known of rexdet's own networks only"):
        freeze(torch.nn.Sequential(torch.nn.Linear(2, 2)), "2")
    with pytest.raises(UserError, match="no classifier was found"):
        freeze(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)), "backbone")
