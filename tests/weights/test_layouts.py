"""Layouts: told apart by content, inverted to the bit, equal in what the network computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rexdet
from rexdet.weights.layouts import find_networks, layout_by_name
from rexdet.weights.rexnet_layouts import from_authors

GOLDEN = {
    "clovaai_rexnetv1_0.9x": ("rexnet_0.9", "authors"),
    "clovaai_rexnetv1_1.0x": ("rexnet_1.0", "authors"),
    "clovaai_rexnetv1_lite_1.0x": ("rexnet_lite_1.0", "authors"),
    "timm_rexnet_100": ("rexnet_1.0", "timm"),
}


def golden(shared_dir: Path, name: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, Any]:
    folder = shared_dir / "golden"
    sys.path.insert(0, str(folder))
    try:
        import fill
    finally:
        sys.path.remove(str(folder))
    shapes = json.loads((folder / f"{name}.json").read_text())
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in fill.fill_state_dict(shapes).items()}
    return state, torch.from_numpy(fill.golden_input()), np.load(folder / f"{name}.npz")


def relative(ours: torch.Tensor, theirs: Any) -> float:
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_weights_open_by_content_and_compute_the_published_outputs(shared_dir: Path, name: str) -> None:
    network, layout = GOLDEN[name]
    state, images, outputs = golden(shared_dir, name)
    checkpoint = rexdet.open_checkpoint(state)
    assert (checkpoint.network, checkpoint.layout, checkpoint.kind) == (network, layout, "classifier")
    assert checkpoint.overrides == {}
    model = rexdet.create_model(network, weights=checkpoint).eval()
    backbone = rexdet.create_backbone(network, norm="FrozenBN", weights=checkpoint).eval()
    with torch.no_grad():
        assert relative(model(images), outputs["logits"]) < 1e-4
        features = backbone(images)
    for ours, theirs in (("res2", "s4"), ("res3", "s8"), ("res4", "s16"), ("res5", "s32")):
        if theirs in outputs:
            assert relative(features[ours], outputs[theirs]) < 1e-4


@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_published_state_survives_the_round_trip_to_the_bit_and_in_order(shared_dir: Path, name: str) -> None:
    state, _, _ = golden(shared_dir, name)
    checkpoint = rexdet.open_checkpoint(state)
    back = layout_by_name(checkpoint.layout).from_ours(checkpoint.state_dict())
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)


@pytest.mark.parametrize("layout", ["ours", "authors", "timm"])
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("rexnet_0.6", {}),
        ("rexnet_1.3", {"squeeze_excitation": False}),
        ("rexnet_0.5", {"depth": 1.4}),
        ("rexnet_lite_1.3", {}),
        ("rexnetr_1.5", {}),
    ],
)
def test_ours_to_theirs_and_back_is_bit_identical(
    make_state, layout: str, name: str, overrides: dict[str, Any]
) -> None:
    state = make_state(name, **overrides)
    if layout == "timm" and "lite" in name:
        with pytest.raises(ValueError, match="no ReXNet-lite"):
            layout_by_name(layout).from_ours(state)
        return
    theirs = layout_by_name(layout).from_ours(state)
    matches = find_networks(theirs)
    assert [(match.layout.name, match.prefix, match.extra) for match in matches] == [(layout, "", ())]
    back = matches[0].to_ours(theirs)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], state[key]) for key in state)
    checkpoint = rexdet.open_checkpoint(theirs)
    assert (checkpoint.network, checkpoint.overrides) == (name, overrides)


@pytest.mark.parametrize("width", [0.6, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0, 2.2, 3.0])
def test_any_width_of_timm_opens_and_agrees(width: float) -> None:
    rexnet = pytest.importorskip("timm.models.rexnet")
    torch.manual_seed(1)
    theirs = rexnet.RexNet(width_mult=width, num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = rexdet.create_model(f"rexnet_{width}", 7).eval()
    checkpoint = rexdet.open_checkpoint(theirs.state_dict())
    assert (checkpoint.network, checkpoint.layout, checkpoint.shape.classes) == (f"rexnet_{width}", "timm", 7)
    assert rexdet.load_weights(ours, checkpoint).ok
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(images)
        assert relative(ours(images), expected.numpy()) < 1e-4


@pytest.mark.parametrize("width", [1.0, 2.0, 3.0])
def test_timms_rounded_networks_open_under_their_own_name(width: float) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(f"rexnetr_{round(100 * width)}", num_classes=5)
    checkpoint = rexdet.open_checkpoint(theirs.state_dict())
    assert checkpoint.network == f"rexnetr_{width}"
    assert checkpoint.overrides == {}


def test_the_feature_extractor_of_timm_is_read_as_a_backbone() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("rexnet_100", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    checkpoint = rexdet.open_checkpoint(theirs.state_dict())
    assert (checkpoint.network, checkpoint.kind) == ("rexnet_1.0", "backbone")
    backbone = rexdet.create_backbone("rexnet_1.0", weights=checkpoint).eval()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        for ours, expected in zip(backbone(images).values(), theirs(images), strict=True):
            assert relative(ours, expected.numpy()) < 1e-4


def test_a_convolution_of_the_authors_classifier_is_our_linear_layer(small_state, in_layout) -> None:
    theirs = in_layout(small_state, "authors")
    assert theirs["output.1.weight"].shape == (10, 384, 1, 1)
    assert from_authors(theirs)["head.weight"].shape == (10, 384)


def test_a_key_where_the_layout_has_nothing_is_an_error(small_state, in_layout) -> None:
    theirs = in_layout(small_state, "authors")
    theirs["features.2.weight"] = torch.zeros(3)
    with pytest.raises(rexdet.UserError, match=r"features\.2\.weight stands where the layout has nothing"):
        rexdet.open_checkpoint(theirs)
