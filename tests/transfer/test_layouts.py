"""Every official layout, on generated copies whose lists are excerpts of the official ones, beside torchvision.

The excerpts (tests/transfer/excerpts) are of the devkits of Flowers-102, Stanford Cars, Food-101, CIFAR-100 and
Oxford-IIIT Pets. Lists of Aircraft, DTD and Caltech-101 could not be had: theirs are written here in the official form.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import loadmat, savemat

from rexdet.errors import UserError
from rexdet.transfer.datasets import DATASETS, open_dataset
from rexdet.transfer.images import Listing, StoredImage

EXCERPTS = Path(__file__).parent / "excerpts"
Pairs = list[tuple[str, str]]


def write_image(path: Path) -> None:
    """A small JPEG whose content hangs on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
    Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path)


def excerpt(name: str) -> Any:
    return json.loads((EXCERPTS / name).read_text())


def make_flowers(root: Path) -> None:
    content = excerpt("flowers102.json")
    folder = root / "flowers-102"
    for number in content["trnid"] + content["valid"] + content["tstid"]:
        write_image(folder / "jpg" / f"image_{number:05}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([content["labels"]], np.uint8)})
    savemat(folder / "setid.mat", {k: np.array([content[k]], np.uint16) for k in ("trnid", "valid", "tstid")})


def cars_table(rows: Iterable[list[Any]], fields: list[str]) -> np.ndarray:
    return np.array([tuple(row) for row in rows], dtype=[(name, object) for name in fields])[None]


def make_cars(root: Path) -> None:
    content = excerpt("cars.json")
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = np.array(content["class_names"], dtype=object)[None]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    train = content["train"]
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": cars_table(train, content["fields"])})
    bare = [name for name in content["fields"] if name != "class"]
    test = content["test_without_labels"]
    savemat(folder / "devkit" / "cars_test_annos.mat", {"annotations": cars_table(test, bare)})
    # The labelled list of the test split could not be had: classes of the training excerpt stand in.
    labelled = [[*row[:4], train[index][4], row[4]] for index, row in enumerate(test)]
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": cars_table(labelled, content["fields"])})
    for split, rows in (("train", train), ("test", test)):
        for row in rows:
            write_image(folder / f"cars_{split}" / row[-1])


def make_food(root: Path) -> None:
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for split in ("train", "test"):
        content = excerpt(f"food101_{split}.json")
        (folder / "meta" / f"{split}.json").write_text(json.dumps(content))
        for name in chain(*content.values()):
            write_image(folder / "images" / f"{name}.jpg")
    labels = "\n".join(name.replace("_", " ").title() for name in content)
    (folder / "meta" / "classes.txt").write_text("\n".join(content))
    (folder / "meta" / "labels.txt").write_text(labels)


AIRCRAFT = (
    ("F/A-18", "F/A-18", "McDonnell Douglas"),
    ("DR-400", "DR-400", "Robin"),
    ("707-320", "Boeing 707", "Boeing"),
    ("717*200", "Boeing 717", "Boeing"),
)


def make_aircraft(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    folder.mkdir(parents=True)
    for level, name in enumerate(("variant", "family", "manufacturer")):
        file = {"variant": "variants", "family": "families", "manufacturer": "manufacturers"}[name]
        values = sorted({row[level] for row in AIRCRAFT})
        (folder / f"{file}.txt").write_text("\n".join(values) + "\n")
        for start, split in enumerate(("train", "val", "test")):
            numbers = [(1_025_794 + 100 * start + place, row[level]) for place, row in enumerate(AIRCRAFT)]
            lines = "".join(f"{number} {label}\n" for number, label in numbers)
            (folder / f"images_{name}_{split}.txt").write_text(lines)
            for number, _ in numbers:
                write_image(folder / "images" / f"{number}.jpg")


def make_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        text = (EXCERPTS / f"pets_{split}.txt").read_text()
        (folder / "annotations" / f"{split}.txt").write_text(text)
        for line in text.splitlines():
            write_image(folder / "images" / f"{line.split()[0]}.jpg")


def make_textures(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for partition in (1, 2):
        for start, split in enumerate(("train", "val", "test")):
            numbers = [(start + partition) % 3 * 2 + place for place in (1, 2)]
            names = [f"{label}/{label}_{number:04}.jpg" for label in ("banded", "zigzagged") for number in numbers]
            (folder / "labels" / f"{split}{partition}.txt").write_text("\n".join(names) + "\n")
            for name in names:
                write_image(folder / "images" / name)


def make_caltech(root: Path, folder: str = "caltech101") -> None:
    for label, count in (("BACKGROUND_Google", 33), ("accordion", 32), ("yin_yang", 35)):
        for number in range(1, count + 1):
            write_image(root / folder / "101_ObjectCategories" / label / f"image_{number:04}.jpg")
    (root / folder / "101_ObjectCategories" / "BACKGROUND_Google" / "tmp").write_bytes(b"")


def make_cifar(root: Path, name: str) -> None:
    folder = root / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    folder.mkdir(parents=True)
    fine = (EXCERPTS / "cifar100_fine_label_names.txt").read_text().split()
    if name == "cifar10":
        classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        files, key, meta = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"], "labels", "batches.meta"
        names = {"label_names": classes}
    else:
        classes, files, key, meta = fine, ["train", "test"], "fine_labels", "meta"
        names = {"fine_label_names": classes}
    for number, file in enumerate(files):
        random = np.random.default_rng(number)
        labels = [index % len(classes) for index in range(len(classes) * (1 if name == "cifar10" else 2))]
        batch = {"data": random.integers(0, 255, (len(labels), 3072), dtype=np.uint8), key: labels}
        (folder / file).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / meta).write_bytes(pickle.dumps(names, protocol=2))


MAKERS: dict[str, Callable[[Path], None]] = {
    "flowers102": make_flowers,
    "cars": make_cars,
    "food101": make_food,
    "aircraft": make_aircraft,
    "pets": make_pets,
    "dtd": make_textures,
    "caltech101": make_caltech,
    "cifar10": lambda root: make_cifar(root, "cifar10"),
    "cifar100": lambda root: make_cifar(root, "cifar100"),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a generated copy of every official set."""
    root = tmp_path_factory.mktemp("sets")
    for make in MAKERS.values():
        make(root)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))


def pairs(listing: Listing) -> Pairs:
    files = [file.path for file in listing.files if isinstance(file, StoredImage)]
    assert len(files) == len(listing)
    return [(str(path), listing.classes[label]) for path, label in zip(files, listing.labels.tolist(), strict=True)]


def peer_flowers(root: Path, split: str) -> Pairs:
    peer = torchvision.datasets.Flowers102(root, split)
    return [(str(path), str(label + 1)) for path, label in zip(peer._image_files, peer._labels, strict=True)]


def peer_cars(root: Path, split: str) -> Pairs:
    peer = torchvision.datasets.StanfordCars(root, split)
    return [(path, peer.classes[label]) for path, label in peer._samples]


def peer_listed(make: Callable[[Path, str], Any]) -> Callable[[Path, str], Pairs]:
    def listed(root: Path, split: str) -> Pairs:
        peer = make(root, split)
        return [(str(path), peer.classes[label]) for path, label in zip(peer._image_files, peer._labels, strict=True)]

    return listed


def peer_pets(root: Path, split: str) -> Pairs:
    peer = torchvision.datasets.OxfordIIITPet(root, "trainval" if split == "train" else "test")
    # torchvision's labels are the list's, less 1; the names of its classes are ours in title case.
    titles = {name.replace("_", " ").title(): name for name in ("Abyssinian", "american_bulldog", "Bengal")}
    names = dict(zip(sorted(set(peer._labels)), peer.classes, strict=True))
    return [(str(path), titles[names[label]]) for path, label in zip(peer._images, peer._labels, strict=True)]


PEERS: dict[str, Callable[[Path, str], Pairs]] = {
    "flowers102": peer_flowers,
    "cars": peer_cars,
    "food101": peer_listed(torchvision.datasets.Food101),
    "aircraft": peer_listed(torchvision.datasets.FGVCAircraft),
    "aircraft:family": peer_listed(lambda root, split: torchvision.datasets.FGVCAircraft(root, split, "family")),
    "aircraft:manufacturer": peer_listed(
        lambda root, split: torchvision.datasets.FGVCAircraft(root, split, "manufacturer")
    ),
    "pets": peer_pets,
    "dtd": peer_listed(torchvision.datasets.DTD),
    "dtd:2": peer_listed(lambda root, split: torchvision.datasets.DTD(root, split, 2)),
}


@pytest.mark.parametrize("name", PEERS)
def test_images_and_classes_are_those_of_torchvision(sets: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_check_integrity", lambda self: True)
    data = open_dataset(name, sets, check_counts=False)
    for listing in filter(None, (data.train, data.val, data.test.open())):
        assert pairs(listing) == PEERS[name](sets, listing.split)
        assert len({file.name for file in listing.files}) == len(listing)
        assert listing.classes == data.classes


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pixels_of_cifar_are_those_of_torchvision(sets: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = getattr(torchvision.datasets, name.upper())
    monkeypatch.setattr(peer, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: True)
    data = open_dataset(name, sets, check_counts=False)
    for listing, train in ((data.train, True), (data.test.open(), False)):
        there = peer(sets, train=train)
        assert listing.labels.tolist() == there.targets
        assert list(listing.classes) == there.classes
        for index in (0, len(listing) - 1):
            assert np.array_equal(np.asarray(listing.files[index].pixels()), np.asarray(there[index][0]))


@pytest.mark.parametrize(
    ("name", "classes", "train", "test"), [("caltech101", 3, 90, 10), ("caltech101:101", 2, 60, 7)]
)
def test_caltech_is_drawn_the_same_way_each_time(
    sets: Path, tmp_path: Path, name: str, classes: int, train: int, test: int
) -> None:
    data = open_dataset(name, sets, check_counts=False)
    opened = data.test.open()
    assert (len(data.classes), len(data.train), len(opened)) == (classes, train, test)
    assert data.train.labels.bincount().tolist() == [30] * classes
    names = {file.name for file in data.train.files} | {file.name for file in opened.files}
    assert len(names) == train + test
    assert ("BACKGROUND_Google" in data.classes) == (classes == 3)
    # The other name of the folder, and the same images drawn.
    shutil.copytree(sets / "caltech101", tmp_path / "caltech-101")
    again = open_dataset(name, tmp_path, check_counts=False)
    assert again.train.fingerprint == data.train.fingerprint


@pytest.mark.parametrize("name", MAKERS)
def test_an_excerpt_is_refused_unless_it_is_asked_for(sets: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        open_dataset(name, sets)
    assert "\n" not in str(caught.value)
    if name.startswith("cifar"):
        # A pickle's hash is looked at before it is opened.
        assert "is not the official file: MD5" in str(caught.value)
    else:
        assert f"and {DATASETS[name].title} has {DATASETS[name].splits['train']:,}" in str(caught.value)


def test_names_of_aircraft_keep_their_marks(sets: Path) -> None:
    data = open_dataset("aircraft", sets, check_counts=False)
    assert {"F/A-18", "717*200"} <= set(data.classes)
    assert data.facts.rule.startswith("level variant")
    assert len(data.train_and_val()) == 8


def flowers_with(folder: Path, *, labels: np.ndarray | None = None, **splits: np.ndarray) -> Path:
    """A Flowers-102 folder of lists alone, with as many images by split as are given."""
    place = folder / "flowers-102"
    (place / "jpg").mkdir(parents=True)
    count = max(int(chosen.max()) for chosen in splits.values())
    savemat(place / "imagelabels.mat", {"labels": np.arange(count)[None] % 102 + 1 if labels is None else labels[None]})
    savemat(place / "setid.mat", {name: chosen[None] for name, chosen in splits.items()})
    return folder


def test_swapped_flowers_are_refused_with_both_counts(tmp_path: Path) -> None:
    ids = np.arange(1, 8190)
    flowers_with(tmp_path, trnid=ids[:6149], valid=ids[6149:7169], tstid=ids[7169:])
    with pytest.raises(UserError, match=r"train has 6,149 images, and Oxford 102 Flowers has 1,020: .*its test split"):
        open_dataset("flowers102", tmp_path)


def test_a_foreign_split_of_the_right_size_is_refused(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).permutation(np.arange(1, 8190))
    flowers_with(tmp_path, trnid=ids[:1020], valid=ids[1020:2040], tstid=ids[2040:])
    with pytest.raises(UserError, match=r"is not the official file: MD5 .*a5357ecc9cb78c4bef273ce3793fc85c"):
        open_dataset("flowers102", tmp_path)


@pytest.mark.parametrize(("label", "told"), [(0, "has label 0: it counts from 1"), (103, "from 1 to 102")])
def test_flower_labels_out_of_range_are_refused(tmp_path: Path, label: int, told: str) -> None:
    labels = np.array([1, 2, label])
    flowers_with(tmp_path, labels=labels, trnid=np.array([1, 2]), valid=np.array([3]), tstid=np.array([3]))
    with pytest.raises(UserError, match=told):
        open_dataset("flowers102", tmp_path, check_counts=False)


@pytest.mark.parametrize("labels", [[1.0, np.nan, 2.0], ["one", "two", "three"]])
def test_flower_labels_that_are_no_numbers_are_refused(tmp_path: Path, labels: list[Any]) -> None:
    flowers_with(tmp_path, labels=np.array(labels), trnid=np.array([1, 2]), valid=np.array([3]), tstid=np.array([3]))
    with pytest.raises(UserError, match=r"has label (nan|one)\s*: they run from 1 to 102") as raised:
        open_dataset("flowers102", tmp_path, check_counts=False)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("label", [0, 197])
def test_car_labels_out_of_range_are_refused(tmp_path: Path, label: int) -> None:
    make_cars(tmp_path)
    content = excerpt("cars.json")
    rows = [[*row[:4], label, row[5]] for row in content["train"]]
    path = tmp_path / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    savemat(path, {"annotations": cars_table(rows, content["fields"])})
    with pytest.raises(UserError, match=f"has label {label}: "):
        open_dataset("cars", tmp_path, check_counts=False)


def test_cifar_labels_that_count_from_one_are_refused(tmp_path: Path) -> None:
    make_cifar(tmp_path, "cifar10")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(1, 11))}
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(UserError, match="has label 10: they run from 0 to 9"):
        open_dataset("cifar10", tmp_path, check_counts=False)


class _Dangerous:
    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.sign),))


def test_a_pickle_of_cifar_is_not_executed(tmp_path: Path) -> None:
    make_cifar(tmp_path, "cifar10")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": _Dangerous(tmp_path / "executed"), "labels": []}, protocol=2))
    with pytest.raises(UserError, match=r"names posix\.mkdir, which no CIFAR file holds"):
        open_dataset("cifar10", tmp_path, check_counts=False)
    assert not (tmp_path / "executed").exists()


def test_a_test_list_of_cars_without_labels_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_cars(tmp_path)
    labelled = tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat"
    labelled.unlink()
    data = open_dataset("cars", tmp_path, check_counts=False)
    assert "the devkit's cars_test_annos.mat has no labels" in caplog.text
    with pytest.raises(UserError, match=r"cars_test_annos\.mat has no labels"):
        data.test.open()
    # The bare list under the labelled one's name is found out when the seal opens.
    shutil.copy(labelled.parent / "devkit" / "cars_test_annos.mat", labelled)
    with pytest.raises(UserError, match=r"has no labels .*put the authors' cars_test_annos_withlabels.mat there"):
        open_dataset("cars", tmp_path, check_counts=False).test.open()


def test_lists_of_another_level_are_told(tmp_path: Path) -> None:
    make_aircraft(tmp_path)
    folder = tmp_path / "fgvc-aircraft-2013b" / "data"
    shutil.copy(folder / "images_family_train.txt", folder / "images_variant_train.txt")
    with pytest.raises(UserError, match=r"'Boeing 707' is not in variants.txt; use the official lists of level 'var"):
        open_dataset("aircraft", tmp_path, check_counts=False)
    (folder / "images_variant_train.txt").unlink()
    with pytest.raises(UserError, match=r"no images_variant_train.txt \(the other levels are aircraft:family, "):
        open_dataset("aircraft", tmp_path, check_counts=False)


def test_a_class_less_is_refused_with_both_counts(tmp_path: Path) -> None:
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    lines = [f"breed{number % 36}_{number} {number % 36 + 1} 1 1" for number in range(3680)]
    (folder / "annotations" / "trainval.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"36 classes, and Oxford-IIIT Pets has 37"):
        open_dataset("pets", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("pets", "oxford-iiit-pet/annotations/trainval.txt", "Bengal_92\n", "cannot be read: 'Bengal_92'"),
        ("pets", "oxford-iiit-pet/annotations/trainval.txt", "Bengal_92 0 1 2\n", "it counts from 1"),
        ("pets", "oxford-iiit-pet/annotations/trainval.txt", "Bengal_92 6 1 2\nPug_1 6 2 3\n", "the class 6 of Bengal"),
        ("food101", "food-101/meta/train.json", "{", "cannot be read as JSON"),
        ("food101", "food-101/meta/train.json", '{"churros": ["waffles/1"]}', "'waffles/1' is no image of class 'chur"),
        ("food101", "food-101/meta/train.json", '{"..": ["../../etc/x"]}', "leads out of the folder"),
        ("flowers102", "flowers-102/setid.mat", "no MATLAB file", "cannot be read as a MATLAB file"),
        ("flowers102", "flowers-102/imagelabels.mat", None, "no imagelabels.mat"),
        ("dtd", "dtd/dtd/labels/train1.txt", "banded_0002.jpg\n", "'banded_0002.jpg' is no class/image"),
        ("dtd", "dtd/dtd/labels/val1.txt", None, "no labels/val1.txt"),
        ("dtd", "dtd/dtd/labels/train1.txt", "a/b.jpg\na/b.jpg\nc/d.jpg\n", "lists a/b.jpg 2 times"),
        ("cifar10", "cifar-10-batches-py/data_batch_1", "no pickle", "is a damaged pickle"),
        ("cifar100", "cifar-100-python/meta", None, "no meta"),
    ],
)
def test_a_broken_list_is_told_in_one_line(tmp_path: Path, name: str, file: str, text: str | None, told: str) -> None:
    MAKERS[name](tmp_path)
    path = tmp_path / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        open_dataset(name, tmp_path, check_counts=False)
    assert "\n" not in str(caught.value)


def test_the_whole_official_flowers_split(shared_dir: Path, tmp_path: Path) -> None:
    kit = shared_dir / "data" / "devkits"
    place = tmp_path / "flowers-102"
    (place / "jpg").mkdir(parents=True)
    shutil.copy(kit / "flowers102" / "imagelabels.mat", place)
    shutil.copy(kit / "flowers102_setid.mat", place / "setid.mat")
    sizes = {split: DATASETS["flowers102"].layout.read(place, split) for split in ("train", "val", "test")}
    assert {split: len(entries.files) for split, entries in sizes.items()} == {"train": 1020, "val": 1020, "test": 6149}
    assert all(set(entries.labels) == {str(number) for number in range(1, 103)} for entries in sizes.values())
    # Counts and hashes pass; what is missing are the pictures.
    with pytest.raises(UserError, match=r"1,020 of 1,020 images cannot be used, first .*jpg \(is missing\)"):
        open_dataset("flowers102", tmp_path)
    official = loadmat(place / "setid.mat")
    exchanged = {"trnid": official["tstid"], "valid": official["valid"], "tstid": official["trnid"]}
    savemat(place / "setid.mat", exchanged)
    with pytest.raises(UserError, match="train has 6,149 images, and Oxford 102 Flowers has 1,020"):
        open_dataset("flowers102", tmp_path)


def test_the_whole_official_cars_lists(shared_dir: Path, tmp_path: Path) -> None:
    kit = shared_dir / "data" / "devkits"
    place = tmp_path / "stanford_cars"
    (place / "devkit").mkdir(parents=True)
    (place / "cars_train").mkdir()
    for name in ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos.mat"):
        shutil.copy(kit / name, place / "devkit" / name)
    entries = DATASETS["cars"].layout.read(place, "train")
    assert (len(entries.files), len(set(entries.labels)), len(entries.classes)) == (8144, 196, 196)
    shutil.copy(kit / "cars_test_annos.mat", place / "cars_test_annos_withlabels.mat")
    with pytest.raises(UserError, match="has no labels"):
        DATASETS["cars"].layout.read(place, "test")


def test_the_whole_official_food_lists(shared_dir: Path, tmp_path: Path) -> None:
    place = tmp_path / "food-101"
    (place / "images").mkdir(parents=True)
    shutil.copytree(shared_dir / "data" / "devkits" / "food101", place / "meta")
    layout = DATASETS["food101"].layout
    for split, each in (("train", 750), ("test", 250)):
        entries = layout.read(place, split)
        assert len(entries.files) == 101 * each == DATASETS["food101"].splits[split]
        assert {entries.labels.count(name) for name in entries.classes} == {each}
    shutil.move(place / "meta" / "train.json", place / "meta" / "other.json")
    shutil.move(place / "meta" / "test.json", place / "meta" / "train.json")
    shutil.move(place / "meta" / "other.json", place / "meta" / "test.json")
    with pytest.raises(UserError, match="train has 25,250 images, and Food-101 has 75,750: that is its test split"):
        open_dataset("food101", tmp_path)


def test_a_list_of_other_names_shows_both(tmp_path: Path) -> None:
    make_pets(tmp_path)
    for path in sorted(tmp_path.rglob("images/*.jpg")):
        path.rename(path.with_name(f"n02-{path.name}"))
    with pytest.raises(UserError, match=r"the list says \w+\.jpg, the folder has n02-\w+\.jpg"):
        open_dataset("pets", tmp_path, check_counts=False)


def test_real_pets_in_their_own_layout(shared_dir: Path) -> None:
    data = open_dataset("pets", shared_dir / "data" / "pets-mini", check_counts=False)
    assert data.classes == ("Abyssinian", "american_bulldog", "Bengal")
    assert (len(data.train), len(data.test.open())) == (42, 21)
    assert data.metric == "mean_per_class"
