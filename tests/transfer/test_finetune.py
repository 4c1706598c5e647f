"""The trainer: learns, repeats itself to the bit, goes on where it stopped, and stops where it must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rexdet.errors import UserError
from rexdet.transfer.evaluate import evaluate
from rexdet.transfer.finetune import STATE_NAME, Trained, train
from rexdet.transfer.images import ImageSet
from rexdet.transfer.optimise import network_options
from rexdet.transfer.protocols import Protocol
from rexdet.zoo import create_model

MakeNetwork = Callable[..., nn.Module]


def weights_of(trained: Trained) -> dict[str, torch.Tensor]:
    weights = dict(trained.network.state_dict())
    if trained.average is not None:
        weights |= {f"average.{key}": value for key, value in trained.average.state_dict().items()}
    return weights


def assert_same(one: Trained, other: Trained) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_it_learns(make_network: MakeNetwork, train_set: ImageSet, test_set: ImageSet, protocol: Protocol) -> None:
    protocol = protocol.changed(steps=60)
    trained = train(make_network(), train_set, protocol, seed=0)
    result = evaluate(trained.evaluated, test_set, protocol.preprocessing())
    assert result.top1 > 0.9
    assert result.mean_per_class == pytest.approx(result.top1)
    assert trained.steps == 60
    # Six steps an epoch.
    assert [step for step, _, _ in trained.history] == [6 * epoch for epoch in range(1, 11)]
    assert trained.history[-1][1] < trained.history[0][1]


def test_a_seed_gives_the_same_weights_and_another_seed_others(
    make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol
) -> None:
    one = train(make_network(), train_set, protocol, seed=3)
    assert_same(one, train(make_network(), train_set, protocol, seed=3))
    other = train(make_network(), train_set, protocol, seed=4)
    assert not torch.equal(one.network.state_dict()["0.weight"], other.network.state_dict()["0.weight"])


@pytest.mark.parametrize("change", [{}, {"ema": 0.9, "label_smoothing": 0.1, "bn_momentum": 0.3}])
def test_a_training_that_was_stopped_goes_on_bit_identically(
    make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol, tmp_path: Path, change: dict
) -> None:
    protocol = protocol.changed(**change)
    whole = train(make_network(), train_set, protocol, seed=1)
    # Stopped twice, in the middle of an epoch; a network of other weights shows that all comes from the state.
    train(make_network(), train_set, protocol, seed=1, folder=tmp_path, stop_after=8)
    train(make_network(seed=7), train_set, protocol, seed=1, folder=tmp_path, stop_after=9)
    parts = train(make_network(seed=8), train_set, protocol, seed=1, folder=tmp_path)
    assert_same(whole, parts)
    assert parts.history == whole.history


def test_the_average_is_the_exponential_one(make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol) -> None:
    protocol = protocol.changed(ema=0.8)
    networks = []
    for steps in (1, 2):
        # The rates of the whole schedule, for as many steps.
        trained = train(make_network(), train_set, protocol, seed=0, stop_after=steps)
        networks.append(trained.network.state_dict()["6.weight"].clone())
    assert trained.average is not None
    # It begins as the weights after the first step.
    expected = 0.8 * networks[0] + 0.2 * networks[1]
    assert torch.allclose(trained.average.state_dict()["6.weight"], expected, atol=1e-7)
    assert trained.evaluated is trained.average


def test_label_smoothing_reaches_the_loss(make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol) -> None:
    plain = train(make_network(), train_set, protocol.changed(steps=1), seed=0)
    smooth = train(make_network(), train_set, protocol.changed(steps=1, label_smoothing=0.3), seed=0)
    assert plain.history[0][1] != smooth.history[0][1]
    assert plain.history[0][2] == smooth.history[0][2]


def test_a_loss_that_is_not_finite_stops_in_one_line(
    make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol
) -> None:
    protocol = protocol.changed(learning_rate=1e30, warm_up=0.0)
    with pytest.raises(UserError, match=r"the loss is not finite at step \d+ .*lower learning_rate"):
        train(make_network(), train_set, protocol, seed=0)


def test_a_state_of_another_training_is_refused(
    make_network: MakeNetwork, train_set: ImageSet, test_set: ImageSet, protocol: Protocol, tmp_path: Path
) -> None:
    train(make_network(), train_set, protocol, seed=1, folder=tmp_path, stop_after=2)
    for change, told in (
        ({"seed": 2}, "seed"),
        ({"protocol": protocol.changed(weight_decay=0.1)}, "protocol"),
        ({"images": test_set}, "images"),
    ):
        arguments = {"images": train_set, "protocol": protocol, "seed": 1, **change}
        with pytest.raises(UserError, match=f"belongs to a training with another {told}"):
            train(make_network(), folder=tmp_path, **arguments)
    (tmp_path / STATE_NAME).write_bytes(b"half a file")
    with pytest.raises(UserError, match="not a state of a training"):
        train(make_network(), train_set, protocol, seed=1, folder=tmp_path)


def test_a_drop_path_that_the_network_was_built_without_is_refused(
    make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol
) -> None:
    protocol = protocol.changed(drop_path=0.1, steps=1)
    with pytest.raises(UserError, match="the network has no drop path"):
        train(make_network(), train_set, protocol, seed=0)
    assert train(create_model("resnet8b_cifar", 3, **network_options(protocol)), train_set, protocol, seed=0).steps == 1


def test_labels_beyond_the_networks_classes_are_told(
    make_network: MakeNetwork, train_set: ImageSet, protocol: Protocol
) -> None:
    with pytest.raises(UserError, match="give it more classes"):
        train(make_network(classes=2), train_set, protocol, seed=0)


def test_accuracy_is_the_same_at_any_batch_size_and_leaves_the_mode(
    make_network: MakeNetwork, train_set: ImageSet, test_set: ImageSet, protocol: Protocol
) -> None:
    # CASES C67: evaluated in training mode at batch 1, a good network scores like chance.
    network = train(make_network(), train_set, protocol, seed=0).network
    pixels = protocol.preprocessing()
    network[1].eval()
    results = [evaluate(network, test_set, pixels, batch_size=size) for size in (1, 7, 256)]
    assert network.training
    assert not network[1].training
    assert len({result.top1 for result in results}) == 1
    assert torch.equal(results[0].predictions, results[2].predictions)
    assert results[0].loss == pytest.approx(results[2].loss, rel=1e-5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate(network, test_set, pixels)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_mean_per_class_weighs_classes_alike() -> None:
    from rexdet.transfer.evaluate import Evaluation

    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 2, 2])
    result = Evaluation(torch.zeros(10, dtype=torch.int64), labels, 0.0)
    assert result.top1 == pytest.approx(0.8)
    assert result.mean_per_class == pytest.approx(0.5)
