"""What training does with pictures and class lists as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2", reason="detectron2 is not installed")

from detectron2.data import transforms as T
from PIL import Image

from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.images import UnreadableImage
from rexdet.detectron2.data import EvaluationSet, TrainingSet, resolve_files
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.session.classes import match_classes
from rexdet.session.data import CocoFiles, skip_limit, trainable_images

MakeSet = Callable[..., Path]


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """make_set(name, categories, boxes a picture): writes pictures of 64x48 and their annotation file."""

    def make(name: str, categories: list[tuple[int, str]], pictures: list[list[tuple[int, list[float]]]]) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        generator = np.random.default_rng(0)
        images, annotations = [], []
        for number, boxes in enumerate(pictures, start=1):
            file = f"{number}.png"
            Image.fromarray(generator.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / "images" / file)
            images.append({"id": number, "file_name": file, "width": 64, "height": 48})
            for category, box in boxes:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": text} for number, text in categories],
        }
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return make


def open_set(folder: Path, purpose: str = "train") -> CocoDataset:
    return read_annotations(folder / "annotations.json", folder / "images", purpose=purpose, cache=False)


def training_set(dataset: CocoDataset, *, seed: int = 0, augmentations: tuple[object, ...] = ()) -> TrainingSet:
    images = trainable_images(dataset, keep_empty=True, limit=0)
    return TrainingSet(dataset, images, augmentations, image_format="BGR", use_masks=False, seed=seed)


BOX = [10.0, 8.0, 20.0, 16.0]


def test_an_unreadable_picture_is_passed_over_and_named(make_set: MakeSet) -> None:
    folder = make_set("a", [(1, "car")], [[(1, BOX)] for _ in range(4)])
    dataset = open_set(folder)
    broken = folder / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    sample = training_set(dataset)[(0, 1)]
    assert sample.inputs["image_id"] == 3
    assert len(sample.skipped) == 1
    assert "2.png" in sample.skipped[0]


def test_evaluation_keeps_an_unreadable_picture_in_its_place(make_set: MakeSet) -> None:
    folder = make_set("a", [(1, "car")], [[(1, BOX)] for _ in range(2)])
    dataset = open_set(folder, "evaluate")
    (folder / "images" / "1.png").write_bytes(b"")
    item = EvaluationSet(dataset, [], image_format="BGR")[0]
    assert item["image_id"] == 1
    assert "1.png" in item["unreadable"]


def test_when_no_picture_can_be_read_training_stops_in_one_line(make_set: MakeSet) -> None:
    folder = make_set("a", [(1, "car")], [[(1, BOX)] for _ in range(3)])
    dataset = open_set(folder)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="cannot be read") as caught:
        training_set(dataset)[(0, 0)]
    assert not isinstance(caught.value, UnreadableImage)


def test_the_limit_of_unreadable_pictures_grows_with_the_set() -> None:
    assert skip_limit(100) == 10
    assert skip_limit(118_287) == 1182


def test_a_sample_depends_on_seed_epoch_and_picture_alone(make_set: MakeSet) -> None:
    folder = make_set("a", [(1, "car")], [[(1, BOX)] for _ in range(8)])
    dataset = open_set(folder)
    augmentations = (T.RandomCrop("relative_range", (0.5, 0.5)),)
    one = training_set(dataset, augmentations=augmentations)
    crops = {pair: one[pair].inputs["image"] for pair in [(epoch, place) for epoch in (0, 1) for place in range(8)]}
    np.random.seed(99)  # noqa: NPY002 - what detectron2's augmentations draw from
    again = training_set(dataset, augmentations=augmentations)
    for pair in reversed(list(crops)):
        assert np.array_equal(again[pair].inputs["image"], crops[pair])
    other = training_set(dataset, seed=1, augmentations=augmentations)
    assert any(not np.array_equal(other[pair].inputs["image"], crops[pair]) for pair in crops)
    sizes = {tuple(crop.shape) for crop in crops.values()}
    assert len(sizes) > 8


def test_empty_pictures_are_negatives_where_the_config_keeps_them(make_set: MakeSet) -> None:
    dataset = open_set(make_set("a", [(1, "car")], [[(1, BOX)], []]))
    assert trainable_images(dataset, keep_empty=True, limit=0).tolist() == [0, 1]
    assert trainable_images(dataset, keep_empty=False, limit=0).tolist() == [0]
    assert trainable_images(dataset, keep_empty=True, limit=1).tolist() == [0]
    assert len(training_set(dataset)[(0, 1)].inputs["instances"]) == 0


def test_heads_are_numbered_in_category_order_and_boxes_are_corners(make_set: MakeSet) -> None:
    dataset = open_set(make_set("a", [(1, "cat"), (5, "dog"), (90, "cow")], [[(90, BOX), (5, BOX)]]))
    instances = training_set(dataset)[(0, 0)].inputs["instances"]
    assert instances.gt_classes.tolist() == [2, 1]
    assert instances.gt_boxes.tensor[0].tolist() == [10.0, 8.0, 30.0, 24.0]


def test_a_validation_file_without_a_class_is_matched_by_name(make_set: MakeSet) -> None:
    val = open_set(make_set("v", [(90, "cow"), (1, "cat")], [[(90, BOX)]]), "evaluate")
    classes = match_classes(["cat", "dog", "cow"], [1, 5, 90], val, by_name=False)
    assert classes.category_ids == (1, None, 90)


def test_another_class_list_needs_the_word_by_name(make_set: MakeSet) -> None:
    val = open_set(make_set("v", [(1, "car")], [[(1, BOX)]]), "evaluate")
    names, ids = ["person", "car"], [1, 3]
    with pytest.raises(UserError, match="--map-classes by-name"):
        match_classes(names, ids, val, by_name=False)
    classes = match_classes(names, ids, val, by_name=True)
    assert classes.category_ids == (None, 1)
    assert classes.lines() == ["1 car -> category 1"]


def test_classes_that_the_model_never_learned_are_refused(make_set: MakeSet) -> None:
    val = open_set(make_set("v", [(1, "boat")], [[(1, BOX)]]), "evaluate")
    with pytest.raises(UserError, match="boat"):
        match_classes(["person", "car"], [1, 3], val, by_name=True)


def test_missing_data_names_the_files_and_the_ways_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"instances_train2017\.json") as caught:
        resolve_files(DetectionJob("a.yaml", data_root=str(tmp_path)), "", "")
    assert "--dataset embedded" in str(caught.value)


def test_flags_win_over_the_config(tmp_path: Path) -> None:
    job = DetectionJob("a", train_annotations="t.json", train_images="t", val_annotations="v.json", val_images="v")
    train, val = resolve_files(job, "coco_2017_train", "coco_2017_val")
    assert train == CocoFiles(Path("t.json"), Path("t"))
    assert val == CocoFiles(Path("v.json"), Path("v"))
