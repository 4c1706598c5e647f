"""ReXNets with widths of their own, told by their tensors."""

from __future__ import annotations

from typing import Any

import pytest

from rexdet.zoo.registry import identify, skeleton


@pytest.mark.parametrize(
    ("name", "overrides", "channels"),
    [
        ("rexnet_1.0", {}, {"stem": 30}),
        ("rexnet_1.3", {}, {"blocks.3.expand": 301, "blocks.3.squeeze_excitation.reduce": 20, "penultimate": 1000}),
        ("rexnet_1.0", {}, {"blocks.5.project": 75, "blocks.9.project": 110}),
        ("rexnet_lite_1.0", {}, {"blocks.5.project": 75}),
        ("rexnetr_1.5", {}, {"blocks.5.project": 109}),
        ("rexnet_1.0", {"depth": 1.4}, {"blocks.7.expand": 301}),
        ("rexnet_2.0", {"squeeze_excitation": False}, {"blocks.7.expand": 301}),
    ],
)
def test_widths_of_its_own_come_back_beside_the_name(
    name: str, overrides: dict[str, Any], channels: dict[str, int]
) -> None:
    state = skeleton(name, channels=channels, **overrides).state_dict()
    assert identify(state) == (name, {**overrides, "channels": channels})
    without_head = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
    assert identify(without_head) == (name, {**overrides, "channels": channels})


def test_every_width_may_be_of_its_own() -> None:
    plain = skeleton("rexnet_1.0").channels
    channels = {path: max(9 * width // 10, 1) for path, width in plain.items()}
    state = skeleton("rexnet_1.0", channels=channels).state_dict()
    found = identify(state)
    assert found is not None
    name, overrides = found
    same = skeleton(name, **overrides)
    assert same.channels == channels
    assert {key: tensor.shape for key, tensor in same.state_dict().items()} == {
        key: tensor.shape for key, tensor in state.items()
    }
