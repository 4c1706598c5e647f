"""Protocol files: what is shipped is what the papers say, what is wrong is told in one line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from rexdet.errors import UserError
from rexdet.transfer.optimise import learning_rates, recipe
from rexdet.transfer.protocols import list_protocols, protocol_folder, read_protocol


def test_cifar_is_the_resnext_papers() -> None:
    protocol = read_protocol("cifar")
    assert protocol.total_steps(50_000) == pytest.approx(300 * 50_000 / 128, abs=1)
    assert (protocol.batch_size, protocol.learning_rate, protocol.weight_decay) == (128, 0.1, 5e-4)
    assert (protocol.augmentation.pad, protocol.augmentation.flip) == (4, True)
    rates = learning_rates(protocol, 300)
    # A step an epoch: 0.1 up to epoch 150, a tenth up to 225, a hundredth to the end.
    assert rates[:150] == pytest.approx([0.1] * 150)
    assert rates[150:225] == pytest.approx([0.01] * 75)
    assert rates[225:] == pytest.approx([0.001] * 75)
    assert recipe(protocol, 117_188).schedule == "times 0.1 at 58594, 87891"
    assert protocol.preprocessing().mean == pytest.approx((125.3 / 255, 123.0 / 255, 113.9 / 255))


def test_a_warm_up_rises_to_the_rate_and_a_cosine_falls_to_nothing() -> None:
    rates = learning_rates(read_protocol("cifar_short").changed(steps=100), 100)
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[5] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in pairwise(rates[5:]))
    assert rates[-1] < 1e-4
    # Half of the way down, half of the rate.
    assert rates[52] == pytest.approx(0.05, rel=0.03)


def test_every_shipped_protocol_reads_and_bears_its_files_name() -> None:
    assert {"cifar", "cifar_short"} <= set(list_protocols())
    for name in list_protocols():
        assert read_protocol(name).name == name


def test_epochs_take_the_place_of_steps() -> None:
    short = read_protocol("cifar_short")
    assert (short.steps, short.epochs) == (800, None)
    longer = short.changed(epochs=2)
    assert (longer.steps, longer.epochs) == (None, 2)
    assert longer.total_steps(640) == 20
    assert longer.changed(steps=7).total_steps(640) == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_sise": 3}, "batch_sise"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"steps": 10}, "exactly one of epochs and steps"),
        ({"epochs": None}, "exactly one of epochs and steps"),
        ({"schedule": {"kind": "step"}}, "`at` lists where a step schedule falls"),
        ({"schedule": {"kind": "step", "at": [0.8, 0.5]}}, "must rise"),
        ({"pixels": "imagenette"}, "imagenette"),
    ],
)
def test_a_wrong_protocol_is_told_in_one_line(tmp_path: Path, change: dict, told: str) -> None:
    values = yaml.safe_load((protocol_folder() / "cifar.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, **change}))
    with pytest.raises(UserError, match=told) as caught:
        read_protocol(path)
    assert str(path) in str(caught.value)


def test_an_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(UserError, match="there is no protocol 'cifar_shirt'; there are cifar_short"):
        read_protocol("cifar_shirt")
