"""Checkpoints opened by content, models filled whole or not at all, and reports that tell harmless from fatal."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch

import rexdet
from rexdet.nets.layers import freeze_norms
from rexdet.weights.checkpoint import hash_file, hash_tensors

SMALL = "rexnet_0.3"


def fails(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def under(state, prefix: str):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


# --- opening


@pytest.mark.parametrize("layout", ["ours", "authors", "timm"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "backbone.", "model.model.", "module.encoder_q.", "backbone.bottom_up.", "module.backbone.net."],
)
def test_a_prefix_is_found_by_content_and_reported(small_state, in_layout, layout: str, prefix: str) -> None:
    checkpoint = rexdet.open_checkpoint({"state_dict": under(in_layout(small_state, layout), prefix), "epoch": 1})
    assert checkpoint.network == SMALL
    assert checkpoint.prefix == prefix
    assert checkpoint.part == f"state_dict:{prefix.rstrip('.')}".rstrip(":")
    assert checkpoint.ignored == ("epoch",)
    state = checkpoint.state_dict()
    assert state.keys() == small_state.keys()
    assert all(torch.equal(state[key], small_state[key]) for key in state)
    report = rexdet.load_weights(rexdet.create_model(SMALL, 10), checkpoint)
    assert report.ok
    assert repr(checkpoint.part) in report.text()


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state", "params", "state.network", "net"])
def test_nested_states_are_found(small_state, container: str) -> None:
    value: dict = {"arch": "x", "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{}]}}
    inner = value
    *outer, last = container.split(".")
    for name in outer:
        inner = inner.setdefault(name, {})
    inner[last] = small_state
    checkpoint = rexdet.open_checkpoint(value)
    assert checkpoint.part == container
    assert set(checkpoint.ignored) == {"arch", "optimizer"}


@pytest.mark.parametrize("name", ["state_dict_ema", "model_ema", "ema", "ema_state_dict", "averaged_model"])
def test_averaged_weights_beside_raw_ones_are_taken_and_both_are_named(small_state, name: str) -> None:
    averaged = {key: tensor * 2 if tensor.is_floating_point() else tensor for key, tensor in small_state.items()}
    value = {"state_dict": small_state, name: averaged}
    taken = rexdet.open_checkpoint(value)
    assert taken.part == name
    assert taken.other_parts == ("state_dict",)
    assert torch.equal(taken.state_dict()["head.bias"], averaged["head.bias"])
    raw = rexdet.open_checkpoint(value, part="state_dict")
    assert torch.equal(raw.state_dict()["head.weight"], small_state["head.weight"])
    assert taken.sha256 != raw.sha256
    report = rexdet.load_weights(rexdet.create_model(SMALL, 10), taken)
    assert "'state_dict'" in report.text()


def test_averaged_weights_without_statistics_are_not_taken(small_state) -> None:
    averaged = {key: tensor for key, tensor in small_state.items() if "running" not in key}
    assert rexdet.open_checkpoint({"model": small_state, "model_ema": averaged}).part == "model"


def test_of_a_pair_of_encoders_the_query_encoder_is_taken(small_state) -> None:
    other = {key: tensor + 1 for key, tensor in small_state.items()}
    state = {
        **under(small_state, "module.encoder_q."),
        **under(other, "module.encoder_k."),
        "module.queue": torch.ones(2),
    }
    checkpoint = rexdet.open_checkpoint({"state_dict": state})
    assert checkpoint.prefix == "module.encoder_q."
    assert rexdet.load_weights(rexdet.create_model(SMALL, 10), checkpoint).ok


@pytest.mark.parametrize("name", ["optimizer.momentum", "optim_state.exp_avg", "grads"])
def test_numbers_about_weights_are_not_taken_for_weights(small_state, name: str) -> None:
    value: dict = {"model": small_state}
    inner = value
    *outer, last = name.split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
    inner[last] = {key: torch.zeros_like(tensor) for key, tensor in small_state.items()}
    assert rexdet.open_checkpoint(value).part == "model"


def test_a_momentum_encoder_is_not_taken_for_an_average(small_state) -> None:
    other = {key: tensor + 1 for key, tensor in small_state.items()}
    state = {**under(small_state, "module.base_encoder."), **under(other, "module.momentum_encoder.")}
    assert rexdet.open_checkpoint({"state_dict": state}).prefix == "module.base_encoder."


def test_two_networks_without_a_rule_are_an_error_that_names_both(small_state) -> None:
    other = {key: tensor + 1 for key, tensor in small_state.items()}
    value = {"first": small_state, "second": other}
    text = fails(rexdet.open_checkpoint, value)
    assert "'first'" in text
    assert "'second'" in text
    assert rexdet.open_checkpoint(value, part="second").part == "second"
    assert "'first'" in fails(rexdet.open_checkpoint, value, part="third")


def test_a_state_that_mixes_layouts_is_an_error(small_state, in_layout) -> None:
    text = fails(rexdet.open_checkpoint, {**in_layout(small_state, "authors"), **in_layout(small_state, "timm")})
    assert "mixes the keys of authors and timm" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"epoch": 1, "lr": 0.1}, "it holds: epoch, lr"),
        ({}, "nothing"),
        ({"layer1.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "ResNet"),
        ({"backbone.res2.0.conv1.weight": torch.zeros(1)}, "detectron2's ResNet"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(3)}, "vision transformer"),
    ],
)
def test_networks_of_others_are_refused_with_what_was_seen(value, expected: str) -> None:
    assert expected in fails(rexdet.open_checkpoint, value)


@pytest.mark.parametrize(
    ("key", "number", "expected"),
    [
        ("blocks.3.project.conv.weight", float("nan"), "NaN in blocks.3.project.conv.weight"),
        ("penultimate.norm.bias", float("inf"), "infinity in penultimate.norm.bias"),
        ("stem.norm.running_var", -0.5, "negative variance in stem.norm.running_var"),
    ],
)
def test_broken_numbers_are_refused_by_the_name_of_the_tensor(small_state, key, number, expected) -> None:
    state = copy.deepcopy(small_state)
    state[key].view(-1)[0] = number
    assert expected in fails(rexdet.open_checkpoint, state)


def test_the_hash_of_a_bare_state_is_that_of_its_tensors_whatever_the_layout(small_state, in_layout) -> None:
    hashes = {rexdet.open_checkpoint(in_layout(small_state, layout)).sha256 for layout in ("ours", "authors", "timm")}
    assert hashes == {hash_tensors(small_state)}
    assert hash_tensors(dict(reversed(small_state.items()))) == hash_tensors(small_state)
    assert hash_tensors({**small_state, "stem.norm.num_batches_tracked": torch.tensor(9)}) == hash_tensors(small_state)
    changed = copy.deepcopy(small_state)
    changed["stem.norm.bias"][0] += 1e-3
    assert hash_tensors(changed) != hash_tensors(small_state)


def test_the_hash_of_a_file_is_the_files(small_state, tmp_path: Path) -> None:
    path = tmp_path / "anything.bin"
    torch.save(small_state, path)
    checkpoint = rexdet.open_checkpoint(path)
    assert checkpoint.sha256 == checkpoint.origin_sha256 == hash_file(path)
    assert checkpoint.source == str(path)
    assert checkpoint.licence is None


@pytest.mark.parametrize("name", ["rexnet_0.37", "rexnet_1.05", "rexnet_2.2", "rexnet_lite_0.6", "rexnet_lite_2.0"])
def test_a_width_is_told_by_content_also_from_a_backbone_alone(make_state, name: str) -> None:
    state = make_state(name)
    assert rexdet.open_checkpoint(state).network == name
    alone = {key: tensor for key, tensor in state.items() if not key.startswith(("head.", "penultimate."))}
    opened = rexdet.open_checkpoint(alone)
    assert (opened.network, opened.kind, opened.shape.classes) == (name, "backbone", None)


def test_a_width_of_its_own_stands_beside_the_name(make_state) -> None:
    checkpoint = rexdet.open_checkpoint(make_state(stem_channels=40))
    assert (checkpoint.network, checkpoint.overrides) == (SMALL, {"channels": {"stem": 40}})
    assert checkpoint.shape.stem == 40
    assert rexdet.load_weights(rexdet.create_model(SMALL, 10, stem_channels=40), checkpoint).ok
    assert rexdet.load_weights(rexdet.create_model(SMALL, 10, **checkpoint.overrides), checkpoint).ok


def test_a_network_without_a_name_is_described(make_state) -> None:
    state = make_state()
    state["blocks.4.project.conv.weight"] = state["blocks.4.project.conv.weight"][:-1]
    checkpoint = rexdet.open_checkpoint(state)
    assert checkpoint.network is None
    assert checkpoint.shape.stem == 32
    assert "stem 32, blocks" in checkpoint.shape.summary()


def test_a_checkpoint_does_not_follow_what_happens_to_its_source(make_state, tmp_path: Path) -> None:
    state = make_state()
    opened = rexdet.open_checkpoint(state)
    before = opened.state_dict()["head.weight"].clone()
    state["head.weight"].zero_()
    assert torch.equal(opened.state_dict()["head.weight"], before)
    path = tmp_path / "weights.pth"
    torch.save(make_state(), path)
    opened = rexdet.open_checkpoint(path)
    path.write_bytes(b"")
    assert torch.equal(opened.state_dict()["head.weight"], before)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.org/weights.pth", "is an address"),
        ("runs/a@b/weights.pth", "no such file"),
        ("weights@v2.pth", "no such file"),
        ("nowhere", "no such file"),
    ],
)
def test_a_source_that_is_neither_file_nor_name_is_told(source: str, expected: str) -> None:
    assert expected in fails(rexdet.open_checkpoint, source)


# --- loading


def test_a_wider_file_is_answered_with_the_right_name(make_state) -> None:
    text = fails(rexdet.load_weights, rexdet.create_model("rexnet_1.0", 10), make_state("rexnet_2.0"))
    assert text.endswith("use rexnet_2.0")
    assert "stem channels 64 in the file, 32 in the model" in text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"stem_channels": 24}, "stem channels 48 in the file, 36 in the model"),
        ({"first_channels": 32}, "stage 1 channels 24 in the file, 48 in the model"),
        ({"depth": 2.0}, "depth (blocks) 16 in the file, 32 in the model"),
        ({"channel_growth": 120.0}, "channel growth (channels of block 1)"),
        ({"squeeze_excitation": False}, "squeeze-excitation of block 3 present in the file, absent in the model"),
    ],
)
def test_the_first_differing_hyper_parameter_is_named(make_state, overrides, expected: str) -> None:
    """C13: not 600 keys."""
    model = rexdet.create_model("rexnet_1.5", 10, **overrides)
    text = fails(rexdet.load_weights, model, make_state("rexnet_1.5"))
    assert expected in text
    assert "use rexnet_1.5" in text
    assert len(text) < 300


def test_another_norm_is_told(make_state) -> None:
    grouped = rexdet.create_model(SMALL, 10, norm="GN")
    text = fails(rexdet.load_weights, grouped, make_state())
    assert "norm batch norm in the file, group norm in the model" in text
    assert text.endswith('build the model with norm="BN"')
    text = fails(rexdet.load_weights, rexdet.create_model(SMALL, 10), grouped.state_dict())
    assert text.endswith('build the model with norm="GN"')
    assert rexdet.open_checkpoint(grouped.state_dict()).network == SMALL
    assert rexdet.load_weights(rexdet.create_model(SMALL, 10, norm="GN"), grouped.state_dict()).ok


def test_lite_and_plain_are_told_apart(make_state) -> None:
    text = fails(rexdet.load_weights, rexdet.create_model("rexnet_1.0", 10), make_state("rexnet_lite_1.0"))
    assert text.endswith("use rexnet_lite_1.0")


@pytest.mark.parametrize(
    "key", ["stem.conv.weight", "blocks.5.squeeze_excitation.reduce.weight", "blocks.0.project.norm.bias"]
)
@pytest.mark.parametrize("layout", ["ours", "authors", "timm"])
@pytest.mark.parametrize("kind", ["model", "backbone"])
def test_a_missing_tensor_is_named_and_the_model_stays_untouched(small_state, in_layout, key, layout, kind) -> None:
    state = {name: tensor for name, tensor in small_state.items() if name != key}
    model = rexdet.create_model(SMALL, 10) if kind == "model" else rexdet.create_backbone(SMALL)
    before = copy.deepcopy(model.state_dict())
    assert f"missing in the file: {key}" in fails(rexdet.load_weights, model, in_layout(state, layout))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("key", ["projector.0.weight", "blocks.16.expand.conv.weight", "blocks.3.extra.weight"])
def test_an_unexpected_tensor_is_named(small_state, key: str) -> None:
    text = fails(rexdet.load_weights, rexdet.create_model(SMALL, 10), {**small_state, key: torch.zeros(3)})
    assert key in text or "depth" in text


def test_a_loose_load_fills_what_fits_and_says_what_does_not(small_state, caplog) -> None:
    state = {name: tensor for name, tensor in small_state.items() if name != "stem.conv.weight"}
    model = rexdet.create_model(SMALL, 10)
    with caplog.at_level(logging.WARNING):
        report = rexdet.load_weights(model, state, strict=False)
    assert not report.ok
    assert report.missing == ("stem.conv.weight",)
    assert report.loaded == report.expected - 1
    assert torch.equal(model.state_dict()["head.weight"], small_state["head.weight"])
    assert "stem.conv.weight" in caplog.text


@pytest.mark.parametrize("name", ["rexnet_0.3", "rexnet_lite_0.3"])
def test_another_class_count_resets_the_head_and_says_that_it_is_expected(make_state, name: str) -> None:
    state = make_state(name, 80)
    model = rexdet.create_model(name, 3)
    before = copy.deepcopy(model.state_dict())
    report = rexdet.load_weights(model, state)
    assert report.ok
    assert report.head == "reset"
    assert "head reset because classes 80 -> 3 (expected)" in report.text()
    assert "backbone 100% loaded" in report.text()
    for key, tensor in model.state_dict().items():
        is_classifier = key in ("head.weight", "head.bias") or key.startswith("head.classifier.")
        assert torch.equal(tensor, before[key] if is_classifier else state[key])


def test_the_head_can_be_kept_or_reset_by_word(small_state) -> None:
    same, other = rexdet.create_model(SMALL, 10), rexdet.create_model(SMALL, 4)
    assert "of another shape: head.weight [10, 384] in the file, [4, 384]" in fails(
        rexdet.load_weights, other, small_state, head="keep"
    )
    before = same.head.weight.clone()
    assert rexdet.load_weights(same, small_state, head="reset").head == "reset"
    assert torch.equal(same.head.weight, before)
    assert rexdet.load_weights(same, small_state).head == "kept"
    assert torch.equal(same.head.weight, small_state["head.weight"])
    assert "auto, keep, reset" in fails(rexdet.load_weights, same, small_state, head="drop")


def test_a_file_without_a_classifier_fits_only_by_word(small_state) -> None:
    state = {key: tensor for key, tensor in small_state.items() if not key.startswith("head.")}
    model = rexdet.create_model(SMALL, 10)
    assert 'head="reset"' in fails(rexdet.load_weights, model, state)
    assert rexdet.load_weights(model, state, head="reset").ok


def test_a_head_of_another_form_goes_with_a_reset(small_state, in_layout) -> None:
    state = in_layout(small_state, "timm")
    for key in ("head.fc.weight", "head.fc.bias"):
        state[key.replace("fc", "fc.2")] = state.pop(key)
    checkpoint = rexdet.open_checkpoint(state)
    assert checkpoint.head_extra == ("head.fc.2.weight", "head.fc.2.bias")
    assert rexdet.load_weights(rexdet.create_model(SMALL, 10), checkpoint, head="reset").ok
    assert rexdet.load_weights(rexdet.create_backbone(SMALL), checkpoint).ok


@pytest.mark.parametrize("out_features", [("res2",), ("res4", "res2"), ("res2", "res3", "res4", "res5"), ("expand5",)])
def test_a_backbone_takes_what_it_has_and_leaves_what_lies_behind(small_state, out_features) -> None:
    backbone = rexdet.create_backbone(SMALL, out_features)
    report = rexdet.load_weights(backbone, small_state)
    assert report.ok
    assert report.head == "none"
    assert report.beyond > 0
    assert all(torch.equal(tensor, small_state[key]) for key, tensor in backbone.state_dict().items())


def test_frozen_norms_are_filled_and_counters_never_count(small_state) -> None:
    without = {key: tensor for key, tensor in small_state.items() if not key.endswith("num_batches_tracked")}
    frozen = freeze_norms(rexdet.create_model(SMALL, 10))
    for state in (small_state, without):
        assert rexdet.load_weights(frozen, state).ok
        assert rexdet.load_weights(rexdet.create_model(SMALL, 10), state).ok
    plain = rexdet.create_model(SMALL, 10)
    rexdet.load_weights(plain, frozen.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(frozen.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-4)


def test_half_precision_files_take_the_models_type(small_state) -> None:
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in small_state.items()}
    model = rexdet.create_model(SMALL, 10)
    assert rexdet.load_weights(model, halves).ok
    assert model.stem.conv.weight.dtype == torch.float32
    assert torch.equal(model.stem.conv.weight, halves["stem.conv.weight"].float())


def test_a_detector_of_ours_gives_its_backbone(small_state) -> None:
    backbone = {key: tensor for key, tensor in small_state.items() if not key.startswith(("head.", "penultimate."))}
    detector = {
        **under(backbone, "backbone.bottom_up."),
        "backbone.fpn_lateral2.weight": torch.zeros(8, 12, 1, 1),
        "head.cls_score.weight": torch.zeros(9, 8, 3, 3),
    }
    checkpoint = rexdet.open_checkpoint({"model": detector, "iteration": 3})
    assert (checkpoint.layout, checkpoint.kind, checkpoint.network) == ("detectron2", "detector", SMALL)
    report = rexdet.load_weights(rexdet.create_backbone(SMALL), checkpoint)
    assert report.ok
    assert "a detector in detectron2 layout" in report.text()
    del detector["backbone.bottom_up.stem.conv.weight"]
    assert "stem.conv.weight" in fails(rexdet.load_weights, rexdet.create_backbone(SMALL), {"model": detector})


def test_models_that_are_not_ours_are_refused_and_nested_ones_pointed_at(small_state) -> None:
    assert "not one of rexdet's networks" in fails(rexdet.load_weights, torch.nn.Linear(2, 2), small_state)
    outer = torch.nn.Module()
    outer.bottom_up = rexdet.create_backbone(SMALL)
    outer.lateral = torch.nn.Linear(2, 2)
    assert "give model.bottom_up" in fails(rexdet.load_weights, outer, small_state)
    assert rexdet.load_weights(torch.nn.DataParallel(rexdet.create_model(SMALL, 10)), small_state).ok


def test_what_looks_untrained_is_said(make_state) -> None:
    fresh = rexdet.create_model(SMALL, 10).state_dict()
    report = rexdet.load_weights(rexdet.create_model(SMALL, 10), fresh)
    assert "statistics that no training has touched" in report.text()
    state = make_state()
    state["blocks.15.project.conv.weight"].zero_()
    report = rexdet.load_weights(rexdet.create_model(SMALL, 10), state)
    assert "every weight of blocks.15.project.conv.weight is 0" in report.text()
    assert report.ok


def test_a_resumable_detector_file_of_ours_gives_the_averaged_backbone(small_state) -> None:
    backbone = {key: tensor for key, tensor in small_state.items() if not key.startswith(("head.", "penultimate."))}
    averaged = {**under(backbone, "backbone.bottom_up."), "head.cls_score.weight": torch.zeros(9, 8, 3, 3)}
    raw = {key: tensor * 2 if tensor.is_floating_point() else tensor for key, tensor in averaged.items()}
    momentum = {index: {"momentum_buffer": torch.zeros(3)} for index in range(3)}
    value = {
        "model": averaged,
        "raw": raw,
        "ema": copy.deepcopy(averaged),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1}]},
        "rexdet": {"format": 1, "classes": {"names": ["a"], "ids": [1]}},
    }
    checkpoint = rexdet.open_checkpoint(value)
    assert (checkpoint.kind, checkpoint.part) == ("detector", "ema:backbone.bottom_up")
    assert set(checkpoint.other_parts) == {"model:backbone.bottom_up", "raw:backbone.bottom_up"}
    assert torch.equal(checkpoint.state_dict()["stem.conv.weight"], small_state["stem.conv.weight"])
