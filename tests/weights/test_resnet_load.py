"""ResNets filled whole or not at all; errors that name the first difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rexdet
from rexdet.nets.resnet import stride_place
from rexdet.weights.layouts import layout_by_name
from rexdet.weights.save import save_checkpoint
from rexdet.zoo.open import fit_report


@pytest.mark.parametrize(
    ("file", "model", "expected", "advice"),
    [
        ("resnext50_32x4d", "resnet50", "cardinality 32 in the file, 1 in the model", "use resnext50_32x4d"),
        ("resnet50", "resnet101", "depth (blocks of each stage) 3-4-6-3 in the file, 3-4-23-3", "use resnet50"),
        ("resnet18", "resnet50", "kind of block basic in the file, bottleneck in the model", "use resnet18"),
        ("resnext50_8x14d", "resnext50_8x16d", "base width 14 in the file, 16 in the model", "use resnext50_8x14d"),
        ("resnet20_cifar", "resnet18", "stem (side of its kernel) 3 in the file, 7 in the model", "resnet20_cifar"),
        ("resnet20_cifar", "resnet20b_cifar", "shortcut of stage 2 without parameters in the file", "resnet20_cifar"),
        ("resnet32_cifar", "resnet20_cifar", "depth (blocks of each stage) 5-5-5", "use resnet32_cifar"),
        ("rexnet_0.3", "resnet50", "family ReXNet in the file, ResNet in the model", "use rexnet_0.3"),
        ("resnet18", "rexnet_0.3", "family ResNet in the file, ReXNet in the model", "use resnet18"),
    ],
)
def test_the_first_differing_hyper_parameter_is_named(file: str, model: str, expected: str, advice: str) -> None:
    state = rexdet.create_model(file).state_dict()
    with pytest.raises(rexdet.UserError) as caught:
        rexdet.load_weights(rexdet.create_model(model), state)
    text = str(caught.value)
    assert expected in text
    assert text.endswith(advice)
    assert "\n" not in text


def test_another_width_of_one_layer_is_named() -> None:
    state = rexdet.create_model("resnet18", channels={"stages.1.0.unit1": 100}).state_dict()
    with pytest.raises(rexdet.UserError) as caught:
        rexdet.load_weights(rexdet.create_model("resnet18"), state)
    assert "channels of stages.1.0.unit1 100 in the file, 128 in the model" in str(caught.value)
    assert str(caught.value).endswith("use resnet18 with 1 widths of its own")


def test_the_other_place_of_the_stride_is_refused_in_one_line() -> None:
    theirs = layout_by_name("torchvision", "resnet").from_ours(rexdet.create_model("resnet50", 3).state_dict())
    for build in (rexdet.create_model, rexdet.create_backbone):
        model = build("resnet50", stride_in="1x1")
        before = model.state_dict()["stem.conv.weight"].clone()
        with pytest.raises(rexdet.UserError) as caught:
            rexdet.load_weights(model, theirs)
        assert "stride_in 3x3 in the file, 1x1 in the model" in str(caught.value)
        assert str(caught.value).endswith('build the model with stride_in="3x3"')
        assert "\n" not in str(caught.value)
        assert torch.equal(model.state_dict()["stem.conv.weight"], before)


def test_a_detector_with_torchvisions_keys_may_have_its_stride_elsewhere() -> None:
    """MMDetection's caffe style has these keys, and the stride in the 1x1 convolution."""
    theirs = layout_by_name("torchvision", "resnet").from_ours(rexdet.create_model("resnet50", 3).state_dict())
    detector = {f"backbone.{key}": tensor for key, tensor in theirs.items() if not key.startswith("fc.")}
    detector["bbox_head.retina_cls.weight"] = torch.zeros(3)
    checkpoint = rexdet.open_checkpoint({"state_dict": detector})
    assert (checkpoint.kind, checkpoint.stride_in) == ("detector", None)
    for place in ("3x3", "1x1"):
        report = rexdet.load_weights(rexdet.create_backbone("resnet50", stride_in=place), checkpoint)
        assert report.ok
        assert any("MMDetection's caffe style" in warning for warning in report.warnings)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_place_of_the_stride_survives_a_conversion(tmp_path: Path, ending: str) -> None:
    theirs = layout_by_name("caffe2", "resnet").from_ours(rexdet.create_model("resnet50", 3).state_dict())
    path = tmp_path / f"ours.{ending}"
    save_checkpoint(rexdet.open_checkpoint(theirs), path)
    opened = rexdet.open_checkpoint(path)
    assert (opened.layout, opened.stride_in, opened.overrides) == ("ours", "1x1", {"stride_in": "1x1"})
    assert stride_place(rexdet.create_backbone("resnet50", weights=path)) == "1x1"
    assert fit_report(opened, "resnet50").ok
    with pytest.raises(rexdet.UserError, match="stride_in 1x1 in the file, 3x3 in the model"):
        rexdet.create_model("resnet50", weights=path, stride_in="3x3")


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_a_frozen_norm_with_a_variance_near_0_stays_finite_in_half_precision(
    make_state: Callable[..., dict[str, Tensor]], dtype: torch.dtype
) -> None:
    """C22: channels that died in training have filters and variances near 0; without eps they would be 0 / 0."""
    state = make_state("resnext50_32x4d")
    for key in [key for key in state if key.endswith("norm.running_var")]:
        norm = key.removesuffix("running_var")
        state[key][::3] = 1e-9
        state[f"{norm}running_mean"][::3] = 0.0
        state[norm.replace("norm.", "conv.weight")][::3] *= 1e-6
        # Random filters would let the sums of sixteen blocks grow beyond what half precision holds.
        state[f"{norm}weight"] *= 0.5
    backbone = rexdet.create_backbone("resnext50_32x4d", norm="FrozenBN", weights=state).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = backbone(images)
        rounded = backbone.to(dtype)(images.to(dtype))
    for name, feature in rounded.items():
        assert bool(torch.isfinite(feature).all())
        assert float((feature.float() - exact[name]).abs().max() / exact[name].abs().max()) < 0.1
