"""Folders of classes: labels by name, images at one size, a fingerprint of the content, one line where it is wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from rexdet.errors import UserError
from rexdet.transfer.embed import list_pictures
from rexdet.transfer.images import StoredImage, read_split


def test_images_and_labels_are_those_of_torchvision(colours: Path) -> None:
    images = read_split(colours, "train", 12)
    peer = ImageFolder(str(colours / "train"))
    assert list(images.classes) == peer.classes
    assert images.names(range(len(images))) == [path for path, _ in peer.samples]
    assert images.labels.tolist() == peer.targets
    assert images.cache is not None
    for index in (0, 25, 59):
        assert np.array_equal(images.images([index])[0].permute(1, 2, 0).numpy(), np.asarray(peer[index][0]))


def test_what_is_too_large_to_keep_is_decoded_when_asked_for(colours: Path) -> None:
    kept, decoded = read_split(colours, "train", 12), read_split(colours, "train", 12, cached_bytes=1000)
    assert decoded.cache is None
    places = torch.tensor([3, 41, 3])
    assert torch.equal(kept.images(places), decoded.images(places))
    assert kept.fingerprint == decoded.fingerprint


def test_other_sizes_and_modes_are_brought_to_one(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "train" / "grey"
    folder.mkdir(parents=True)
    Image.new("L", (40, 20), 90).save(folder / "a.png")
    Image.new("RGBA", (5, 7), (90, 90, 90, 0)).save(folder / "b.png")
    images = read_split(tmp_path, "train", 16).images([0, 1])
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert images.unique().tolist() == [90]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    path = tmp_path / f"ramp.{kind.lower()}"
    Image.fromarray(ramp).save(path, format=kind)
    picture = StoredImage("ramp", str(path)).pixels()
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture)[:, :, 1].astype(int) - ramp / 257).max() <= 0.5


def test_floats_and_large_integers_are_scaled_by_their_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    for name, values in (("f.tiff", ramp), ("i.tiff", (ramp * 1e9).astype(np.int32))):
        Image.fromarray(values).save(tmp_path / name)
        found = np.asarray(StoredImage(name, str(tmp_path / name)).pixels())[:, :, 0]
        assert np.abs(found - 255.0 * ramp).max() <= 1


def test_links_and_hidden_folders_add_no_images(colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours, tmp_path / "data")
    expected = len(read_split(tmp_path / "data", "train", 12))
    red = tmp_path / "data" / "train" / "red"
    (red / "loop").symlink_to(red)
    (red / ".ipynb_checkpoints").mkdir()
    shutil.copy(red / "000.png", red / ".ipynb_checkpoints" / "000.png")
    assert len(read_split(tmp_path / "data", "train", 12)) == expected
    assert len(list_pictures(red)) == 20


def test_a_name_that_is_not_utf8_is_one_line(colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours, tmp_path / "data")
    odd = os.fsencode(tmp_path / "data" / "train") + b"/caf\xe9"
    os.mkdir(odd)
    shutil.copy(colours / "train" / "red" / "000.png", odd + b"/a.png")
    with pytest.raises(UserError, match="not UTF-8") as raised:
        read_split(tmp_path / "data", "train", 12)
    assert str(raised.value).isprintable()


def test_the_fingerprint_is_of_the_content_not_of_the_place(colours: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(colours, copy)
    before = read_split(colours, "train", 12).fingerprint
    assert read_split(copy, "train", 12).fingerprint == before
    (copy / "train" / "red" / "000.png").write_bytes((copy / "train" / "red" / "001.png").read_bytes())
    assert read_split(copy, "train", 12).fingerprint != before


def test_test_labels_count_by_the_training_classes(colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours / "test" / "red", tmp_path / "test" / "red")
    images = read_split(tmp_path, "test", 12, classes=("blue", "green", "red"))
    assert set(images.labels.tolist()) == {2}
    with pytest.raises(UserError, match="'red' is not a class of the training images"):
        read_split(tmp_path, "test", 12, classes=("blue", "green"))


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda root: shutil.rmtree(root / "train"), "no such folder of images"),
        (lambda root: [shutil.rmtree(path) for path in (root / "train").iterdir()], "holds no folder a class"),
        (lambda root: (root / "train" / "empty").mkdir(), "class 'empty' has no images"),
        (lambda root: (root / "train" / "red" / "000.png").write_bytes(b"no image"), "cannot be read as an image"),
        (
            lambda root: (root / "train" / "red" / "000.png").write_bytes(
                (root / "train" / "red" / "001.png").read_bytes()[:200]
            ),
            "cannot be read as an image",
        ),
    ],
)
def test_a_broken_folder_is_told_in_one_line(colours: Path, tmp_path: Path, break_it, told: str) -> None:
    root = tmp_path / "broken"
    shutil.copytree(colours, root)
    break_it(root)
    with pytest.raises(UserError, match=told) as caught:
        read_split(root, "train", 12)
    assert "\n" not in str(caught.value)
