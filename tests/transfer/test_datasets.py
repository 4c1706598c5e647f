"""Opening a data set: anybody's folders, the embedded set, what is read when, and what is wrong told in one line."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rexdet.errors import UserError
from rexdet.transfer.datasets import DATASETS, dataset_facts, list_datasets, open_dataset
from rexdet.transfer.images import ArrayImage, ImageSet, decode
from rexdet.transfer.opening import Dataset

_watched: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in ("open", "os.listdir", "os.scandir"):
        _watched.append(str(arguments[0]))


# Python has no way to take an audit hook away; this one sleeps outside the tests that watch.
sys.addaudithook(_hook)


@pytest.fixture
def opened_files() -> Iterator[list[str]]:
    """Every file that Python opens, and every folder that it lists, during the test."""
    global _watched
    _watched = []
    yield _watched
    _watched = None


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own(colours: Path, tmp_path: Path) -> Path:
    """A copy of the folder of colours that a test may break: train/ (20 images a class) and test/ (10)."""
    return Path(shutil.copytree(colours, tmp_path / "own"))


def test_a_folder_is_read_as_torchvision_reads_it(own: Path) -> None:
    from torchvision.datasets import ImageFolder

    data = open_dataset("folder", own)
    for listing, split in ((data.train, "train"), (data.test.open(), "test")):
        peer = ImageFolder(str(own / split))
        assert [file.where for file in listing.files] == [path for path, _ in peer.samples]
        assert listing.labels.tolist() == peer.targets
        assert list(listing.classes) == peer.classes
    assert data.val is None
    assert data.metric == "top1"


def test_nothing_of_the_test_split_is_touched_before_it_opens(own: Path, opened_files: list[str]) -> None:
    data = open_dataset("folder", own)
    train, val = data.tuning_split()
    ImageSet.of(train, 8), ImageSet.of(val, 8)
    assert len(data.train_and_val().fingerprint) == 64
    assert any(str(own / "train") in path for path in opened_files)
    assert not any(str(own / "test") in path for path in opened_files)
    data.test.open()
    assert sum(str(own / "test") in path for path in opened_files) >= 30


def test_everything_but_the_opening_works_with_unreadable_test_files(own: Path) -> None:
    whole = open_dataset("folder", own)
    for path in (own / "test").rglob("*.png"):
        path.write_bytes(b"")
    data = open_dataset("folder", own)
    assert [len(part) for part in data.tuning_split()] == [48, 12]
    assert data.train.fingerprint == whole.train.fingerprint
    with pytest.raises(
        UserError, match=r"30 of 30 images cannot be used, first .*test/blue/000.png \(cannot be read as"
    ):
        data.test.open()


def test_the_seal_opens_once(own: Path) -> None:
    data = open_dataset("folder", own)
    assert "sealed" in repr(data.test)
    data.test.open()
    with pytest.raises(RuntimeError, match="has been opened before"):
        data.test.open()


def test_a_validation_folder_is_used_where_there_is_one(own: Path) -> None:
    (own / "valid" / "red").mkdir(parents=True)
    shutil.move(own / "train" / "red" / "000.png", own / "valid" / "red" / "000.png")
    data = open_dataset("folder", own)
    train, val = data.tuning_split(seed=5)
    assert (len(train), len(val)) == (59, 1)
    assert val.files[0].name == "val/red/000.png"
    joined = data.train_and_val()
    assert (len(joined), joined.split) == (60, "train+val")
    assert joined.labels.tolist() == [*train.labels.tolist(), 2]
    assert joined.fingerprint not in (train.fingerprint, val.fingerprint)


def test_folds_share_no_image_and_miss_none(own: Path) -> None:
    names: list[str] = []
    for fold in range(4):
        data = open_dataset("folder", own / "train", kfold=4, fold=fold)
        test = data.test.open()
        assert test.labels.bincount().tolist() == [5, 5, 5]
        assert not {file.name for file in data.train.files} & {file.name for file in test.files}
        assert len(data.train) + len(test) == 60
        names += [file.name for file in test.files]
        assert f"fold {fold} of 4" in data.described()
    assert len(set(names)) == 60


def test_a_few_damaged_training_images_are_left_out_and_told(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    (own / "train" / "red" / "003.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        data = open_dataset("folder", own)
    assert len(data.train) == 59
    assert data.train.labels.bincount().tolist() == [20, 20, 19]
    assert "1 of 60 images cannot be used, first " in caplog.text
    assert data.notes == data.train.notes
    assert "red/003.png (cannot be read as an image (no image)): left out" in data.notes[0]


def test_many_damaged_training_images_are_refused(own: Path) -> None:
    (own / "train" / "red" / "003.png").write_bytes(b"no image")
    path = own / "train" / "red" / "004.png"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(UserError, match=r"2 of 60 images cannot be used, .*: more than 1% of train; repair"):
        open_dataset("folder", own)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_a_truncated_image_of_any_kind_is_found(own: Path, suffix: str) -> None:
    path = own / "train" / "red" / f"900{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert len(open_dataset("folder", own).train) == 61
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    assert len(open_dataset("folder", own).train) == 60
    with pytest.raises(UserError, match=f"900{suffix}: cannot be read as an image"):
        decode(path.read_bytes(), str(path))


def test_images_that_are_in_train_and_test_are_counted(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("000", "001"):
        shutil.copy(own / "train" / "red" / f"{name}.png", own / "test" / "red" / f"{name}.png")
    data = open_dataset("folder", own)
    assert not caplog.text
    test = data.test.open()
    assert "2 of 30 images are training images too" in caplog.text
    assert test.notes == ("test: 2 of 30 images are training images too, byte by byte",)


def test_images_that_are_in_train_and_val_are_counted(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(own / "train" / "red", own / "val" / "red")
    open_dataset("folder", own)
    assert "20 images are in train and in val" in caplog.text


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_which_nothing_can_be_read_is_refused(own: Path, split: str) -> None:
    (own / "val" / "red").mkdir(parents=True)
    (own / "val" / "red" / "a.png").write_bytes(b"no image")
    if split == "train":
        for path in (own / "train").rglob("*.png"):
            path.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"{split} has no image that can be read|more than 1% of {split}"):
        open_dataset("folder", own)


def test_a_class_may_be_called_train(own: Path) -> None:
    folder = own / "train"
    (folder / "red").rename(folder / "train")
    data = open_dataset("folder", folder, kfold=4)
    assert data.classes == ("blue", "green", "train")


def test_an_image_of_absurd_size_is_left_out(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (90, 90)).save(own / "train" / "red" / "huge.png")
    # Pillow refuses what has more than twice these pixels; a real file of that size would take seconds to write.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = open_dataset("folder", own)
    assert len(data.train) == 60
    assert "huge.png (cannot be read as an image (Image size (8100 pixels) exceeds" in data.notes[0]


def test_a_class_without_test_images_is_told(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(own / "test" / "green")
    assert_one_class_is_missing(own, caplog)
    # An empty folder is the same as none.
    (own / "test" / "green").mkdir()
    assert_one_class_is_missing(own, caplog)


def assert_one_class_is_missing(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    assert open_dataset("folder", own).test.open().notes == ("test: 1 of 3 classes have no images",)
    assert "1 of 3 classes" in caplog.text


Breaker = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda root: shutil.rmtree(root / "test"), "has no test/; give train/ and test/"),
        (lambda root: shutil.rmtree(root / "train"), "has no train/; .* or --kfold K"),
        (lambda root: (root / "train" / "empty").mkdir(), "class 'empty' has no images"),
        (lambda root: shutil.rmtree(root), "no such folder"),
        (lambda root: [shutil.rmtree(root / "train" / name) for name in ("red", "blue")], "nothing to tell apart"),
        (
            lambda root: shutil.copytree(root / "train" / "red", root / "val" / "Red"),
            "val has images of class 'Red', and train has none of it",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_in_one_line(own: Path, break_it: Breaker, told: str) -> None:
    break_it(own)
    with pytest.raises(UserError, match=told) as caught:
        open_dataset("folder", own)
    assert "\n" not in str(caught.value)


def test_a_foreign_class_in_test_is_told_when_it_opens(own: Path) -> None:
    shutil.move(own / "test" / "red", own / "test" / "rouge")
    data = open_dataset("folder", own)
    with pytest.raises(UserError, match="test has images of class 'rouge', and train has none of it"):
        data.test.open()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "folder"}, "--data-root: folder needs a folder"),
        ({"name": "flower102"}, "there is no data set 'flower102'; did you mean flowers102"),
        ({"name": "aircraft:maker"}, "there is no aircraft:maker; there are aircraft:variant, aircraft:family"),
        ({"name": "pets:2"}, "there is no pets:2; there are none"),
        ({"name": "pets", "kfold": 5}, "pets has a split of its own"),
        ({"name": "folder", "kfold": 1}, "1 folds are none"),
        ({"name": "folder", "kfold": 5, "fold": 5}, "there is no fold 5 of 5; folds are numbered 0 to 4"),
        ({"name": "folder", "kfold": 40}, "a class has 30 images, fewer than 40 folds"),
        ({"name": "folder", "kfold": 3, "data_root": "own"}, "is split already: it has train/"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(own: Path, arguments: dict[str, Any], told: str) -> None:
    # One folder of classes, 30 images each.
    one = own.parent / "one"
    shutil.copytree(own / "train", one)
    for path in (own / "test").rglob("*.png"):
        shutil.copy(path, one / path.parent.name / f"t{path.name}")
    if "kfold" in arguments:
        arguments = {"data_root": one, **arguments}
    if arguments.get("data_root") == "own":
        arguments = {**arguments, "data_root": own}
    with pytest.raises(UserError, match=told) as caught:
        open_dataset(**arguments)
    assert "\n" not in str(caught.value)


def test_a_set_that_is_not_there_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no jpg; put jpg/ of 102flowers.tgz, imagelabels.mat and setid.mat into flow"):
        open_dataset("flowers102", tmp_path)
    monkeypatch.setenv("REXDET_OFFLINE", "1")
    with pytest.raises(
        UserError, match=r"REXDET_OFFLINE is set; put .* \(from https://www.robots.*\), or try --dataset"
    ):
        open_dataset("flowers102")
    with pytest.raises(UserError, match="Stanford Cars can no longer be fetched from its publishers; put cars_train/"):
        open_dataset("cars")


def test_every_row_of_the_table_is_whole() -> None:
    assert list_datasets() == [
        *("embedded", "cifar10", "cifar100", "flowers102", "cars", "food101", "aircraft", "pets", "dtd", "caltech101"),
        "folder",
    ]
    for row in DATASETS.values():
        assert row.source
        assert row.tuning
        assert {"train", "test"} <= set(row.splits)
        assert bool(row.downloads) == bool(row.size)
        for option in row.options:
            assert dataset_facts(f"{row.name}:{option}").name == f"{row.name}:{option}"
    assert dataset_facts("aircraft:family").classes == 70
    per_class = {row.name for row in DATASETS.values() if row.metric == "mean_per_class"}
    assert per_class == {"flowers102", "aircraft", "pets", "caltech101"}


@pytest.fixture(scope="module")
def embedded() -> Dataset:
    return open_dataset("embedded")


def test_the_embedded_set_is_whole_and_the_same_each_time(embedded: Dataset) -> None:
    assert (len(embedded.train), embedded.val and len(embedded.val)) == (2000, 500)
    assert embedded.train.labels.bincount().tolist() == [200] * 10
    assert embedded.train.files[0].pixels().size == (64, 64)
    listings = [embedded.train, embedded.val, embedded.test.open()]
    digests = [digest for listing in listings if listing is not None for digest in listing.digests]
    assert len(set(digests)) == len(digests) == 3500


def test_embedded_classes_cannot_be_told_by_colour(embedded: Dataset) -> None:
    # The mean colour of a picture, and how it spreads, say next to nothing of its class.
    first = embedded.train.files[0]
    assert isinstance(first, ArrayImage)
    pictures = torch.from_numpy(first.array).flatten(1, 2).float()
    features = torch.cat([pictures.mean(1), pictures.std(1)], 1)
    features = torch.cat([(features - features.mean(0)) / features.std(0), torch.ones(2000, 1)], 1)
    answers = torch.nn.functional.one_hot(embedded.train.labels, 10).float()
    weights = torch.linalg.lstsq(features[:1500], answers[:1500]).solution
    right = (features[1500:] @ weights).argmax(1) == embedded.train.labels[1500:]
    assert float(right.float().mean()) < 0.3


def test_the_page_of_the_data_sets_has_the_tables_rows(repository: Path) -> None:
    page = (repository / "docs" / "transfer-data.md").read_text(encoding="utf-8")
    for row in DATASETS.values():
        train, test = f"{row.splits['train']:,}", f"{row.splits['test']:,}"
        val = f"{row.splits['val']:,}" if "val" in row.splits else "-"
        metric = {"top1": "top-1", "mean_per_class": "mean per class"}[row.metric]
        cells = [f"`{row.name}`", row.classes, f"{train} / {val} / {test}", metric, row.tuning, row.rule]
        assert " | ".join(["", *map(str, cells), ""]).strip().replace("|  |", "| |") in page
        for remote in row.downloads:
            assert remote.url.split("/")[2] in page
