"""What a network was trained to see: read, compared, known in a stated order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import rexdet
from rexdet.weights.pixels import IMAGENET, PRESETS, Preprocessing, read_pixels, sidecar_of

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def refusal(word) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        read_pixels(word)
    return str(caught.value)


def test_detectron2_gets_its_own_units_and_order() -> None:
    mean, std, order = IMAGENET.detectron2_pixels()
    assert (mean, std, order) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "RGB")
    mean, std, order = PRESETS["caffe"].detectron2_pixels()
    assert (mean, std, order) == ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], "BGR")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_the_way_through_yaml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pixels.yaml"
    path.write_text(yaml.safe_dump(PRESETS[name].as_mapping()))
    read = read_pixels(str(path))
    assert read.same_values(PRESETS[name])
    assert read.value_range == PRESETS[name].value_range
    assert read_pixels(name) == PRESETS[name]
    path.write_text(name)
    assert read_pixels(path).same_values(PRESETS[name])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("imagnet", "neither a preset"),
        ({"mean": [0.5, 0.5]}, "mean is [0.5, 0.5]"),
        ({"mean": [0.5, 0.5, float("nan")], "std": [1, 1, 1]}, "three numbers"),
        ({**HALF, "std": [0.5, 0.0, 0.5]}, "not positive"),
        ({"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}, "value_range: 255"),
        ({**HALF, "order": "GBR"}, "RGB or BGR"),
        ({**HALF, "value_range": 256}, "1 or 255"),
        ({**HALF, "means": 1}, "unknown key 'means'"),
        ({**HALF, "crop": "224"}, "whole number"),
        ({**HALF, "interpolation": "cubic"}, "bicubic"),
    ],
)
def test_a_wrong_word_about_pixels_is_told(word, expected: str) -> None:
    assert expected in refusal(word)


def test_a_contradiction_prints_both_triples() -> None:
    """C58: detectron2's defaults under weights that saw RGB of unit deviation."""
    text = IMAGENET.contradiction([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], "BGR")
    for part in ("[103.53, 116.28, 123.675]", "[1.0, 1.0, 1.0]", "BGR", "[123.675, 116.28, 103.53]", "58.395", "RGB"):
        assert part in text
    assert IMAGENET.contradiction([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "RGB") == ""
    assert IMAGENET.contradiction([123.68, 116.28, 103.53], [58.4, 57.12, 57.38], "RGB") == ""
    assert IMAGENET.contradiction([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "BGR") != ""


def test_the_order_in_which_pixels_are_known(small_state, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small_state, path)
    assumed = rexdet.open_checkpoint(path)
    assert (assumed.pixels, assumed.pixels_known_by) == (IMAGENET, "assumed")
    said = rexdet.open_checkpoint(path, pixels="half")
    assert (said.pixels, said.pixels_known_by) == (PRESETS["half"], "user")
    sidecar_of(path).write_text("mean: [127.5, 127.5, 127.5]\nstd: [127.5, 127.5, 127.5]\nvalue_range: 255\n")
    beside = rexdet.open_checkpoint(path)
    assert beside.pixels_known_by == "metadata"
    assert beside.pixels.same_values(PRESETS["half"])
    assert rexdet.open_checkpoint(path, pixels="half").pixels_known_by == "metadata"
    with pytest.raises(rexdet.UserError) as caught:
        rexdet.open_checkpoint(path, pixels="imagenet")
    assert "0.485, 0.456, 0.406" in str(caught.value)
    assert "0.5, 0.5, 0.5" in str(caught.value)


def test_a_word_about_the_pixels_of_an_open_checkpoint(small_state, tmp_path: Path) -> None:
    opened = rexdet.open_checkpoint(small_state)
    said = rexdet.open_checkpoint(opened, pixels="half")
    assert (said.pixels, said.pixels_known_by) == (PRESETS["half"], "user")
    assert rexdet.open_checkpoint(said) is said
    path = tmp_path / "weights.pth"
    torch.save({"model": small_state, "rexdet": {"pixels": PRESETS["half"].as_mapping()}}, path)
    known = rexdet.open_checkpoint(path)
    assert rexdet.open_checkpoint(known, pixels="half") is known
    with pytest.raises(rexdet.UserError, match="known by metadata"):
        rexdet.open_checkpoint(known, pixels="imagenet")


def test_metadata_comes_before_the_sidecar(small_state, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    metadata = '{"pixels": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}, "licence": "MIT"}'
    save_file(small_state, str(path), metadata={"rexdet": metadata})
    sidecar_of(path).write_text("imagenet")
    checkpoint = rexdet.open_checkpoint(path)
    assert (checkpoint.pixels, checkpoint.pixels_known_by, checkpoint.licence) == (PRESETS["half"], "metadata", "MIT")


def test_a_torch_file_may_carry_its_pixels(small_state, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": small_state, "rexdet": {"pixels": PRESETS["half"].as_mapping()}}, path)
    checkpoint = rexdet.open_checkpoint(path)
    assert checkpoint.pixels.same_values(PRESETS["half"])
    assert checkpoint.pixels_known_by == "metadata"


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n", "mean: x\n"])
def test_a_broken_sidecar_is_told_by_its_name(small_state, tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small_state, path)
    sidecar_of(path).write_text(text)
    with pytest.raises(rexdet.UserError, match=r"weights\.pth\.pixels\.yaml"):
        rexdet.open_checkpoint(path)


def test_a_preprocessing_is_its_own_word() -> None:
    pixels = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), order="BGR")
    assert read_pixels(pixels) is pixels
    assert pixels.detectron2_pixels()[0] == [76.5, 51.0, 25.5]
