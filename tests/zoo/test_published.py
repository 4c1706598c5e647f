"""Published checkpoints: what is known of them, by whom, and what happens where they cannot be had."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import socket

import pytest
import torch

import rexdet
from rexdet.weights import cache, efficientnet_layouts
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.layouts import layout_by_name, layout_names
from rexdet.weights.pixels import IMAGENET
from rexdet.zoo import published
from rexdet.zoo.names import parse
from rexdet.zoo.registry import LWDNA_RESNET50, resolve


@pytest.fixture
def no_network(monkeypatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("REXDET_OFFLINE")


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_entry_is_a_network_that_can_be_built_with_facts_that_have_a_source() -> None:
    names = [entry.name for entry in published.entries()]
    assert len(names) == len(set(names))
    for entry in published.entries():
        # Without its authors' file there is no such network; another package's is checked where its file is.
        if entry.network != LWDNA_RESNET50 and not parse(entry.name).package:
            spec = resolve(entry.network)
            assert spec.name == entry.network
            assert all(spec.takes(argument) for argument in entry.overrides)
        assert parse(entry.name).tag == entry.tag
        assert entry.pixels_from
        assert (entry.top1 is None) == (entry.top1_from is None)
        assert entry.classes > 0
        for file in entry.files:
            if file.package:
                assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", file.package)
                assert file.path.endswith(f"/{file.name}")
                assert file.sha256
            else:
                assert re.match(r"https://\S+$", file.url)
            assert file.layout in {*layout_names(), "timm", efficientnet_layouts.NAME}
            assert file.known_from
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            if file.short_hash:
                assert file.short_hash in file.name
            assert (file.sha384 is None) == (file.size is None)
    files = [file.name for entry in published.entries() for file in entry.files]
    assert len(files) == len(set(files))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name", ["rexnet_0.9@nav_in1k", "rexnet_lite_0.9@nav_in1k", "rexnet_2.2@nav_in1k", "rexnet_2.2"]
)
def test_a_name_that_was_never_published_says_which_were(name: str) -> None:
    """C14: at once, offline, without a try."""
    text = refusal(rexdet.open_checkpoint, name)
    assert "no published file for this network" in text
    family = "rexnet_lite" if "lite" in name else "rexnet"
    assert f"published: {family}_1.0@nav_in1k, {family}_1.3@nav_in1k" in text


@pytest.mark.usefixtures("no_network")
def test_another_tag_and_a_name_without_a_tag_are_told() -> None:
    assert "published: rexnet_1.0@nav_in1k" in refusal(rexdet.create_model, "rexnet_1.0@ra_in1k")
    text = refusal(rexdet.open_checkpoint, "rexnet_lite_1.3")
    assert "rexnet_lite_1.3@nav_in1k" in text
    assert "did you mean rexnet_1.3" in refusal(rexdet.open_checkpoint, "rexnet1.3@nav_in1k")


def test_offline_the_error_names_the_file_and_its_place() -> None:
    for call in (rexdet.open_checkpoint, rexdet.create_model, rexdet.create_backbone):
        text = refusal(call, "rexnet_1.0@nav_in1k")
        assert "https://" in text
        assert "rexnetv1_100-1b4dddf4.pth by hand" in text
        assert str(cache.folder() / "rexnetv1_100-1b4dddf4.pth") in text


def put(name: str, make_state, layout: str, network: str = "rexnet_1.0", classes: int = 1000) -> None:
    """Lay a file of the network into the cache, as if somebody had fetched it by hand."""
    cache.folder().mkdir(parents=True, exist_ok=True)
    state = layout_by_name(layout).from_ours(make_state(network, classes))
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file({key: tensor.contiguous() for key, tensor in state.items()}, str(cache.folder() / name))
    else:
        torch.save(state, cache.folder() / name)


@pytest.mark.parametrize(
    ("file", "layout"), [("rexnet_100.nav_in1k.safetensors", "timm"), ("rexnetv1_1.0x.pth", "authors")]
)
def test_a_file_laid_into_the_cache_is_the_published_checkpoint(make_state, file: str, layout: str) -> None:
    put(file, make_state, layout)
    checkpoint = rexdet.open_checkpoint("rexnet_1.0@nav_in1k")
    assert checkpoint.source == "rexnet_1.0@nav_in1k"
    assert (checkpoint.network, checkpoint.layout, checkpoint.licence) == ("rexnet_1.0", layout, "MIT")
    assert (checkpoint.pixels, checkpoint.pixels_known_by) == (IMAGENET, "sha")
    by_path = rexdet.open_checkpoint(cache.folder() / file)
    assert (by_path.source, by_path.pixels_known_by) == ("rexnet_1.0@nav_in1k", "sha")
    assert by_path.sha256 == checkpoint.sha256 == hash_file(cache.folder() / file)
    text = refusal(rexdet.open_checkpoint, cache.folder() / file, pixels="half")
    assert "0.485, 0.456, 0.406" in text
    assert "0.5, 0.5, 0.5" in text
    assert "SHA-256" in text
    assert "0.5, 0.5, 0.5" in refusal(rexdet.open_checkpoint, "rexnet_1.0@nav_in1k", pixels="half")
    model = rexdet.create_model("rexnet_1.0@nav_in1k")
    assert model.num_classes == 1000
    assert torch.equal(model.state_dict()["head.bias"], checkpoint.state_dict()["head.bias"])
    backbone = rexdet.create_backbone("rexnet_1.0@nav_in1k", norm=None, freeze_at=2)
    assert torch.equal(backbone.stem.norm.running_mean, checkpoint.state_dict()["stem.norm.running_mean"])
    assert rexdet.create_model("rexnet_1.0@nav_in1k", 4).num_classes == 4


def test_a_file_of_another_network_under_a_published_name_is_refused(make_state) -> None:
    put("rexnet_100.nav_in1k.safetensors", make_state, "timm", "rexnet_1.3")
    text = refusal(rexdet.open_checkpoint, "rexnet_1.0@nav_in1k")
    assert "holds rexnet_1.3" in text
    assert "rexnet_100.nav_in1k.safetensors" in text


def test_a_file_whose_name_carries_a_hash_must_have_it(make_state) -> None:
    put("rexnetv1_100-1b4dddf4.pth", make_state, "timm")
    assert "expected 1b4dddf4" in refusal(rexdet.open_checkpoint, "rexnet_1.0@nav_in1k")


def test_a_known_hash_makes_a_file_known_under_any_name(make_state, tmp_path, monkeypatch) -> None:
    path = tmp_path / "mine.bin"
    torch.save(make_state("rexnet_1.0"), path)
    entry = published.entries()[0]
    file = dataclasses.replace(entry.files[0], sha256=hash_file(path), short_hash=None)
    monkeypatch.setattr(published, "entries", lambda: (dataclasses.replace(entry, files=(file,)),))
    checkpoint = rexdet.open_checkpoint(path)
    assert (checkpoint.source, checkpoint.pixels_known_by, checkpoint.licence) == (entry.name, "sha", "MIT")


def test_where_the_first_address_is_out_of_reach_the_next_is_tried(make_state, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.delenv("REXDET_OFFLINE")
    path = tmp_path / "served.pth"
    torch.save(make_state("rexnet_1.0", 1000), path)
    entry = published.entries()[0]
    dead = dataclasses.replace(entry.files[0], url="http://127.0.0.1:9/gone.pth", name="gone.pth")
    live = dataclasses.replace(entry.files[1], url=path.as_uri(), name="served.pth")
    monkeypatch.setattr(published, "entries", lambda: (dataclasses.replace(entry, files=(dead, live)),))
    assert rexdet.open_checkpoint("rexnet_1.0@nav_in1k").sha256 == hash_file(path)
    assert "gone.pth" in caplog.text


def test_where_no_address_is_in_reach_only_the_first_is_told(monkeypatch, caplog) -> None:
    monkeypatch.delenv("REXDET_OFFLINE")
    entry = published.entries()[0]
    files = tuple(dataclasses.replace(file, url=f"http://127.0.0.1:9/{file.name}") for file in entry.files)
    monkeypatch.setattr(published, "entries", lambda: (dataclasses.replace(entry, files=files),))
    text = refusal(rexdet.open_checkpoint, "rexnet_1.0@nav_in1k")
    assert f"fetch {files[0].url} by hand" in text
    assert caplog.text == ""


def test_the_authors_own_file_is_known_by_the_hash_of_another_publisher(make_state, tmp_path, monkeypatch) -> None:
    path = tmp_path / "mine.bin"
    torch.save(make_state("rexnet_1.0"), path)
    entry = published.entries()[0]
    digest = hashlib.sha384(path.read_bytes()).hexdigest()
    file = dataclasses.replace(entry.files[2], sha384=digest, size=path.stat().st_size)
    monkeypatch.setattr(published, "entries", lambda: (dataclasses.replace(entry, files=(file,)),))
    assert rexdet.open_checkpoint(path).pixels_known_by == "sha"
    other = tmp_path / "other.bin"
    other.write_bytes(path.read_bytes()[:-1] + b"x")
    assert published.known_file(hash_file(other), other) is None
