"""nmN:M/NAME: the N:M rule goes before any name, and changes no tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rexdet
from rexdet.nets.executed import record
from rexdet.weights import cache
from rexdet.zoo import published
from rexdet.zoo.names import Name, parse
from rexdet.zoo.open import is_published_name
from rexdet.zoo.registry import LISTED_WITH_RULE, resolve, skeleton


def activations(network: nn.Module) -> int:
    return len([call for call in record(network).calls if call.activation is not None])


def same_tensors(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nm2:1/resnet50", Name("resnet50", rule="2:1")),
        ("nm2:1-leaky/resnet50@tv_in1k", Name("resnet50", "tv_in1k", rule="2:1-leaky")),
        ("nm3:2/timm:resnet50.a1_in1k@x", Name("resnet50.a1_in1k", "x", "timm", "3:2")),
        ("nm2:1/lwdna:genomes/my.yaml", Name("lwdna:genomes/my.yaml", rule="2:1")),
    ],
)
def test_a_rule_is_part_of_a_name(text: str, name: Name) -> None:
    assert parse(text) == name
    assert str(name) == text
    assert str(name.without_rule) == text.partition("/")[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nm2/resnet50", "no ratio N:M"),
        ("nm2:1:1/resnet50", "no ratio N:M"),
        ("nm02:1/resnet50", "no ratio N:M"),
        ("nm182/resnet50", "no ratio N:M"),
        ("nm2:1-leeky/resnet50", "no ratio N:M"),
        ("nm0:0/resnet50", "no ratio N:M"),
        ("nm1:2/resnet50", "more activations than convolutions"),
        ("nm2:1/nm2:1/resnet50", "two N:M rules"),
        ("nm2:1/", "name"),
        ("nm2:1/resnet51", "did you mean resnet50"),
    ],
)
@pytest.mark.parametrize("entrance", [resolve, rexdet.create_model, rexdet.create_backbone])
def test_a_wrong_rule_is_one_line(entrance: Any, text: str, expected: str) -> None:
    with pytest.raises(rexdet.UserError) as caught:
        entrance(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_listed_names_carry_a_rule_and_build() -> None:
    assert set(LISTED_WITH_RULE) <= set(rexdet.list_models("nm*"))
    for name in LISTED_WITH_RULE:
        parsed = parse(name)
        assert resolve(name).rule == parsed.rule
        assert resolve(name).detection == resolve(parsed.base).detection
        assert activations(skeleton(name)) < activations(skeleton(parsed.base))


def test_the_rule_changes_activations_and_no_tensor() -> None:
    torch.manual_seed(0)
    plain = rexdet.create_model("resnet20b_cifar")
    torch.manual_seed(0)
    ruled = rexdet.create_model("nm2:1/resnet20b_cifar")
    assert same_tensors(plain, ruled)
    assert activations(plain) - activations(ruled) == 9
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(plain.eval()(x), ruled.eval()(x))


def test_one_to_one_is_the_network_itself() -> None:
    torch.manual_seed(0)
    plain = rexdet.create_model("resnet20b_cifar").eval()
    torch.manual_seed(0)
    same = rexdet.create_model("nm1:1/resnet20b_cifar").eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(x), same(x))


def test_weights_of_the_network_fill_it_under_a_rule(tmp_path: Path) -> None:
    plain = rexdet.create_model("rexnet_0.6")
    path = tmp_path / "plain.pth"
    torch.save(plain.state_dict(), path)
    assert same_tensors(plain, rexdet.create_model("nm2:1/rexnet_0.6", weights=path))
    key = "blocks.3.expand.conv.weight"
    backbone = rexdet.create_backbone("nm2:1/rexnet_0.6", norm=None, weights=path)
    assert torch.equal(backbone.state_dict()[key], plain.state_dict()[key])
    assert rexdet.load_weights(backbone, path).ok


def test_a_tag_names_the_weights_of_the_network_without_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = rexdet.create_model("rexnet_1.0")
    path = tmp_path / "published.pth"
    torch.save(plain.state_dict(), path)
    asked: list[str] = []

    def fetch(entry: published.Entry) -> Path:
        asked.append(entry.name)
        return path

    monkeypatch.setattr(published, "fetch", fetch)
    assert same_tensors(plain, rexdet.create_model("nm2:1/rexnet_1.0@nav_in1k"))
    assert asked == ["rexnet_1.0@nav_in1k"]
    assert rexdet.open_checkpoint("nm2:1/rexnet_1.0@nav_in1k").network == "rexnet_1.0"


def test_a_name_with_a_rule_is_no_path() -> None:
    assert is_published_name("nm2:1/rexnet_1.0@nav_in1k")
    assert not is_published_name("nm2:1/rexnet_1.0")
    assert not is_published_name("nm2:1/folder/rexnet_1.0@nav_in1k")
    assert not is_published_name("nm2:1/rexnet_1.0@nav_in1k.pth")
    assert not is_published_name("runs/rexnet_1.0@nav_in1k")
    with pytest.raises(rexdet.UserError, match="is a network, not a file"):
        rexdet.open_checkpoint("nm2:1/rexnet_1.0")
    with pytest.raises(rexdet.UserError, match=r"rexnet_1.0 has no published file @none"):
        rexdet.create_model("nm2:1/rexnet_1.0@none")


@pytest.mark.parametrize(
    ("name", "removed"), [("torchvision:resnet18", 8), ("timm:resnet18", 8), ("torchvision:mobilenet_v2", 17)]
)
def test_networks_of_other_packages_take_the_rule(name: str, removed: int) -> None:
    pytest.importorskip(name.partition(":")[0])
    torch.manual_seed(0)
    plain = rexdet.create_model(name)
    torch.manual_seed(0)
    ruled = rexdet.create_model(f"nm2:1/{name}")
    assert same_tensors(plain, ruled)
    assert activations(plain) - activations(ruled) == removed
    backbone = rexdet.create_backbone(f"nm2:1/{name}", freeze_at=2).train()
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [value.shape[-1] for value in maps.values()] == [16, 8, 4, 2]
    sum(value.mean() for value in maps.values()).backward()
    before = activations(rexdet.create_backbone(name))
    assert before - activations(backbone) >= removed - 1  # The last blocks behind res5 are not in a backbone.


def test_the_published_file_of_another_package_is_asked_for_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    asked: list[str] = []

    def fetch(remote: cache.RemoteFile) -> Path:
        asked.append(remote.title)
        raise rexdet.UserError("offline")

    monkeypatch.setattr(cache, "fetch", fetch)
    with pytest.raises(rexdet.UserError, match="offline"):
        rexdet.create_model("nm2:1/torchvision:resnet18@IMAGENET1K_V1")
    assert asked == ["torchvision:resnet18@IMAGENET1K_V1"]
