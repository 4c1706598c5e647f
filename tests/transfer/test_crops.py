"""Random parts of images: torchvision's distribution, a function of seed, epoch and index, from a store made once."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rexdet.errors import UserError
from rexdet.runs import ResumableSampler
from rexdet.transfer import crops
from rexdet.transfer.crops import CroppedImages, draw_box, open_store
from rexdet.transfer.feed import Batches
from rexdet.transfer.images import ArrayImage, Listing
from rexdet.transfer.protocols import RandomResizedCrop


@pytest.fixture
def listing() -> Listing:
    pictures = np.random.default_rng(0).integers(0, 255, size=(7, 30, 40, 3), dtype=np.uint8)
    files = tuple(ArrayImage(f"{row}", pictures, row) for row in range(7))
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    return Listing("noise", "train", files, labels, ("a", "b"), tuple(str(row) for row in range(7)))


def cropped(listing: Listing, folder: Path, side: int = 100) -> CroppedImages:
    return CroppedImages(
        listing, open_store(listing, side, folder=folder), RandomResizedCrop(), size=16, interpolation="bilinear"
    )


def test_the_store_holds_the_pictures_and_is_made_once(listing: Listing, tmp_path: Path, monkeypatch) -> None:
    store = open_store(listing, 100, folder=tmp_path)
    assert all(np.array_equal(store.image(row), np.asarray(file.pixels())) for row, file in enumerate(listing.files))
    monkeypatch.setattr(crops, "_write", lambda *arguments: pytest.fail("made again"))
    assert np.array_equal(open_store(listing, 100, folder=tmp_path).image(3), store.image(3))


def test_large_pictures_are_scaled_down_by_their_shorter_side(listing: Listing, tmp_path: Path) -> None:
    assert open_store(listing, 15, folder=tmp_path).sizes.tolist() == [[15, 20]] * 7


@pytest.mark.parametrize("name", ["*.bytes", "*.sizes.npy"])
def test_a_store_that_was_cut_is_made_anew(
    listing: Listing, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = np.array(open_store(listing, 100, folder=tmp_path).data)
    (part,) = tmp_path.glob(name)
    part.write_bytes(part.read_bytes()[:-5])
    assert np.array_equal(open_store(listing, 100, folder=tmp_path).data, expected)
    assert "made anew" in caplog.text


def test_a_cache_that_is_a_file_is_one_line(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept here"):
        open_store(listing, 100, folder=tmp_path / "file" / "decoded")


def test_a_full_disk_is_one_line_and_leaves_nothing(listing: Listing, tmp_path: Path, monkeypatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        UserError, match=r"cannot be kept here \(No space left on device\); make room, or set REXDET_CACHE"
    ):
        open_store(listing, 100, folder=tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob(".*"))


def test_parts_are_a_function_of_seed_epoch_and_index(listing: Listing, tmp_path: Path) -> None:
    images = cropped(listing, tmp_path)
    samples = [(0, 3), (1, 3), (0, 5)]
    first = images.batch(samples, seed=4)
    assert first.shape == (3, 3, 16, 16)
    assert first.dtype == torch.uint8
    again = cropped(listing, tmp_path).batch(list(reversed(samples)), seed=4).flip(0)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, images.batch(samples, seed=5))


def test_a_part_is_what_pillow_cuts_and_resizes(listing: Listing, tmp_path: Path) -> None:
    images = cropped(listing, tmp_path)
    top, left, height, width = images.box(1, 2, 6)
    picture = listing.files[6].pixels().crop((left, top, left + width, top + height))
    expected = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(images.batch([(2, 6)], seed=1)[0].permute(1, 2, 0).numpy(), expected)


def test_parts_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms import RandomResizedCrop as Reference

    random = np.random.default_rng(0)
    picture = torch.zeros(3, 60, 90)
    crop = RandomResizedCrop()
    torch.manual_seed(0)
    ours = np.array([draw_box(random.random(22), 60, 90, crop) for _ in range(3000)])
    theirs = np.array([Reference.get_params(picture, crop.scale, crop.ratio) for _ in range(3000)])
    # Top, left, height, width: means to 4 standard errors of either, and the same spread.
    errors = np.sqrt(ours.var(0) / 3000 + theirs.var(0) / 3000)
    assert (abs(ours.mean(0) - theirs.mean(0)) < 4 * errors).all()
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.06)
    assert (ours[:, 0] + ours[:, 2] <= 60).all()
    assert (ours[:, 1] + ours[:, 3] <= 90).all()


@pytest.mark.parametrize(("height", "width", "expected"), [(10, 1000, (0, 493, 10, 13)), (1000, 10, (493, 0, 13, 10))])
def test_a_part_that_never_fits_is_the_middle(height: int, width: int, expected: tuple[int, ...]) -> None:
    # Ten tries at the whole area of a strip: none has a ratio that is allowed.
    assert draw_box(np.full(22, 0.999), height, width, RandomResizedCrop(scale=(0.9, 1.0))) == expected


def test_workers_change_no_batch(listing: Listing, tmp_path: Path) -> None:
    images = cropped(listing, tmp_path)

    def first_five(workers: int) -> list[torch.Tensor]:
        sampler = ResumableSampler(7, 2, batch_size=4)
        batches = iter(Batches(images, sampler, workers=workers, pin=False))
        found = [next(batches)[1] for _ in range(5)]
        batches.close()  # type: ignore[attr-defined]
        return found

    alone, several = first_five(0), first_five(3)
    assert all(torch.equal(one, other) for one, other in zip(alone, several, strict=True))
