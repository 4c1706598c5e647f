"""Shares of the wall time, on a clock that the tests turn by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rexdet.runs import TimeShare, TimeShares


class Clock:
    """Stands still unless it is told to move on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.synchronised = 0

    def perf_counter(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def synchronize(self) -> None:
        self.synchronised += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rexdet.runs.timing.time", clock)
    return clock


def seconds(shares: TimeShares) -> dict[str, float]:
    """The shares as seconds, those of nothing left out."""
    found = shares.fractions()
    total = shares.wall_time_s()
    return {name: round(value * total, 6) for name, value in found.items() if value}


class Slow(nn.Module):
    """An operation that takes `forward_s` forward and `backward_s` backward on the test's clock."""

    def __init__(self, clock: Clock, forward_s: float, backward_s: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))

        class Operation(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, value: Tensor, weight: Tensor) -> Tensor:
                clock.wait(forward_s)
                context.save_for_backward(value, weight)
                return value * weight

            @staticmethod
            def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
                clock.wait(backward_s)
                value, weight = context.saved_tensors
                return gradients[0] * weight, (gradients[0] * value).sum()

        self.operation = Operation

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.operation.apply(value, self.weight)
        return result


class Pyramid(nn.Module):
    """A detector in small: four stages, each seen by the neck from top to bottom, and a head."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.backbone = Stages(clock)
        self.laterals = nn.ModuleList(Slow(clock, 10, 20) for _ in range(4))
        self.head = Slow(clock, 100, 200)

    def forward(self, value: Tensor) -> Tensor:
        features = list(self.backbone(value).values())
        top = self.laterals[3](features[3])
        losses = self.head(top).sum()
        for level in (2, 1, 0):
            top = top + self.laterals[level](features[level])
            losses = losses + self.head(top).sum()
        return losses


class Stages(nn.Module):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Slow(clock, 1, 2) for _ in range(4))

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        features = {}
        for number, stage in enumerate(self.stages):
            value = stage(value)
            features[f"res{number + 2}"] = value
        return features


FORWARD_AND_BACKWARD = {"backbone": 4 * (1 + 2), "neck_and_heads": 4 * (10 + 20) + 4 * (100 + 200)}


def test_blocks_count_for_the_innermost_and_the_rest_is_other(clock: Clock) -> None:
    shares = TimeShares()
    clock.wait(5)
    with shares.step(images=8):
        with shares.measure("data"):
            clock.wait(1)
        with shares.measure("neck_and_heads"):
            clock.wait(2)
            with shares.measure("backbone"):
                clock.wait(3)
            clock.wait(4)
        clock.wait(5)
    assert seconds(shares) == {"data": 1, "backbone": 3, "neck_and_heads": 6, "other": 10}
    assert shares.images_per_second() == 8 / 15
    TimeShare(**shares.fractions())


def test_a_whole_takes_in_what_is_measured_inside_it(clock: Clock) -> None:
    shares = TimeShares()
    model = Pyramid(clock).eval()
    shares.watch_backbone(model.backbone)
    with shares.measure("evaluation", whole=True):
        with shares.measure("data"):
            clock.wait(7)
        model(torch.ones(3, requires_grad=True)).backward()
    assert seconds(shares) == {"evaluation": 7 + sum(FORWARD_AND_BACKWARD.values())}


@pytest.mark.parametrize("steps", [1, 3])
def test_the_backbone_s_part_of_forward_and_backward_is_exact(clock: Clock, steps: int) -> None:
    shares = TimeShares()
    model = Pyramid(clock)
    stop = shares.watch_backbone(model.backbone)
    for _ in range(steps):
        with shares.step(), shares.measure("neck_and_heads"):
            model(torch.ones(3)).backward()
    assert seconds(shares) == {name: steps * value for name, value in FORWARD_AND_BACKWARD.items()}
    stop()
    with shares.step(), shares.measure("neck_and_heads"):
        model(torch.ones(3)).backward()
    assert seconds(shares)["backbone"] == steps * FORWARD_AND_BACKWARD["backbone"]


def test_several_passes_in_one_block_and_passes_in_blocks_of_their_own_count_alike(clock: Clock) -> None:
    model = Pyramid(clock)
    shares = TimeShares()
    shares.watch_backbone(model.backbone)
    with shares.measure("neck_and_heads"):
        for _ in range(3):
            model(torch.ones(3)).backward()
    with shares.measure("neck_and_heads"):
        loss = model(torch.ones(3))
    with shares.measure("neck_and_heads"):
        loss.backward()
    assert seconds(shares) == {name: 4 * value for name, value in FORWARD_AND_BACKWARD.items()}


def test_a_frozen_backbone_has_no_backward_part(clock: Clock) -> None:
    model = Pyramid(clock)
    model.backbone.requires_grad_(False)
    shares = TimeShares()
    shares.watch_backbone(model.backbone)
    with shares.measure("neck_and_heads"):
        model(torch.ones(3)).backward()
    assert seconds(shares) == {"backbone": 4, "neck_and_heads": FORWARD_AND_BACKWARD["neck_and_heads"]}


def test_watching_changes_no_gradient(clock: Clock) -> None:
    gradients = []
    for watched in (False, True):
        model = Pyramid(clock)
        if watched:
            TimeShares().watch_backbone(model.backbone)
        model(torch.linspace(0, 1, 5)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_failing_forward_pass_leaves_the_clock_in_order(clock: Clock) -> None:
    class Failing(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            clock.wait(1)
            raise KeyError

    shares = TimeShares()
    backbone = Failing()
    shares.watch_backbone(backbone)
    with pytest.raises(KeyError), shares.measure("neck_and_heads"):
        backbone(torch.ones(1))
    with shares.measure("data"):
        clock.wait(2)
    assert seconds(shares) == {"backbone": 1, "data": 2}


def test_on_an_accelerator_only_sampled_steps_are_synchronised_and_stand_for_all(clock: Clock) -> None:
    shares = TimeShares(clock.synchronize, sample_every=5)
    for number in range(10):
        before = clock.synchronised
        with shares.step(images=2):
            with shares.measure("data"):
                clock.wait(1)
            with shares.measure("backbone"):
                clock.wait(3)
        sampled = number % 5 == 1
        assert (clock.synchronised > before) == sampled
    with shares.measure("evaluation", whole=True):
        clock.wait(60)
    assert seconds(shares) == {"data": 10, "backbone": 30, "evaluation": 60}
    assert shares.images_per_second() == 0.5


def test_before_the_first_sampled_step_shares_are_not_known(clock: Clock) -> None:
    shares = TimeShares(clock.synchronize, sample_every=5)
    with shares.step(), shares.measure("data"):
        clock.wait(1)
    found = shares.fractions()
    assert found["data"] is None
    assert found["other"] is None
    assert found["evaluation"] == 0
    TimeShare(**found)


def test_nothing_measured_at_all_is_no_share(clock: Clock) -> None:
    shares = TimeShares()
    assert shares.images_per_second() is None
    assert set(shares.fractions().values()) == {None}


def test_a_resumed_run_adds_up(clock: Clock) -> None:
    first = TimeShares()
    with first.step(images=4), first.measure("data"):
        clock.wait(2)
    state = first.state_dict()
    clock.wait(1000)
    second = TimeShares()
    second.load_state_dict(state)
    with second.step(images=4), second.measure("backbone"):
        clock.wait(6)
    assert seconds(second) == {"data": 2, "backbone": 6}
    assert second.images_per_second() == 1


def test_an_unknown_name_is_an_error(clock: Clock) -> None:
    with pytest.raises(ValueError, match="'head' is none of data, backbone"), TimeShares().measure("head"):
        pass


def test_a_step_within_a_step_is_an_error(clock: Clock) -> None:
    shares = TimeShares()
    with pytest.raises(RuntimeError), shares.step(), shares.step():
        pass


def test_the_cpu_needs_no_synchronisation() -> None:
    shares = TimeShares.for_device(torch.device("cpu"))
    layer = nn.Conv2d(3, 8, 3)
    shares.watch_backbone(layer)
    for _ in range(2):
        with shares.step(images=1), shares.measure("neck_and_heads"):
            layer(torch.rand(1, 3, 32, 32)).sum().backward()
    found = TimeShare(**shares.fractions())
    assert found.backbone is not None
    assert found.backbone > 0
