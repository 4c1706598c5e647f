"""Published ResNets: hashes that their names carry, pixels, and where the stride stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import rexdet
from rexdet.nets.resnet import stride_place
from rexdet.weights import cache
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.layouts import layout_by_name
from rexdet.zoo import published
from rexdet.zoo.names import parse


def test_torchvisions_weights_are_those_that_the_installed_torchvision_names() -> None:
    models = pytest.importorskip("torchvision.models")
    entries = {entry.name: entry for entry in published.entries()}
    seen = 0
    for name, entry in entries.items():
        if entry.tag not in ("tv_in1k", "tv2_in1k"):
            continue
        version = "IMAGENET1K_V1" if entry.tag == "tv_in1k" else "IMAGENET1K_V2"
        weights = models.get_model_weights(entry.network)[version]
        transforms = weights.transforms()
        assert entry.files[0].url == weights.url, name
        assert entry.files[0].short_hash == re.search(r"-([0-9a-f]{8})\.", weights.url)[1]
        assert entry.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        pixels = entry.pixels
        assert (list(pixels.mean), list(pixels.std)) == (transforms.mean, transforms.std)
        assert ([pixels.crop], [pixels.resize]) == (transforms.crop_size, transforms.resize_size)
        assert pixels.interpolation == transforms.interpolation.value
        seen += 1
    assert seen == 13


def test_timms_weights_are_those_that_the_installed_timm_names() -> None:
    resnet = pytest.importorskip("timm.models.resnet")
    seen = 0
    for entry in published.entries():
        if not entry.network.startswith("resne") or entry.files[0].layout != "timm":
            continue
        configuration = resnet.default_cfgs[entry.network].cfgs[entry.tag]
        assert entry.files[0].url == configuration.url
        assert (
            entry.files[1].url
            == f"https://huggingface.co/timm/{entry.network}.{entry.tag}/resolve/main/model.safetensors"
        )
        assert entry.licence.lower() == configuration.license
        assert (entry.pixels.mean, entry.pixels.std) == (configuration.mean, configuration.std)
        assert entry.pixels.interpolation == configuration.interpolation
        seen += 1
    assert seen == 20


@pytest.mark.parametrize(
    ("name", "file", "stride_in", "std"),
    [
        ("resnet50@d2_msra_in1k", "R-50.pkl", "1x1", [1.0, 1.0, 1.0]),
        ("resnet101@d2_msra_in1k", "R-101.pkl", "1x1", [1.0, 1.0, 1.0]),
        ("resnext101_32x8d@d2_fair_in1k", "X-101-32x8d.pkl", "3x3", [57.375, 57.12, 58.395]),
        ("resnext101_64x4d@d1_fair_in1k", "X-101-64x4d.pkl", "3x3", [1.0, 1.0, 1.0]),
    ],
)
def test_detectron2s_files_say_where_the_stride_stands_and_what_they_see(
    name: str, file: str, stride_in: str, std: list[float]
) -> None:
    entry = published.entry(parse(name))
    assert entry.files[0].name == file
    assert entry.overrides == {"stride_in": stride_in}
    assert entry.pixels.detectron2_pixels() == ([103.53, 116.28, 123.675], std, "BGR")


@pytest.mark.parametrize("layout", ["caffe2", "detectron2_resnet", "ours"])
def test_a_file_in_the_cache_is_built_with_its_stride_whatever_its_layout_tells(make_state, layout: str) -> None:
    cache.folder().mkdir(parents=True, exist_ok=True)
    state = layout_by_name(layout, "resnet").from_ours(make_state("resnet50", 1000))
    torch.save(state, cache.folder() / "R-50.pkl")
    checkpoint = rexdet.open_checkpoint("resnet50@d2_msra_in1k")
    assert (checkpoint.stride_in, checkpoint.overrides) == ("1x1", {"stride_in": "1x1"})
    assert checkpoint.pixels.order == "BGR"
    backbone = rexdet.create_backbone("resnet50@d2_msra_in1k", norm=None)
    assert stride_place(backbone) == "1x1"
    with pytest.raises(rexdet.UserError, match="stride_in 1x1 in the file, 3x3 in the model"):
        rexdet.create_backbone("resnet50@d2_msra_in1k", stride_in="3x3")
    by_path = rexdet.open_checkpoint(cache.folder() / "R-50.pkl")
    assert (by_path.source, by_path.stride_in) == ("resnet50@d2_msra_in1k", "1x1")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("resnet20-12fca82f.th", "resnet20_cifar@akamaster_cifar10"),
        ("resnet56-4bfd9763.th", "resnet56_cifar@akamaster_cifar10"),
        ("distiller_resnet20_dense.pth.tar", "resnet20b_cifar@distiller_cifar10"),
    ],
)
def test_a_trained_file_is_known_by_its_hash_and_by_its_name(shared_dir: Path, file: str, name: str) -> None:
    source = shared_dir / "data" / "checkpoints" / file
    opened = rexdet.open_checkpoint(source)
    assert (opened.source, opened.pixels_known_by) == (name, "sha")
    assert opened.licence
    cache.folder().mkdir(parents=True, exist_ok=True)
    shutil.copy(source, cache.folder() / file)
    assert rexdet.create_model(name).num_classes == 10
    assert published.entry(parse(name)).files[0].sha256 == hash_file(source)
