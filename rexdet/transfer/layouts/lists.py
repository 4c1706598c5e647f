"""The data sets that come as JPEG files beside lists: Flowers-102, Cars, Food-101, Aircraft, Pets, DTD."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from rexdet.errors import UserError
from rexdet.transfer.images import StoredImage
from rexdet.transfer.layouts.entries import (
    Entries,
    Layout,
    check_range,
    check_safe,
    read_json,
    read_lines,
    read_mat,
)

FLOWERS = 102
PETS = 37
LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}


def read_flowers(place: Path, split: str) -> Entries:
    """Flowers-102 (Nilsback and Zisserman 2008). Classes are numbers, "1" to "102": the set's files name none."""
    labels = np.atleast_1d(read_mat(place / "imagelabels.mat", "labels"))
    check_range(labels, 1, FLOWERS, place / "imagelabels.mat")
    key = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    chosen = np.atleast_1d(read_mat(place / "setid.mat", key))
    check_range(chosen, 1, len(labels), place / "setid.mat", "image")
    names = [f"image_{int(number):05}.jpg" for number in chosen]
    return Entries(
        _stored(place / "jpg", names),
        tuple(str(int(labels[int(number) - 1])) for number in chosen),
        tuple(str(number) for number in range(1, FLOWERS + 1)),
    )


def read_cars(place: Path, split: str) -> Entries:
    """Stanford Cars (Krause et al. 2013), whole pictures, not cut to the boxes."""
    classes = tuple(str(name) for name in np.atleast_1d(read_mat(place / "devkit" / "cars_meta.mat", "class_names")))
    if split == "train":
        path = place / "devkit" / "cars_train_annos.mat"
    else:
        labelled = "cars_test_annos_withlabels.mat"
        path = place / labelled if (place / labelled).exists() else place / "devkit" / labelled
    annotations = np.atleast_1d(read_mat(path, "annotations"))
    fields = annotations.dtype.names or ()
    if "class" not in fields:
        raise UserError(
            "has no labels (the devkit's cars_test_annos.mat has none)",
            str(path),
            "put the authors' cars_test_annos_withlabels.mat there",
        )
    if "fname" not in fields:
        raise UserError("names no files", str(path), "use the official file")
    numbers = annotations["class"].tolist()
    check_range(numbers, 1, len(classes), path)
    names = [check_safe(str(name), path) for name in annotations["fname"].tolist()]
    return Entries(
        _stored(place, [f"cars_{split}/{name}" for name in names]),
        tuple(classes[int(number) - 1] for number in numbers),
        classes,
    )


def read_food(place: Path, split: str) -> Entries:
    """Food-101 (Bossard et al. 2014): meta/train.json and meta/test.json, class -> images without their ending."""
    path = place / "meta" / f"{split}.json"
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(names, list) for names in content.values()):
        raise UserError("does not list images a class", str(path), "use the official file")
    names, labels = [], []
    for label in sorted(content):
        for name in content[label]:
            if not isinstance(name, str) or name.split("/")[0] != label:
                raise UserError(f"{name!r} is no image of class {label!r}", str(path), "use the official file")
            names.append(f"{check_safe(name, path)}.jpg")
            labels.append(label)
    return Entries(_stored(place / "images", names), tuple(labels), tuple(sorted(content)))


def read_aircraft(level: str, place: Path, split: str) -> Entries:
    """FGVC-Aircraft (Maji et al. 2013) at one level of its labels. Class names keep what they have of / and *."""
    classes = tuple(read_lines(place / LEVELS[level]))
    path = place / f"images_{level}_{split}.txt"
    names, labels = [], []
    for line in read_lines(path):
        name, _, label = line.partition(" ")
        if label not in classes:
            raise UserError(
                f"{label!r} is not in {LEVELS[level]}", str(path), f"use the official lists of level {level!r}"
            )
        names.append(f"{check_safe(name, path)}.jpg")
        labels.append(label)
    return Entries(_stored(place / "images", names), tuple(labels), classes)


def read_pets(place: Path, split: str) -> Entries:
    """Oxford-IIIT Pets (Parkhi et al. 2012): lines "Bengal_92 6 1 2" of image, class from 1, species, breed."""
    path = place / "annotations" / ("trainval.txt" if split == "train" else "test.txt")
    names, numbers = [], []
    for line in read_lines(path):
        words = line.split()
        if len(words) != 4 or not words[1].isdecimal() or "_" not in words[0]:
            raise UserError(f"cannot be read: {line[:60]!r}", str(path), "use the official list")
        names.append(check_safe(words[0], path))
        numbers.append(int(words[1]))
    check_range(numbers, 1, PETS, path)
    breeds: dict[int, str] = {}
    for name, number in zip(names, numbers, strict=True):
        breeds.setdefault(number, name.rpartition("_")[0])
    odd = next((i for i, name in enumerate(names) if breeds[numbers[i]] != name.rpartition("_")[0]), None)
    if odd is not None:
        raise UserError(
            f"gives {names[odd]} the class {numbers[odd]} of {breeds[numbers[odd]]}", str(path), "use the official list"
        )
    return Entries(
        _stored(place / "images", [f"{name}.jpg" for name in names]),
        tuple(breeds[number] for number in numbers),
        tuple(breeds[number] for number in sorted(breeds)),
    )


def read_textures(partition: str, place: Path, split: str) -> Entries:
    """DTD (Cimpoi et al. 2014): labels/train1.txt and so on, lines "banded/banded_0002.jpg"."""
    path = place / "labels" / f"{split}{partition}.txt"
    names = [check_safe(line, path) for line in read_lines(path)]
    odd = next((name for name in names if name.count("/") != 1), None)
    if odd is not None:
        raise UserError(f"{odd[:60]!r} is no class/image", str(path), "use the official list")
    labels = tuple(name.split("/")[0] for name in names)
    return Entries(_stored(place / "images", names), labels, tuple(sorted(set(labels))))


def aircraft_layout(level: str) -> Layout:
    """FGVC-Aircraft at a level: "variant", "family" or "manufacturer"."""
    others = ", ".join(f"aircraft:{other}" for other in LEVELS if other != level)
    return Layout(
        folders=("fgvc-aircraft-2013b/data", "fgvc-aircraft-2013b", "data"),
        train=("images", LEVELS[level], f"images_{level}_train.txt", f"images_{level}_val.txt"),
        test=(f"images_{level}_test.txt",),
        read=partial(read_aircraft, level),
        hints={f"images_{level}_train.txt": f"the other levels are {others}"},
    )


def textures_layout(partition: str) -> Layout:
    """DTD's partition "1" to "10"."""
    return Layout(
        folders=("dtd/dtd", "dtd"),
        train=("images", f"labels/train{partition}.txt", f"labels/val{partition}.txt"),
        test=(f"labels/test{partition}.txt",),
        read=partial(read_textures, partition),
    )


FLOWERS_LAYOUT = Layout(
    folders=("flowers-102", "flowers102"),
    train=("jpg", "imagelabels.mat", "setid.mat"),
    test=(),
    read=read_flowers,
    md5={
        "train": {
            "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
            "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
        }
    },
)
CARS_LAYOUT = Layout(
    folders=("stanford_cars", "stanford-cars", "cars"),
    train=("cars_train", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat"),
    test=("cars_test", "cars_test_annos_withlabels.mat|devkit/cars_test_annos_withlabels.mat"),
    read=read_cars,
    md5={
        "test": {
            "cars_test_annos_withlabels.mat|devkit/cars_test_annos_withlabels.mat": "b0a2b23655a3edd16d84508592a98d10"
        }
    },
    hints={
        "cars_test_annos_withlabels.mat|devkit/cars_test_annos_withlabels.mat": (
            "the devkit's cars_test_annos.mat has no labels"
        )
    },
)
FOOD_LAYOUT = Layout(
    folders=("food-101", "food101"), train=("images", "meta/train.json"), test=("meta/test.json",), read=read_food
)
PETS_LAYOUT = Layout(
    folders=("oxford-iiit-pet", "pets"),
    train=("images", "annotations/trainval.txt"),
    test=("annotations/test.txt",),
    read=read_pets,
)


def _stored(folder: Path, names: list[str]) -> tuple[StoredImage, ...]:
    return tuple(StoredImage(name, f"{folder}/{name}") for name in names)
