"""Crops and flips: the right pixels, a function of seed, epoch and index."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rexdet.transfer.augment import Augmenter, Normaliser
from rexdet.transfer.protocols import Augmentation
from rexdet.weights.pixels import Preprocessing

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SAMPLES = [(0, index) for index in range(64)]


def test_every_result_is_a_crop_of_the_bordered_image_or_its_mirror() -> None:
    result = Augmenter(Augmentation(pad=2, flip=True), seed=5, length=64)(IMAGES, SAMPLES)
    bordered = F.pad(IMAGES, [2] * 4)
    seen = set()
    for image, padded in zip(result, bordered, strict=True):
        found = [
            (down, right, flipped)
            for down in range(5)
            for right in range(5)
            for flipped in (False, True)
            if torch.equal(image, _crop(padded, down, right, flipped))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert {down for down, _, _ in seen} == {right for _, right, _ in seen} == set(range(5))
    assert {flipped for _, _, flipped in seen} == {False, True}


def _crop(padded: torch.Tensor, down: int, right: int, flipped: bool) -> torch.Tensor:
    crop = padded[:, down : down + 8, right : right + 8]
    return crop.flip(2) if flipped else crop


def test_it_hangs_on_seed_epoch_and_index_alone() -> None:
    augmentation = Augmentation(pad=4, flip=True)
    whole = Augmenter(augmentation, seed=1, length=64)(IMAGES, SAMPLES)
    other = Augmenter(augmentation, seed=1, length=64)
    # Other batches, another order, and after an epoch before.
    other(IMAGES[:3], [(0, 9), (0, 1), (0, 2)])
    assert torch.equal(other(IMAGES[[40, 7]], [SAMPLES[40], SAMPLES[7]]), whole[[40, 7]])
    across = Augmenter(augmentation, seed=1, length=64)(IMAGES[[3, 3]], [(0, 3), (1, 3)])
    assert torch.equal(across[0], whole[3])
    assert not torch.equal(across[0], across[1])
    assert not torch.equal(Augmenter(augmentation, seed=2, length=64)(IMAGES, SAMPLES), whole)


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(Augmenter(Augmentation(), seed=0, length=64)(IMAGES, SAMPLES), IMAGES)


def test_bytes_become_what_the_pixels_say() -> None:
    pixels = Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.4))
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    expected = (images / 255 - torch.tensor(pixels.mean).view(3, 1, 1)) / torch.tensor(pixels.std).view(3, 1, 1)
    assert torch.allclose(Normaliser(pixels)(images), expected, atol=1e-5)
    swapped = Preprocessing(pixels.mean, pixels.std, order="BGR")
    assert torch.allclose(Normaliser(swapped)(images), expected.flip(1), atol=1e-5)
