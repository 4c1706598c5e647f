"""The data sets of the transfer harness: one table of their facts, and how one is opened.

Counts are those of Kornblith, Shlens and Le 2019 (arXiv 1805.08974, Table 1); metrics stand in `metrics.py`.
Checksums are the publishers' files', as torchvision 0.26 (its `datasets`) checks them; that of the labelled Cars list
as torchvision checked it while its source was there (0.15).
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from rexdet.errors import UserError
from rexdet.transfer.download import download_all
from rexdet.transfer.facts import DatasetFacts, Download
from rexdet.transfer.fold import Fold
from rexdet.transfer.images import check_name
from rexdet.transfer.layouts.cifar import cifar_layout
from rexdet.transfer.layouts.embedded import CLASSES, EMBEDDED_LAYOUT, GENERATOR_VERSION, SPLITS
from rexdet.transfer.layouts.folders import caltech_layout, folded_folder, has_validation, own_folder, read_folder
from rexdet.transfer.layouts.lists import (
    CARS_LAYOUT,
    FLOWERS_LAYOUT,
    FOOD_LAYOUT,
    PETS_LAYOUT,
    aircraft_layout,
    textures_layout,
)
from rexdet.transfer.metrics import METRICS
from rexdet.transfer.opening import Dataset, open_layout
from rexdet.transfer.scan import cache_folder

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"

_ROWS = (
    DatasetFacts(
        name="embedded",
        title="the embedded set",
        classes=len(CLASSES),
        splits=SPLITS,
        metric=METRICS["embedded"],
        source="painted by rexdet.transfer.layouts.embedded",
        put="",
        layout=EMBEDDED_LAYOUT,
        rule=f"generator {GENERATOR_VERSION}",
    ),
    DatasetFacts(
        name="cifar10",
        title="CIFAR-10",
        classes=10,
        splits={"train": 50_000, "test": 10_000},
        metric=METRICS["cifar10"],
        source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        put="cifar-10-batches-py/ of cifar-10-python.tar.gz",
        layout=cifar_layout(
            "cifar-10-batches-py",
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            {"test_batch": "40351d587109b95175f43aff81a1287e"},
            ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
            names_key="label_names",
            labels_key="labels",
        ),
        downloads=(
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
        size="170 MB",
    ),
    DatasetFacts(
        name="cifar100",
        title="CIFAR-100",
        classes=100,
        splits={"train": 50_000, "test": 10_000},
        metric=METRICS["cifar100"],
        source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        put="cifar-100-python/ of cifar-100-python.tar.gz",
        layout=cifar_layout(
            "cifar-100-python",
            {"train": "16019d7e3df5f24257cddd939b257f8d"},
            {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            ("meta", "7973b15100ade9c7d40fb424638fde48"),
            names_key="fine_label_names",
            labels_key="fine_labels",
        ),
        downloads=(
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        size="170 MB",
        rule="the 100 fine labels",
    ),
    DatasetFacts(
        name="flowers102",
        title="Oxford 102 Flowers",
        classes=102,
        splits={"train": 1_020, "val": 1_020, "test": 6_149},
        metric=METRICS["flowers102"],
        source=f"Nilsback and Zisserman 2008, {_VGG}/flowers/102/",
        put="jpg/ of 102flowers.tgz, imagelabels.mat and setid.mat into flowers-102/",
        layout=FLOWERS_LAYOUT,
        downloads=(
            Download(f"{_VGG}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "flowers-102"),
            Download(f"{_VGG}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", "flowers-102"),
            Download(f"{_VGG}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", "flowers-102"),
        ),
        size="330 MB",
    ),
    DatasetFacts(
        name="cars",
        title="Stanford Cars",
        classes=196,
        splits={"train": 8_144, "test": 8_041},
        metric=METRICS["cars"],
        source="Krause et al. 2013; its page, ai.stanford.edu/~jkrause/cars, is gone",
        put="cars_train/, cars_test/, devkit/ (cars_meta.mat, cars_train_annos.mat) and cars_test_annos_withlabels.mat "
        "into stanford_cars/",
        layout=CARS_LAYOUT,
        rule="whole pictures, not cut to the boxes",
    ),
    DatasetFacts(
        name="food101",
        title="Food-101",
        classes=101,
        splits={"train": 75_750, "test": 25_250},
        metric=METRICS["food101"],
        source="Bossard et al. 2014, https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        put="food-101/ (images/, meta/) of food-101.tar.gz",
        layout=FOOD_LAYOUT,
        downloads=(Download("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87"),),
        size="5 GB",
    ),
    DatasetFacts(
        name="aircraft",
        title="FGVC-Aircraft",
        classes=100,
        splits={"train": 3_334, "val": 3_333, "test": 3_333},
        metric=METRICS["aircraft"],
        source=f"Maji et al. 2013, arXiv 1306.5151, {_VGG}/fgvc-aircraft/",
        put="fgvc-aircraft-2013b/ of fgvc-aircraft-2013b.tar.gz",
        layout=aircraft_layout("variant"),
        downloads=(
            Download(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "d4acdd33327262359767eeaa97a4f732"),
        ),
        size="2.7 GB",
        rule="level variant; whole pictures with the credit line",
        options={
            "variant": {},
            "family": {
                "classes": 70,
                "layout": aircraft_layout("family"),
                "rule": "level family; whole pictures with the credit line",
            },
            "manufacturer": {
                "classes": 30,
                "layout": aircraft_layout("manufacturer"),
                "rule": "level manufacturer; whole pictures with the credit line",
            },
        },
    ),
    DatasetFacts(
        name="pets",
        title="Oxford-IIIT Pets",
        classes=37,
        splits={"train": 3_680, "test": 3_669},
        metric=METRICS["pets"],
        source=f"Parkhi et al. 2012, {_VGG}/pets/",
        put="images/ and annotations/ of images.tar.gz and annotations.tar.gz into oxford-iiit-pet/",
        layout=PETS_LAYOUT,
        downloads=(
            Download(f"{_VGG}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", "oxford-iiit-pet"),
            Download(f"{_VGG}/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f", "oxford-iiit-pet"),
        ),
        size="800 MB",
        rule="37 breeds",
    ),
    DatasetFacts(
        name="dtd",
        title="Describable Textures",
        classes=47,
        splits={"train": 1_880, "val": 1_880, "test": 1_880},
        metric=METRICS["dtd"],
        source=f"Cimpoi et al. 2014, {_VGG}/dtd/",
        put="dtd/ (images/, labels/) of dtd-r1.0.1.tar.gz into dtd/",
        layout=textures_layout("1"),
        downloads=(Download(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1", "dtd"),),
        size="600 MB",
        rule="partition 1 of 10",
        options={
            str(number): {"layout": textures_layout(str(number)), "rule": f"partition {number} of 10"}
            for number in range(1, 11)
        },
    ),
    DatasetFacts(
        name="caltech101",
        title="Caltech-101",
        classes=102,
        splits={"train": 3_060, "test": 6_084},
        metric=METRICS["caltech101"],
        source="Fei-Fei et al. 2004, https://data.caltech.edu/records/mzrjq-6wc02",
        put="101_ObjectCategories/ of caltech-101.zip into caltech101/",
        layout=caltech_layout(102),
        downloads=(
            Download(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
                "caltech101",
            ),
        ),
        size="140 MB",
        rule="102 classes with BACKGROUND_Google, 30 a class to train on, drawn with seed 0 (no official split)",
        options={
            "102": {},
            "101": {
                "classes": 101,
                "splits": {"train": 3_030, "test": 5_647},
                "layout": caltech_layout(101),
                "rule": "101 classes without BACKGROUND_Google, 30 a class to train on, drawn with seed 0",
            },
        },
    ),
)
DATASETS: dict[str, DatasetFacts] = {row.name: row for row in _ROWS}


def list_datasets() -> list[str]:
    """Every name that --dataset takes; some also take an option, NAME:OPTION (`DATASETS[name].options`)."""
    return [*DATASETS, "folder"]


def dataset_facts(name: str) -> DatasetFacts:
    """The facts of an official set, "aircraft" or "aircraft:family". Raises UserError for a name that there is not."""
    base, _, option = name.partition(":")
    if base not in DATASETS:
        close = difflib.get_close_matches(base, list_datasets(), 1)
        fix = f"did you mean {close[0]}" if close else f"there are {', '.join(list_datasets())}"
        raise UserError(f"there is no data set {name!r}", "--dataset", fix)
    return DATASETS[base].chosen(option) if option else DATASETS[base]


def open_dataset(
    name: str,
    data_root: str | Path | None = None,
    *,
    kfold: int | None = None,
    fold: int = 0,
    download: bool | None = None,
    check_counts: bool = True,
    progress: bool = False,
) -> Dataset:
    """Open the training (and validation) images of a data set; its test split stays sealed.

    name: one of `list_datasets()`, or NAME:OPTION. data_root: the folder that holds the set, or in which torchvision
    would; None for one in the cache. kfold, fold: for "folder" alone, of how many folds which (from 0) is the test
    split. download: fetch what is not there; None to do so only without a data_root. check_counts: the official
    numbers of images and classes, and the checksums, must be met; False for excerpts, as tests make them, and for
    nothing else. progress: show bars.

    Raises UserError (one line): no such set, files missing (which to put where), another split than the official one
    (with both counts), labels out of range, too many training images that cannot be read.
    """
    if kfold is not None and name != "folder":
        raise UserError(f"{name} has a split of its own", "--kfold", "folds are for --dataset folder")
    if name == "embedded":
        return open_layout(DATASETS[name], Path(name), progress=progress)
    if name == "folder":
        return _open_folder(data_root, kfold, fold, progress)
    facts = dataset_facts(name)
    root = cache_folder("datasets") if data_root is None else _root(data_root)
    place = _place(facts, root)
    if place is None and (download if download is not None else data_root is None):
        download_all(facts, root, lambda: _place(facts, root) is not None)
        place = _place(facts, root)
    if place is None:
        raise _not_there(facts, root)
    return open_layout(facts, place, check_counts=check_counts, progress=progress)


def _open_folder(data_root: str | Path | None, kfold: int | None, fold: int, progress: bool) -> Dataset:
    if data_root is None:
        raise UserError("folder needs a folder", "--data-root", "give one with train/ and test/, each a folder a class")
    root = _root(data_root)
    if not root.is_dir():
        raise UserError("no such folder", str(root), "give --data-root a folder of images")
    layout = own_folder(root) if kfold is None else folded_folder(kfold, fold)
    if kfold is None:
        for split in ("train", "test"):
            if (missing := layout.missing(root, split)) is not None:
                raise UserError(
                    f"has no {missing}/",
                    str(root),
                    "give train/ and test/ (val/ if you like), each a folder a class, or --kfold K for one folder of "
                    "classes",
                )
    facts = DatasetFacts(
        name="folder",
        title=root.resolve().name,
        classes=None,
        splits={},
        metric=METRICS["folder"],
        source=str(root),
        put="",
        layout=layout,
        rule="" if kfold is None else f"fold {fold} of {kfold} is the test split",
    )
    opened = open_layout(facts, root, has_val=kfold is None and has_validation(root), progress=progress)
    if kfold is None:
        return opened
    return replace(opened, facts=replace(facts, fold=Fold(fold, kfold, read_folder(root).key)))


def _root(data_root: str | Path) -> Path:
    check_name(str(data_root), "--data-root")
    try:
        root = Path(data_root).expanduser()
        root.exists()
    except (OSError, RuntimeError) as error:
        # A name that is too long, a folder that may not be entered, the home of a user that there is not.
        raise UserError(f"cannot be a folder ({error})", "--data-root", "give a folder of images") from error
    return root


def _place(facts: DatasetFacts, root: Path) -> Path | None:
    """The set's folder: the root itself or one of those below that go by its name; None where it is not there."""
    return next((place for place in facts.layout.places(root) if facts.layout.missing(place, "train") is None), None)


def _not_there(facts: DatasetFacts, root: Path) -> UserError:
    nearest = facts.layout.nearest(root)
    missing = facts.layout.missing(nearest, "train") or ""
    fetch = f"; or let it be fetched ({facts.size}): --download" if facts.downloads else ""
    return UserError(
        f"{facts.title} is not there: no {missing}{facts.layout.hint(missing)}",
        str(nearest),
        f"put {facts.put} below {root}{fetch}",
    )
