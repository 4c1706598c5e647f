"""What is known about files of timm's and torchvision's networks, and how that is found out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import rexdet
from rexdet.weights import cache
from rexdet.weights.pixels import IMAGENET, PRESETS
from rexdet.zoo import external_checkpoint
from rexdet.zoo.external_published import hash_in, matches_hash_in
from rexdet.zoo.open import fit_report

pytest.importorskip("timm")
NAME = "timm:mobilenetv3_small_050"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in timm's layout that says nothing about itself."""
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save_file(rexdet.create_model(NAME, 7).state_dict(), str(path))
    return path


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_opened_by_the_networks_name(file: Path) -> None:
    checkpoint = rexdet.open_checkpoint(file, network=NAME)
    assert (checkpoint.network, checkpoint.layout, checkpoint.kind) == (NAME, "timm", "classifier")
    assert checkpoint.shape.classes == 7
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (checkpoint.pixels, checkpoint.pixels_known_by, checkpoint.licence) == (IMAGENET, "assumed", None)
    assert fit_report(checkpoint, NAME).ok
    assert "network timm:" in fit_report(checkpoint, "timm:mobilenetv3_small_100").problem()
    told = rexdet.open_checkpoint(file, pixels="half", network=NAME)
    assert (told.pixels, told.pixels_known_by) == (PRESETS["half"], "user")


def test_the_sidecar_comes_before_the_users_word(file: Path) -> None:
    file.with_name(f"{file.name}.pixels.yaml").write_text("half\n")
    checkpoint = rexdet.open_checkpoint(file, network=NAME)
    assert (checkpoint.pixels, checkpoint.pixels_known_by) == (PRESETS["half"], "metadata")
    assert "you say" in refusal(rexdet.open_checkpoint, file, pixels="imagenet", network=NAME)


def test_timms_config_beside_a_file_tells_network_pixels_and_licence(file: Path) -> None:
    path = file.rename(file.with_name("model.safetensors"))
    config = {"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.8, "license": "mit"}
    beside = path.with_name("config.json")
    beside.write_text(json.dumps({"architecture": NAME.partition(":")[2], "pretrained_cfg": config}))
    checkpoint = rexdet.open_checkpoint(path)
    assert (checkpoint.network, checkpoint.pixels_known_by, checkpoint.licence) == (NAME, "metadata", "mit")
    assert (checkpoint.pixels.std, checkpoint.pixels.resize, checkpoint.pixels.crop) == ((0.25,) * 3, 200, 160)
    beside.write_text("[]")
    assert "config.json" in refusal(rexdet.open_checkpoint, path)


def test_the_hash_in_a_publishers_file_name_makes_a_file_known(file: Path, monkeypatch) -> None:
    pytest.importorskip("torchvision")
    models = pytest.importorskip("torchvision.models")
    path = file.with_name("renamed.pth")
    torch.save(rexdet.create_model("torchvision:mobilenet_v3_small").state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    assert len(hash_in(entry.url)) == 8
    assert matches_hash_in(f"https://example.org/mobilenet-{digest[:8]}.pth", digest)
    assert not matches_hash_in(entry.url, digest)
    monkeypatch.setattr("rexdet.zoo.external_torchvision.matches_hash_in", lambda url, sha256: sha256 == digest)
    checkpoint = rexdet.open_checkpoint(path, network="torchvision:mobilenet_v3_small")
    assert checkpoint.source == "torchvision:mobilenet_v3_small@IMAGENET1K_V1"
    assert (checkpoint.pixels_known_by, checkpoint.pixels.crop) == ("sha", 224)


def test_averaged_weights_under_a_prefix_are_found(file: Path) -> None:
    torch.manual_seed(1)
    raw, averaged = (rexdet.create_model(NAME, 7).state_dict() for _ in range(2))
    path = file.with_name("last.pth")
    torch.save(
        {
            "epoch": 3,
            "state_dict": {f"module.{key}": tensor for key, tensor in raw.items()},
            "state_dict_ema": {f"module.{key}": tensor for key, tensor in averaged.items()},
        },
        path,
    )
    checkpoint = rexdet.open_checkpoint(path, network=NAME)
    assert (checkpoint.part, checkpoint.ignored) == ("state_dict_ema:module", ("epoch",))
    assert torch.equal(checkpoint.tensors["conv_stem.weight"], averaged["conv_stem.weight"])
    model = rexdet.create_model(NAME, 5)
    report = rexdet.load_weights(model, path)
    assert report.head_note == "head reset because classes 7 -> 5 (expected)"
    assert torch.equal(model.conv_stem.weight, averaged["conv_stem.weight"])


def test_a_model_stays_as_it_was_where_weights_do_not_fit(file: Path) -> None:
    model = rexdet.create_model("timm:mobilenetv3_small_075")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    checkpoint = rexdet.open_checkpoint(file, network=NAME)
    assert "network timm:mobilenetv3_small_050 in the file" in refusal(rexdet.load_weights, model, checkpoint)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["timm:rexnet_100", "timm:convnext_atto"])
def test_sequences_that_timm_takes_apart_are_filled(name: str) -> None:
    """features_0.conv stands for features.0.conv there."""
    state = rexdet.create_model(name).state_dict()
    backbone = rexdet.create_backbone(name, weights=state)
    report = rexdet.load_weights(backbone, state)
    assert report.ok
    assert report.loaded == report.expected > 100


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0@ml_illustrated_in1k"),
        ("torchvision:resnet18", "torchvision:resnet18@IMAGENET1K_V1"),
    ],
)
def test_a_name_without_a_tag_is_no_file(name: str, published: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    assert published in refusal(rexdet.open_checkpoint, name)


def test_a_rule_before_the_name_changes_no_weights() -> None:
    cache.folder().mkdir(parents=True)
    save_file(
        rexdet.create_model("timm:resnet18").state_dict(), str(cache.folder() / "timm.resnet18.a1_in1k.safetensors")
    )
    checkpoint = rexdet.open_checkpoint("nm2:1/timm:resnet18@a1_in1k")
    assert (checkpoint.source, checkpoint.licence) == ("timm:resnet18@a1_in1k", "apache-2.0")
    assert external_checkpoint.external_of("nm2:1/timm:resnet18@a1_in1k") is not None
    assert rexdet.create_model("nm2:1/timm:resnet18@a1_in1k") is not None
