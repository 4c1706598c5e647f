"""Layouts of ResNets: told apart by content, inverted to the bit, equal in what the network computes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rexdet
from rexdet.weights.detectron_layouts import FOLDED_VARIANCE
from rexdet.weights.layouts import find_networks, layout_by_name

State = dict[str, Tensor]
IMAGENET_LAYOUTS = ("ours", "torchvision", "caffe2", "detectron2_resnet")


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def shake(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and affine parameters as training leaves them, so that every tensor counts."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
    return network.eval()


def told(state: State) -> tuple[str, str | None, dict[str, Any]]:
    checkpoint = rexdet.open_checkpoint(state)
    return checkpoint.layout, checkpoint.network, dict(checkpoint.overrides)


def fails(call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- torchvision and timm


def test_golden_weights_compute_torchvisions_outputs(shared_dir: Path) -> None:
    folder = shared_dir / "golden"
    sys.path.insert(0, str(folder))
    try:
        import fill
    finally:
        sys.path.remove(str(folder))
    shapes = json.loads((folder / "torchvision_resnext50_32x4d.json").read_text())
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in fill.fill_state_dict(shapes).items()}
    images, outputs = torch.from_numpy(fill.golden_input()), np.load(folder / "torchvision_resnext50_32x4d.npz")
    checkpoint = rexdet.open_checkpoint(state)
    assert (checkpoint.layout, checkpoint.network, checkpoint.overrides) == ("torchvision", "resnext50_32x4d", {})
    assert checkpoint.stride_in == "3x3"
    model = rexdet.create_model("resnext50_32x4d", weights=checkpoint).eval()
    backbone = rexdet.create_backbone("resnext50_32x4d", norm="FrozenBN", weights=checkpoint).eval()
    with torch.no_grad():
        assert relative(model(images), torch.from_numpy(outputs["logits"])) < 1e-4
        for ours, theirs in zip(backbone(images).values(), ("s4", "s8", "s16", "s32"), strict=True):
            assert relative(ours, torch.from_numpy(outputs[theirs])) < 1e-4
    back = layout_by_name("torchvision", "resnet").from_ours(checkpoint.state_dict())
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("builder", "name", "options"),
    [
        ("resnet18", "resnet18", {}),
        ("resnet34", "resnet34", {}),
        ("resnet50", "resnet50", {}),
        ("resnet50", "resnext50_8x14d", {"groups": 8, "width_per_group": 14}),
        ("resnet50", "resnext50_1x128d", {"width_per_group": 128}),
    ],
)
def test_torchvisions_networks_open_and_agree(builder: str, name: str, options: dict[str, int]) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = shake(getattr(models, builder)(num_classes=7, **options))
    state = theirs.state_dict()
    assert told(state) == ("torchvision", name, {})
    ours = rexdet.create_model(name, weights=state).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert relative(ours(images), theirs(images)) < 1e-4


@pytest.mark.parametrize("name", ["resnet26", "resnet50_gn", "resnext50_32x4d", "resnet34"])
def test_timms_plain_networks_have_torchvisions_keys(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = shake(timm.create_model(name, num_classes=5))
    checkpoint = rexdet.open_checkpoint(theirs.state_dict())
    assert checkpoint.layout == "torchvision"
    if name == "resnet26":
        assert checkpoint.network is None
        return
    ours = rexdet.create_model(
        checkpoint.network, 5, weights=checkpoint, norm="GN" if checkpoint.shape.norm == "group" else "BN"
    ).eval()
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        assert relative(ours(images), theirs(images)) < 1e-4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50d", "a stem of several convolutions"),
        ("resnet18d", "a stem of several convolutions"),
        ("seresnext26t_32x4d", "several convolutions"),
        ("seresnet50", "squeeze-excitation"),
        ("ecaresnet26t", "a stem of several convolutions"),
        ("res2net50_26w_4s", "Res2Net"),
        ("resnest50d", "several convolutions"),
        ("skresnet18", "split attention"),
    ],
)
def test_timms_other_residual_networks_are_refused_by_what_they_have(name: str, expected: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=5).state_dict()
    text = fails(rexdet.open_checkpoint, {key: torch.zeros(tensor.shape) for key, tensor in state.items()})
    assert expected in text
    assert "timm:NAME" in text


def test_a_detectors_backbone_of_torchvision_is_found() -> None:
    detection = pytest.importorskip("torchvision.models.detection")
    theirs = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    checkpoint = rexdet.open_checkpoint(theirs.state_dict())
    assert (checkpoint.layout, checkpoint.network) == ("torchvision", "resnet50")
    assert (checkpoint.kind, checkpoint.prefix) == ("detector", "backbone.body.")
    backbone = rexdet.create_backbone("resnet50", norm="FrozenBN", weights=checkpoint).eval()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs.backbone.body.eval()(images)
        for ours, maps in zip(("res3", "res4", "res5"), expected.values(), strict=True):
            assert relative(backbone(images)[ours], maps) < 1e-4


# --- every layout, there and back


@pytest.mark.parametrize("layout", IMAGENET_LAYOUTS)
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet50", {}),
        ("resnext50_32x4d", {}),
        ("resnet50", {"channels": {"stem": 40, "stages.2.5.unit1": 200}}),
        ("resnet50", {"norm": "GN"}),
    ],
)
def test_ours_to_theirs_and_back_is_bit_identical(
    make_state: Callable[..., State], layout: str, name: str, overrides: dict[str, Any]
) -> None:
    state = make_state(name, **overrides)
    theirs = layout_by_name(layout, "resnet").from_ours(state)
    matches = find_networks(theirs)
    assert [(match.layout.name, match.prefix, match.extra) for match in matches] == [(layout, "", ())]
    back = matches[0].to_ours(theirs)
    # Caffe2's names know no counters.
    kept = [key for key in state if layout != "caffe2" or not key.endswith("num_batches_tracked")]
    assert list(back) == kept
    assert all(torch.equal(back[key], state[key]) for key in kept)


@pytest.mark.parametrize("layout", ["ours", "torchvision", "detectron2_resnet"])
def test_basic_blocks_survive_there_and_back(make_state: Callable[..., State], layout: str) -> None:
    state = make_state("resnet18")
    theirs = layout_by_name(layout, "resnet").from_ours(state)
    assert told(theirs) == (layout, "resnet18", {})
    back = find_networks(theirs)[0].to_ours(theirs)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("name", "layout"), [("resnet20_cifar", "akamaster"), ("resnet32b_cifar", "distiller"), ("resnet20_cifar", "ours")]
)
def test_the_forms_for_small_images_survive_there_and_back(
    make_state: Callable[..., State], name: str, layout: str
) -> None:
    state = make_state(name)
    theirs = layout_by_name(layout, "resnet").from_ours(state)
    assert told(theirs) == (layout, name, {})
    back = find_networks(theirs)[0].to_ours(theirs)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)
    without_head = {key: tensor for key, tensor in theirs.items() if not key.startswith(("fc.", "linear.", "head."))}
    assert told(without_head) == (layout, name, {})


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("resnet20_cifar", "torchvision", "no networks for 32 x 32"),
        ("resnet20_cifar", "distiller", "shortcuts are convolutions"),
        ("resnet20b_cifar", "akamaster", "shortcuts have no convolutions"),
        ("resnet18", "akamaster", "basic blocks for 32 x 32 images alone"),
        ("resnet18", "caffe2", "ResNets of bottlenecks"),
        ("resnet20_cifar", "detectron2_resnet", "no networks for 32 x 32"),
        ("resnet18", "authors", "has the layouts ours, torchvision"),
    ],
)
def test_a_layout_without_such_a_network_says_so(
    make_state: Callable[..., State], name: str, layout: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        layout_by_name(layout, "resnet").from_ours(make_state(name))


def test_timms_name_for_torchvisions_keys_is_taken(make_state: Callable[..., State]) -> None:
    assert layout_by_name("timm", "resnet").name == "torchvision"


def test_a_norm_behind_the_stem_of_a_small_resnext_is_told_and_built(make_state: Callable[..., State]) -> None:
    state = make_state("resnext29_2x16d_cifar", stem_norm=True)
    checkpoint = rexdet.open_checkpoint(state)
    assert checkpoint.overrides == {"stem_norm": True}
    model = rexdet.create_model("resnext29_2x16d_cifar", weights=checkpoint)
    assert torch.equal(model.state_dict()["stem.norm.bias"], state["stem.norm.bias"])
    text = fails(rexdet.load_weights, rexdet.create_model("resnext29_2x16d_cifar"), checkpoint)
    assert "stem norm present in the file, absent in the model" in text
    assert text.endswith("use resnext29_2x16d_cifar with stem_norm=True")


# --- Caffe2 and detectron2


def folded(state: State) -> State:
    """A state in Detectron's names: the norms folded into scale and shift, as its conversion does."""
    theirs: State = {}
    layout = layout_by_name("caffe2", "resnet")
    full = layout.from_ours(state)
    for key, tensor in full.items():
        if key.endswith("_bn_gamma"):
            base = key.removesuffix("gamma")
            scale = tensor / torch.sqrt(full[f"{base}running_var"] + 1e-5)
            theirs[f"{base}s"] = scale
            theirs[f"{base}b"] = full[f"{base}beta"] - full[f"{base}running_mean"] * scale
        elif "_bn_" not in key:
            theirs[key] = tensor
    return theirs


@pytest.mark.parametrize(
    ("name", "stride_in", "std"),
    [("resnet50", "1x1", [1.0, 1.0, 1.0]), ("resnext50_32x4d", "3x3", [1.0, 1.0, 1.0])],
)
def test_folded_norms_of_detectron_compute_the_same(
    make_state: Callable[..., State], tmp_path: Path, name: str, stride_in: str, std: list[float]
) -> None:
    state = make_state(name)
    theirs = folded(state)
    theirs["conv1_b"] = torch.zeros(64)
    theirs["res2_0_branch2a_w_momentum"] = torch.ones(3)
    checkpoint = rexdet.open_checkpoint({"blobs": theirs})
    assert (checkpoint.layout, checkpoint.network, checkpoint.stride_in) == ("caffe2", name, stride_in)
    assert checkpoint.overrides == ({"stride_in": "1x1"} if stride_in == "1x1" else {})
    assert set(checkpoint.ignored) == {"conv1_b", "res2_0_branch2a_w_momentum"}
    assert checkpoint.extra == ()
    assert checkpoint.pixels.detectron2_pixels() == ([103.53, 116.28, 123.675], std, "BGR")
    plain = rexdet.create_model(name, 10, stride_in=stride_in).eval()
    rexdet.load_weights(plain, state)
    model = rexdet.create_model(name, weights=checkpoint, norm="FrozenBN").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative(model(images), plain(images)) < 1e-4
    back = layout_by_name("caffe2", "resnet").from_ours(checkpoint.state_dict())
    assert all(torch.equal(back[key], theirs[key]) for key in back)
    assert set(theirs) - set(back) == {"conv1_b", "res2_0_branch2a_w_momentum"}


def test_the_variance_that_stands_for_none_makes_one_with_eps() -> None:
    variance = torch.full((1,), FOLDED_VARIANCE)
    assert float(variance + 1e-5) == 1.0


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_names_with_statistics_and_of_group_norm_are_read(make_state: Callable[..., State], norm: str) -> None:
    theirs = layout_by_name("caffe2", "resnet").from_ours(make_state("resnet50", norm=norm))
    assert ("conv1_gn_s" in theirs) == (norm == "GN")
    assert ("res_conv1_bn_running_var" in theirs) == (norm == "BN")
    short = {
        key.replace("running_mean", "rm").replace("running_var", "riv").replace("fc1000", "pred"): tensor
        for key, tensor in theirs.items()
    }
    checkpoint = rexdet.open_checkpoint(short)
    assert checkpoint.stride_in == ("1x1" if norm == "BN" else "3x3")
    assert rexdet.load_weights(rexdet.create_model("resnet50", 10, norm=norm, **checkpoint.overrides), short).ok


def test_the_pickle_of_detectron2s_resnext_has_a_std_of_its_own(
    make_state: Callable[..., State], tmp_path: Path
) -> None:
    import pickle

    theirs = layout_by_name("caffe2", "resnet").from_ours(make_state("resnext50_32x4d"))
    path = tmp_path / "anything.pkl"
    arrays = {key: tensor.numpy() for key, tensor in theirs.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}))
    checkpoint = rexdet.open_checkpoint(path)
    assert (checkpoint.layout, checkpoint.part, checkpoint.stride_in) == ("caffe2", "model", "3x3")
    mean, std, order = checkpoint.pixels.detectron2_pixels()
    assert (mean, std, order) == ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395], "BGR")
    assert checkpoint.pixels_known_by == "assumed"


def test_two_names_of_one_tensor_are_an_error(make_state: Callable[..., State]) -> None:
    theirs = folded(make_state("resnet50"))
    theirs["res2_0_branch2a_bn_gamma"] = theirs["res2_0_branch2a_bn_s"]
    assert "two tensors are stages.0.0.unit1.norm.weight" in fails(rexdet.open_checkpoint, theirs)


def test_a_resnet_of_detectron2_opens_and_agrees() -> None:
    resnet = pytest.importorskip("detectron2.modeling.backbone.resnet")
    torch.manual_seed(0)
    stem = resnet.BasicStem(norm="BN")
    stages = resnet.ResNet.make_default_stages(50, norm="BN", stride_in_1x1=True)
    theirs = shake(resnet.ResNet(stem, stages, num_classes=6))
    state = {f"backbone.bottom_up.{key}": tensor for key, tensor in theirs.state_dict().items()}
    checkpoint = rexdet.open_checkpoint(state)
    assert (checkpoint.layout, checkpoint.network) == ("detectron2_resnet", "resnet50")
    assert checkpoint.stride_in is None
    report = rexdet.load_weights(rexdet.create_model("resnet50", 6), state)
    assert any("no tensor tells" in warning for warning in report.warnings)
    ours = rexdet.create_model("resnet50", weights=checkpoint, stride_in="1x1").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative(ours(images), theirs(images)["linear"]) < 1e-4


def test_what_detectron2_made_of_torchvisions_file_is_told_by_its_classifier(make_state: Callable[..., State]) -> None:
    theirs = layout_by_name("detectron2_resnet", "resnet").from_ours(make_state("resnet50"))
    converted = {key.replace("linear.", "stem.fc."): tensor for key, tensor in theirs.items()}
    checkpoint = rexdet.open_checkpoint(converted)
    assert (checkpoint.stride_in, checkpoint.overrides, checkpoint.kind) == ("3x3", {}, "classifier")
    assert checkpoint.pixels.order == "RGB"
    assert "several convolutions" in fails(
        rexdet.open_checkpoint, {**converted, "stem.conv2.weight": torch.zeros(64, 64, 3, 3)}
    )
