"""Trained networks of others, from their own files: opened by content, and as accurate as their README says (C67)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import rexdet
from rexdet.weights.layouts import layout_by_name

# File -> network, layout, where in the file, correct ones of the 600 pictures (90.83, 93.67 and 92.17 %).
FILES = {
    "resnet20-12fca82f.th": ("resnet20_cifar", "akamaster", 545),
    "resnet56-4bfd9763.th": ("resnet56_cifar", "akamaster", 562),
    "distiller_resnet20_dense.pth.tar": ("resnet20b_cifar", "distiller", 553),
}


@pytest.fixture(scope="module")
def checkpoints(shared_dir: Path) -> Path:
    return shared_dir / "data" / "checkpoints"


@pytest.fixture(scope="module")
def pictures(shared_dir: Path) -> tuple[Tensor, Tensor]:
    """(600, 3, 32, 32) in 0 to 1, and the classes in alphabetical order."""
    folders = sorted(path for path in (shared_dir / "data" / "cifar10-png-test").iterdir() if path.is_dir())
    files = [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.glob("*.png"))]
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.tensor([label for _, label in files])


@pytest.mark.parametrize("name", list(FILES))
def test_a_trained_file_opens_by_content_and_scores_what_it_should_at_any_batch_size(
    checkpoints: Path, pictures: tuple[Tensor, Tensor], name: str
) -> None:
    network, layout, correct = FILES[name]
    checkpoint = rexdet.open_checkpoint(checkpoints / name)
    assert (checkpoint.network, checkpoint.layout, checkpoint.part) == (network, layout, "state_dict:module")
    assert (checkpoint.overrides, checkpoint.shape.classes, checkpoint.kind) == ({}, 10, "classifier")
    model = rexdet.create_model(network, weights=checkpoint).eval()
    images, labels = pictures
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (checkpoint.pixels.mean, checkpoint.pixels.std))
    assert (checkpoint.pixels.resize, checkpoint.pixels.crop) == (32, 32)
    assert len(labels) == 600
    # One network is enough to see that the answers do not hang on who else is in the batch.
    for batch in (1, 256) if name == "resnet20-12fca82f.th" else (256,):
        with torch.no_grad():
            answers = torch.cat([model((part - mean) / std).argmax(1) for part in images.split(batch)])
        assert int((answers == labels).sum()) == correct


@pytest.mark.parametrize("name", list(FILES))
def test_a_trained_file_survives_the_way_to_ours_and_back_to_the_bit(checkpoints: Path, name: str) -> None:
    stored = torch.load(checkpoints / name, map_location="cpu", weights_only=True)["state_dict"]
    checkpoint = rexdet.open_checkpoint(checkpoints / name)
    back = layout_by_name(checkpoint.layout, "resnet").from_ours(checkpoint.state_dict())
    assert [f"module.{key}" for key in back] == list(stored)
    assert all(torch.equal(back[key.removeprefix("module.")], stored[key]) for key in stored)


def test_a_file_with_an_optimiser_object_is_refused_by_the_name_of_its_class(checkpoints: Path) -> None:
    with pytest.raises(rexdet.UserError) as caught:
        rexdet.open_checkpoint(checkpoints / "distiller_resnet20_with_sgd_object.pth.tar")
    assert "torch.optim.sgd.SGD" in str(caught.value)
    assert "nothing was executed" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fastestdet_shufflenetv2_backbone.pth", "fastestdet_coco_ap05_0.253.pth"])
def test_a_shufflenet_is_not_one_of_ours(checkpoints: Path, name: str) -> None:
    with pytest.raises(rexdet.UserError) as caught:
        rexdet.open_checkpoint(checkpoints / name)
    assert "not one of rexdet's" in str(caught.value)
    assert "ShuffleNet" in str(caught.value)
