"""Protocol files: what is shipped is what the papers say, what is wrong is told in one line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from rexdet.errors import UserError
from rexdet.transfer.optimise import learning_rates, recipe
from rexdet.transfer.protocols import list_protocols, protocol_folder, read_any_protocol, read_protocol
from rexdet.weights.pixels import read_pixels


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
    assert recipe(protocol, 117_188).schedule == "x0.1 at 58594, 87891"
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
    named = {
        "fine_tune",
        "fine_tune_quick",
        "fine_tune_short",
        "linear_probe",
        "knn",
        "few_shot",
        "from_scratch",
        "cifar",
    }
    assert {*named, "embedded", "cifar_short"} <= set(list_protocols())
    for name in list_protocols():
        protocol = read_any_protocol(name)
        assert protocol.name == name
        assert protocol.source


def test_a_probe_is_no_protocol_of_training() -> None:
    assert read_any_protocol("knn").kind == "knn"
    with pytest.raises(UserError, match="knn is a probe"):
        read_protocol("knn")


def test_kornblith_fine_tuning_is_as_the_simclr_paper_has_it() -> None:
    protocol = read_protocol("fine_tune")
    cells = protocol.candidates()
    assert (len(cells), protocol.steps, protocol.batch_size, protocol.nesterov) == (56, 20_000, 256, True)
    rates, decays = (
        sorted({cell.learning_rate for cell in cells}),
        {cell.weight_decay * cell.learning_rate for cell in cells},
    )
    assert rates == pytest.approx([10 ** (-4 + step / 2) for step in range(7)])
    # The grid's decays are those of a step: divided by the learning rate for the optimiser, which multiplies by it.
    grid = sorted({float(f"{decay:.6e}") for decay in decays})
    assert grid == pytest.approx([0.0, *(10 ** (-6 + step / 2) for step in range(7))])
    largest = next(cell for cell in cells if cell.learning_rate == 0.0001 and cell.weight_decay > 5)
    assert largest.weight_decay == pytest.approx(10)
    assert largest.grid is None
    # PyTorch's momentum is the share of the new batch: min(10 / s, 0.1), s steps an epoch.
    assert protocol.norm_momentum(2_040) == pytest.approx(0.1)
    assert protocol.norm_momentum(75_750) == pytest.approx(10 * 256 / 75_750)
    assert len(read_protocol("fine_tune_quick").candidates()) == 20
    scratch = read_protocol("from_scratch")
    assert (len(scratch.candidates()), scratch.steps, scratch.from_scratch) == (56, 40_000, True)
    assert scratch.grid is not None
    assert scratch.grid.weight_decay == pytest.approx([10 ** (-5 + step / 2) for step in range(8)])


def test_a_size_is_the_protocols_or_the_checkpoints() -> None:
    pixels = read_pixels({"mean": [0.5] * 3, "std": [0.5] * 3, "resize": 320, "crop": 288}, "a test")
    assert read_protocol("fine_tune").size(pixels) == 288
    assert read_protocol("fine_tune_short").size(pixels) == 128


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
        ({"freeze": "6"}, "freeze"),
        ({"grid": {"learning_rate": []}}, "grid.learning_rate"),
        ({"grid": {"learning_rate": [0.1, 0.1]}}, "holds a value twice"),
        ({"augmentation": {"pad": 4, "random_resized_crop": {}}}, "two ways to crop"),
        ({"augmentation": {"random_resized_crop": {"scale": [0.5, 1.5]}}}, "scale is 0.5 to 1.5"),
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
