"""Networks that timm and torchvision define."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from safetensors.torch import save_file

import rexdet
from rexdet.weights import cache
from rexdet.zoo.external_checkpoint import fetch_external
from rexdet.zoo.names import parse


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Channels of the last block before each stride change, as the packages' own documentation lists them.
CHANNELS = {
    "timm:resnet18": (64, 128, 256, 512),
    "timm:mobilenetv3_small_050": (16, 16, 24, 48),
    "torchvision:resnet18": (64, 128, 256, 512),
    "torchvision:mobilenet_v2": (24, 32, 96, 320),
    "torchvision:efficientnet_b0": (24, 40, 112, 320),
}


def skip_without(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])


@pytest.mark.parametrize("name", list(CHANNELS))
def test_maps_are_what_they_are_announced_to_be(name: str) -> None:
    """C05: the last map is the last block, never the convolution that widens it for the classifier."""
    skip_without(name)
    backbone = rexdet.create_backbone(name, ("res5", "res2", "res3", "res4")).eval()
    assert list(backbone.features) == ["res5", "res2", "res3", "res4"]
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert list(maps) == ["res5", "res2", "res3", "res4"]
    for level, feature in enumerate(("res2", "res3", "res4", "res5")):
        announced = backbone.features[feature]
        assert announced.stride == 4 << level
        assert maps[feature].shape == (1, announced.channels, 64 // announced.stride, 96 // announced.stride)
    if name != "timm:mobilenetv3_small_050":
        assert tuple(backbone.features[f"res{stage}"].channels for stage in (2, 3, 4, 5)) == CHANNELS[name]


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18", "torchvision:mobilenet_v2"])
def test_frozen_stages_stay_as_they_are(name: str) -> None:
    """C07: no gradient, and no drift of statistics while training."""
    skip_without(name)
    backbone = rexdet.create_backbone(name, freeze_at=2).train()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(value.square().mean() for value in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
        optimizer.step()
    same = {key for key, tensor in backbone.state_dict().items() if torch.equal(tensor, before[key])}
    frozen = (
        ("body.conv1.", "body.bn1.", "body.layer1.")
        if "resnet" in name
        else tuple(f"body.features.{i}." for i in range(4))
    )
    assert {key for key in before if key.startswith(frozen)} == same
    assert len(same) < len(before)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "nm2:1/torchvision:mobilenet_v2", "timm:resnet18"])
def test_a_copy_keeps_modes_and_frozen_parts(name: str) -> None:
    skip_without(name.rpartition("/")[2])
    backbone = rexdet.create_backbone(name, freeze_at=2)
    for mode in (True, False):
        copied = copy.deepcopy(backbone.train(mode))
        modes = [{path: module.training for path, module in one.named_modules()} for one in (backbone, copied)]
        assert modes[0] == modes[1]
    images = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(copied(images)[level], value) for level, value in backbone(images).items())
    before = {key: value.clone() for key, value in copied.state_dict().items()}
    copied.train()(torch.randn(2, 3, 64, 64))
    changed = {key for key, value in copied.state_dict().items() if not torch.equal(value, before[key])}
    trained = {key for key, value in backbone.named_parameters() if value.requires_grad}
    assert changed
    assert {key.rpartition(".")[0] for key in changed} <= {key.rpartition(".")[0] for key in trained}


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_other_packages_backbones_leave_for_other_programs(name: str) -> None:
    """Their max-pooling, as it is, would tie the exported network to one size."""
    skip_without(name)
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    backbone = rexdet.create_backbone(name).eval()
    fast = rexdet.optimize_for_inference(backbone, torch.randn(1, 3, 64, 96), backend="onnxruntime")
    images = torch.randn(2, 3, 77, 50)
    with torch.no_grad():
        expected = backbone(images)
    found = fast(images)
    assert list(found) == list(expected)
    assert all(torch.allclose(found[level], value, rtol=1e-3, atol=1e-3) for level, value in expected.items())


def test_stages_whose_maps_nobody_asks_for_can_be_frozen() -> None:
    """RetinaNet reads res3 to res5 and freezes the stem and res2."""
    pytest.importorskip("timm")
    backbone = rexdet.create_backbone("timm:resnet18", ("res5",), freeze_at=2)
    assert list(backbone(torch.zeros(1, 3, 64, 64))) == list(backbone.features) == ["res5"]
    frozen = {key.split(".")[1] for key, tensor in backbone.named_parameters() if not tensor.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    whole = rexdet.create_backbone("timm:resnet18", ("res3",), freeze_at=5)
    assert not any(tensor.requires_grad for tensor in whole.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet1", "timm:resnet1"),
        ("torchvision:resnet1", "torchvision:resnet1"),
        # Near to nothing: no empty suggestion.
        ("timm:zzzz", "timm.list_models() lists them"),
        ("torchvision:zzzz", "torchvision.models.list_models() lists them"),
        ("timm:vit_tiny_patch16_224", "has no map for res2"),
        ("timm:swin_tiny_patch4_window7_224", "takes no image of 128 x 128"),
        ("timm:resnet18@nonsense", "timm:resnet18@a1_in1k"),
        ("torchvision:resnet18@nonsense", "torchvision:resnet18@IMAGENET1K_V1"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(name: str, expected: str) -> None:
    skip_without(name)
    text = refusal(rexdet.create_backbone, name)
    assert expected in text


def test_maps_with_channels_last_are_refused() -> None:
    pytest.importorskip("timm")
    text = refusal(rexdet.create_backbone, "timm:swin_tiny_patch4_window7_224", strict_img_size=False)
    assert "not (B, C, H, W)" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"out_features": ("res2", "penultimate")}, "each once"),
        ({"norm": "GN"}, "norm 'GN'"),
        ({"freeze_at": 7}, "freeze_at is 7"),
        ({"norm": "FrozenBN"}, "frozen norm without statistics"),
        ({"weights": {}}, "no tensors"),
        ({"weights": 3}, "weights are int 3"),
        ({"weights": ""}, "empty text"),
        ({"out_features": None}, "each once"),
        ({"freeze_at": 2.0}, "freeze_at is 2.0"),
        # A name alone never loads anything.
        ({"pretrained": True}, "pretrained would load weights"),
        ({"weights_backbone": "DEFAULT"}, "would load weights"),
        ({"activation_checkpointing": True}, "activation checkpointing"),
    ],
)
def test_what_another_packages_network_cannot_have_is_told(options, expected: str) -> None:
    pytest.importorskip("torchvision")
    assert expected in refusal(rexdet.create_backbone, "torchvision:resnet18", **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pretrained": True}, "pretrained would load weights"),
        ({"checkpoint_path": "anything.pth"}, "checkpoint_path would load weights"),
        ({"channels": {}}, "KeyError"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
    ],
)
@pytest.mark.parametrize("entrance", [rexdet.create_model, rexdet.create_backbone])
def test_what_timm_cannot_be_built_with_is_one_line(entrance, options, expected: str) -> None:
    pytest.importorskip("timm")
    assert expected in refusal(entrance, "timm:resnet18", **options)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_a_file_in_the_packages_own_layout_fills_model_and_backbone(tmp_path, package: str, norm: str) -> None:
    pytest.importorskip(package)
    name = f"{package}:resnet18"
    torch.manual_seed(3)
    source = rexdet.create_model(name).eval()
    source.bn1.running_mean.normal_()
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), str(path))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rexdet.create_model(name, weights=path).eval()(images), source(images))
        backbone = rexdet.create_backbone(name, norm=norm, weights=path).eval()
        random = rexdet.create_backbone(name).eval()
        pooled = backbone(images)["res5"].mean((2, 3))
        torch.testing.assert_close(source.fc(pooled), source(images), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(random(images)["res5"], backbone(images)["res5"])
    assert rexdet.create_model(name, 3, weights=path).eval()(images).shape == (1, 3)
    state = source.state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state, str(path))
    assert "layer1.0.conv1.weight" in refusal(rexdet.create_backbone, name, weights=path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("timm:resnet18@a1_in1k", "timm.resnet18.a1_in1k.safetensors"),
        ("torchvision:resnet18@IMAGENET1K_V1", "resnet18-f37072fd.pth"),
    ],
)
def test_a_tag_names_the_file_to_fetch(name: str, file: str) -> None:
    skip_without(name)
    text = refusal(rexdet.create_model, name)
    assert "https://" in text
    assert str(cache.folder() / file) in text


def test_a_tag_brings_the_pixels(tmp_path) -> None:
    pytest.importorskip("timm")
    cache.folder().mkdir(parents=True)
    source = rexdet.create_model("timm:resnet18")
    save_file(source.state_dict(), str(cache.folder() / "timm.resnet18.a1_in1k.safetensors"))
    path, known = fetch_external(parse("timm:resnet18@a1_in1k"))
    assert path.name == "timm.resnet18.a1_in1k.safetensors"
    assert (known.pixels.mean, known.pixels.crop) == ((0.485, 0.456, 0.406), 224)
    model = rexdet.create_model("timm:resnet18@a1_in1k")
    assert torch.equal(model.conv1.weight, source.conv1.weight)


def test_a_package_that_is_not_installed_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refusal(rexdet.create_model, "timm:resnet18")
