"""Networks and backbones by name, with and without weights."""

from __future__ import annotations

import pytest
import torch

import rexdet
from rexdet.nets import Feature
from rexdet.nets.layers import FrozenBatchNorm2d
from rexdet.zoo import build_backbone

SMALL = "rexnet_0.3"


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def norm_kinds(module: torch.nn.Module) -> set[str]:
    return {type(part).__name__ for part in module.modules() if "Norm" in type(part).__name__}


def test_a_model_gives_logits_of_the_class_count() -> None:
    assert rexdet.create_model(SMALL, 5).eval()(torch.zeros(2, 3, 33, 47)).shape == (2, 5)
    assert rexdet.create_model(SMALL).num_classes == 1000


def test_weights_of_ones_own_bring_their_class_count(small_state) -> None:
    model = rexdet.create_model(SMALL, weights=small_state)
    assert model.num_classes == 10
    assert torch.equal(model.state_dict()["head.weight"], small_state["head.weight"])
    assert rexdet.create_model(SMALL, 3, weights=small_state).num_classes == 3
    assert "use rexnet_0.3" in refusal(rexdet.create_model, "rexnet_1.0", weights=small_state)


def test_a_backbone_gives_the_maps_that_it_announces() -> None:
    backbone = rexdet.create_backbone("rexnet_1.0")
    assert backbone.features == {
        "res2": Feature(38, 4),
        "res3": Feature(61, 8),
        "res4": Feature(128, 16),
        "res5": Feature(185, 32),
    }
    maps = backbone.eval()(torch.zeros(1, 3, 70, 101))
    for name, feature in backbone.features.items():
        assert maps[name].shape == (1, feature.channels, -(-70 // feature.stride), -(-101 // feature.stride))


def test_a_random_network_with_frozen_norms_is_refused(small_state) -> None:
    """C23; decision 6: only an explicit FrozenBN on a random network."""
    assert "frozen norm without statistics" in refusal(rexdet.create_backbone, SMALL, norm="FrozenBN")
    assert norm_kinds(rexdet.create_backbone(SMALL)) == {"BatchNorm2d"}
    assert norm_kinds(rexdet.create_backbone(SMALL, norm=None)) == {"BatchNorm2d"}
    assert norm_kinds(rexdet.create_backbone(SMALL, norm="FrozenBN", weights=small_state)) == {"FrozenBatchNorm2d"}
    assert norm_kinds(rexdet.create_backbone(SMALL, norm=None, weights=small_state)) == {"FrozenBatchNorm2d"}
    assert norm_kinds(build_backbone(SMALL, norm="FrozenBN")) == {"FrozenBatchNorm2d"}
    assert norm_kinds(rexdet.create_backbone(SMALL, norm="GN")) == {"GroupNorm"}


@pytest.mark.parametrize("with_weights", [False, True])
def test_freezing_that_somebody_typed_holds_with_and_without_weights(small_state, with_weights: bool) -> None:
    backbone = rexdet.create_backbone(SMALL, freeze_at=2, weights=small_state if with_weights else None).train()
    frozen = {step.path for step in backbone.frozen_steps()}
    assert frozen == {"stem", "blocks.0", "blocks.1", "blocks.2"}
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(f"{path}." for path in frozen))
    assert isinstance(backbone.stem.norm, FrozenBatchNorm2d)
    if with_weights:
        assert torch.equal(backbone.stem.norm.running_var, small_state["stem.norm.running_var"])
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(value.square().mean() for value in backbone(torch.randn(2, 3, 32, 32)).values()).backward()
        optimizer.step()
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[key]) or not key.startswith(tuple(f"{path}." for path in frozen))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"out_features": ("res2", "res6")}, "'res6'"),
        ({"out_features": ()}, "empty"),
        ({"freeze_at": 6}, "freeze_at is 6"),
        ({"norm": "LN"}, "norm 'LN'"),
        ({"drop_path": 1.5}, "drop path rate"),
        ({"weights": 3}, "weights are int 3"),
        ({"weights": []}, "weights are list []"),
        ({"weights": ""}, "empty text"),
    ],
)
def test_what_cannot_be_built_is_told(options, expected: str) -> None:
    assert expected in refusal(rexdet.create_backbone, SMALL, **options)


def test_small_images_networks_say_why_they_are_no_detectors_backbone() -> None:
    text = refusal(rexdet.create_backbone, "resnet20_cifar")
    assert "there are res2 (stride 1), res3 (stride 2), res4 (stride 4)" in text
    assert list(rexdet.create_backbone("resnet20_cifar", ("res3", "res4")).features) == ["res3", "res4"]


def test_weights_named_twice_are_an_error(small_state) -> None:
    text = refusal(rexdet.create_model, "rexnet_1.0@nav_in1k", weights=small_state)
    assert "leave one of them out" in text
