"""Folders of classes: Caltech-101, whose split is drawn, and anybody's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rexdet.errors import UserError
from rexdet.transfer.images import StoredImage, is_picture, list_classes, list_images, pictures_below
from rexdet.transfer.layouts.entries import Entries, Layout
from rexdet.transfer.splits import drawn_per_class, folds

CLUTTER = "BACKGROUND_Google"
CALTECH_PER_CLASS = 30
# The order of the draws is part of what a data set is here: other seeds are other splits.
SPLIT_SEED = 0
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")


def read_folder(folder: Path, prefix: str = "", *, may_be_empty: bool = False) -> Entries:
    """A folder of classes: every image below each class's folder. Raises UserError: no classes, an empty one.

    prefix: of the images' names. may_be_empty: a class without images is left out, as one without a folder is.
    """
    files: list[StoredImage] = []
    labels: list[str] = []
    classes = list_classes(folder)
    for name in classes:
        paths = pictures_below(folder / name) if may_be_empty else list_images(folder, name)
        files += [StoredImage(prefix + path.relative_to(folder).as_posix(), str(path)) for path in paths]
        labels += [name] * len(paths)
    return Entries(tuple(files), tuple(labels), tuple(classes))


def caltech_layout(classes: int) -> Layout:
    """Caltech-101 (Fei-Fei et al. 2004): 30 images a class to train on, drawn; the rest is the test split.

    classes: 102 with the clutter folder BACKGROUND_Google as a class (Kornblith et al. 2019), 101 without it.
    """
    return Layout(
        folders=("caltech101", "caltech-101", "Caltech101", "caltech_101", "caltech101/caltech-101"),
        train=("101_ObjectCategories",),
        test=(),
        read=partial(_read_caltech, classes == 102),
        is_drawn=True,
    )


def _read_caltech(with_clutter: bool, place: Path, split: str) -> Entries:
    folder = place / "101_ObjectCategories"
    everything = read_folder(folder)
    kept = [index for index, label in enumerate(everything.labels) if with_clutter or label != CLUTTER]
    classes = tuple(name for name in everything.classes if with_clutter or name != CLUTTER)
    numbers = [classes.index(everything.labels[index]) for index in kept]
    try:
        train, test = drawn_per_class(numbers, CALTECH_PER_CLASS, SPLIT_SEED)
    except ValueError as error:
        raise UserError(str(error), str(folder), "use the official archive") from error
    return _chosen(everything, [kept[place] for place in (train if split == "train" else test)], classes)


def own_folder(root: Path) -> Layout:
    """Anybody's ROOT/train, ROOT/test and, if it is there, ROOT/val, each a folder of classes."""
    names = {split: _found(root, candidates) for split, candidates in _CANDIDATES.items()}
    return Layout(
        folders=(),
        train=(names["train"] or TRAIN_NAMES[0],),
        test=(names["test"] or TEST_NAMES[0],),
        read=lambda place, split: read_folder(
            place / (names[split] or split), f"{split}/", may_be_empty=split == "test"
        ),
    )


def has_validation(root: Path) -> bool:
    """ROOT has a folder of images to choose by."""
    return _found(root, VAL_NAMES) is not None


def folded_folder(count: int, fold: int) -> Layout:
    """One folder of classes in `count` folds, of which fold number `fold` (from 0) is the test split.

    Raises UserError for numbers out of range.
    """
    if count < 2:
        raise UserError(f"{count} folds are none", "--kfold", "give 2 or more")
    if not 0 <= fold < count:
        raise UserError(f"there is no fold {fold} of {count}", "--kfold", f"folds are numbered 0 to {count - 1}")
    return Layout(folders=(), train=(), test=(), read=partial(_read_fold, count, fold), is_drawn=True)


def _read_fold(count: int, fold: int, place: Path, split: str) -> Entries:
    # A class may be called "train": a split holds folders of classes, a class holds pictures.
    split_already = next((name for name in (*TRAIN_NAMES, *TEST_NAMES) if _holds_folders_alone(place / name)), None)
    if split_already is not None:
        raise UserError(
            f"is split already: it has {split_already}/", str(place), "leave --kfold out, or name one folder of classes"
        )
    everything = read_folder(place)
    numbers = [everything.classes.index(label) for label in everything.labels]
    parts = folds(numbers, count, SPLIT_SEED)
    train = sorted(index for number, part in enumerate(parts) if number != fold for index in part)
    return _chosen(everything, train if split == "train" else parts[fold], everything.classes)


def _holds_folders_alone(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return any(entry.is_dir() for entry in entries) and not any(is_picture(entry.name) for entry in entries)


def _chosen(everything: Entries, places: list[int], classes: tuple[str, ...]) -> Entries:
    return Entries(
        tuple(everything.files[index] for index in places),
        tuple(everything.labels[index] for index in places),
        classes,
    )


_CANDIDATES = {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}


def _found(root: Path, candidates: tuple[str, ...]) -> str | None:
    return next((name for name in candidates if (root / name).is_dir()), None)
