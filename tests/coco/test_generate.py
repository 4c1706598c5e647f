"""The embedded data set: its bytes, its validity, its distribution, and that colour does not give the classes away."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from rexdet.coco import generate, shapes, textures
from rexdet.coco.generate import EmbeddedPaths, embedded_scene, generate_embedded
from rexdet.coco.outlines import mask_to_polygons
from rexdet.coco.scenes import CLASSES, LEAST_VISIBLE_PIXELS
from rexdet.errors import UserError

SIZE = 128


def open_quietly(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def digest(folder: Path) -> str:
    """One hash of the names and bytes of all files below a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPaths:
    folder = tmp_path_factory.mktemp("embedded") / "data"
    return generate_embedded(folder, train_images=500, val_images=120, size=SIZE, workers=1, progress=False)


@pytest.fixture(scope="module")
def train(data: EmbeddedPaths) -> COCO:
    return open_quietly(data.train_annotations)


def test_the_bytes_depend_on_the_seed_alone_and_not_on_the_number_of_processes(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"train_images": 60, "val_images": 10, "size": 64, "progress": False}
    alone = generate_embedded(tmp_path / "alone", seed=3, workers=1, **sizes)
    together = generate_embedded(tmp_path / "together", seed=3, workers=2, **sizes)
    other = generate_embedded(tmp_path / "other", seed=4, workers=1, **sizes)
    assert digest(alone.folder) == digest(together.folder)
    assert alone.val_annotations.read_bytes() != other.val_annotations.read_bytes()


def test_a_picture_does_not_depend_on_how_many_there_are(data: EmbeddedPaths, tmp_path: Path) -> None:
    few = generate_embedded(tmp_path / "few", train_images=3, val_images=1, size=SIZE, progress=False)
    for name in ("000001.jpg", "000003.jpg"):
        assert (few.train_images / name).read_bytes() == (data.train_images / name).read_bytes()


def test_no_picture_comes_twice(data: EmbeddedPaths) -> None:
    pictures = [p.read_bytes() for folder in (data.train_images, data.val_images) for p in folder.iterdir()]
    assert len(pictures) == 620
    assert len(set(pictures)) == 620


def test_images_are_jpegs_of_the_declared_size(data: EmbeddedPaths, train: COCO) -> None:
    names = {entry["file_name"] for entry in train.dataset["images"]}
    assert names == {path.name for path in data.train_images.iterdir()}
    for entry in train.dataset["images"][:20]:
        with Image.open(data.train_images / entry["file_name"]) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert picture.size == (entry["width"], entry["height"]) == (SIZE, SIZE)


def test_ids_are_unique_and_the_splits_share_none(data: EmbeddedPaths, train: COCO) -> None:
    val = open_quietly(data.val_annotations)
    for coco in (train, val):
        annotation_ids = [a["id"] for a in coco.dataset["annotations"]]
        assert len(set(annotation_ids)) == len(annotation_ids)
        assert min(annotation_ids) > 0
        assert {a["image_id"] for a in coco.dataset["annotations"]} <= set(coco.imgs)
        assert [c["name"] for c in coco.dataset["categories"]] == [kind.name for kind in CLASSES]
    assert not set(train.imgs) & set(val.imgs)


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_boxes_and_areas_are_true_to_the_painted_pixels(data: EmbeddedPaths, split: str) -> None:
    coco = open_quietly(data.train_annotations if split == "train" else data.val_annotations)
    for index, image_id in enumerate(list(coco.imgs)[:120]):
        scene = embedded_scene(0, split, index, SIZE)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(scene.objects)
        for thing, annotation in zip(scene.objects, annotations, strict=True):
            painted = np.zeros((SIZE, SIZE), dtype=bool)
            height, width = thing.mask.shape
            painted[thing.top : thing.top + height, thing.left : thing.left + width] = thing.mask
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), painted)
            assert annotation["area"] == painted.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco.annToRLE(annotation)).tolist()


def test_visible_pixels_of_two_objects_never_coincide_and_enough_is_seen(train: COCO) -> None:
    overlapping = 0
    for image_id in train.imgs:
        annotations = [a for a in train.imgToAnns[image_id] if not a["iscrowd"]]
        masks = [train.annToMask(a) for a in annotations]
        assert not masks or np.sum(masks, axis=0).max() == 1
        assert all(mask.sum() >= LEAST_VISIBLE_PIXELS for mask in masks)
        boxes = [a["bbox"] for a in annotations]
        pairs = coco_mask.iou(boxes, boxes, [0] * len(boxes)) if boxes else np.zeros((0, 0))
        overlapping += int((np.triu(pairs, 1) > 0.1).sum())
    assert overlapping > 50, "objects hide parts of each other"


def test_there_are_crowds_and_empty_images(train: COCO) -> None:
    crowds = [a for a in train.dataset["annotations"] if a["iscrowd"]]
    empty = [image_id for image_id in train.imgs if not train.imgToAnns[image_id]]
    assert 10 <= len(crowds) <= 100
    assert 5 <= len(empty) <= 50
    assert all(isinstance(a["segmentation"]["counts"], list) for a in crowds)


def test_sizes_span_small_medium_and_large(train: COCO) -> None:
    areas = np.array([a["area"] for a in train.dataset["annotations"] if not a["iscrowd"]])
    small, large = areas < 32**2, areas >= 96**2
    assert 0.4 < small.mean() < 0.9
    assert (~small & ~large).mean() > 0.1
    assert large.any()


def test_classes_are_equally_common(train: COCO) -> None:
    counts = np.bincount([a["category_id"] for a in train.dataset["annotations"] if not a["iscrowd"]])[1:]
    assert len(counts) == len(CLASSES)
    assert counts.min() > 0.7 * counts.mean()


def mean_colours(annotations: Path, images: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    coco = open_quietly(annotations)
    colours, classes = [], []
    for entry in coco.dataset["images"]:
        pixels = np.asarray(Image.open(images / entry["file_name"]))
        for annotation in coco.imgToAnns[entry["id"]]:
            if not annotation["iscrowd"]:
                x, y, width, height = annotation["bbox"]
                colours.append(pixels[y : y + height, x : x + width].reshape(-1, 3).mean(axis=0))
                classes.append(annotation["category_id"])
    return np.array(colours), np.array(classes)


def test_colour_does_not_tell_the_class(data: EmbeddedPaths) -> None:
    """A classifier by nearest mean colour of the ground-truth crops stays at or below twice chance."""
    colours, classes = mean_colours(data.train_annotations, data.train_images)
    means = np.stack([colours[classes == k].mean(axis=0) for k in range(1, len(CLASSES) + 1)])
    held_out, truth = mean_colours(data.val_annotations, data.val_images)
    guesses = np.argmin(((held_out[:, None] - means) ** 2).sum(axis=-1), axis=1) + 1
    assert len(truth) > 300
    assert (guesses == truth).mean() <= 2 / len(CLASSES)


def test_a_matching_folder_is_used_as_it_is(data: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("painted again")

    monkeypatch.setattr(generate, "_write_splits", fail)
    again = generate_embedded(data.folder, train_images=500, val_images=120, size=SIZE)
    assert again == data


def test_other_parameters_make_the_folder_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    generate_embedded(folder, train_images=5, val_images=1, size=64, progress=False)
    paths = generate_embedded(folder, train_images=2, val_images=1, size=64, progress=False)
    assert sorted(path.name for path in paths.train_images.iterdir()) == ["000001.jpg", "000002.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_newer_generator_makes_the_folder_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = generate_embedded(tmp_path / "data", train_images=1, val_images=1, size=64, progress=False)
    monkeypatch.setattr(generate, "GENERATOR_VERSION", generate.GENERATOR_VERSION + 1)
    generate_embedded(tmp_path / "data", train_images=1, val_images=1, size=64, progress=False)
    marker = json.loads((paths.folder / generate.MARKER_NAME).read_text())
    assert marker["version"] == generate.GENERATOR_VERSION


def test_a_failure_leaves_the_older_folder_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    generate_embedded(folder, train_images=2, val_images=1, size=64, progress=False)
    before = digest(folder)

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(generate, "_coco", fail)
    with pytest.raises(OSError, match="no space left"):
        generate_embedded(folder, train_images=3, val_images=1, size=64, progress=False)
    assert digest(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="not the embedded data set's"):
        generate_embedded(tmp_path, train_images=1, val_images=1)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"train_images": 0}, "0 training images"),
        ({"val_images": 1_000_000}, "1000000 validation images"),
        ({"size": 32}, "32 pixels"),
    ],
)
def test_parameters_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate_embedded(tmp_path / "data", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("trial", range(20))
def test_polygons_give_any_mask_without_holes_back(trial: int) -> None:
    """Unions of rectangles with ragged edges, diagonal contacts included; holes are filled beforehand."""
    random = np.random.default_rng(trial)
    mask = random.random((24, 31)) < 0.35
    outside = np.pad(~mask, 1, constant_values=True)
    reached = np.zeros_like(outside)
    reached[0] = True
    while True:  # Flood the outside; diagonal steps count, as a hole is what no such path reaches.
        grown = reached.copy()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                grown |= np.roll(reached, (down, right), (0, 1))
        grown &= outside
        if (grown == reached).all():
            break
        reached = grown
    solid = ~reached[1:-1, 1:-1]
    polygons = mask_to_polygons(solid, left=5, top=3)
    encoded = coco_mask.merge(coco_mask.frPyObjects([[float(v) for v in p] for p in polygons], 30, 40))
    expected = np.zeros((30, 40), dtype=bool)
    expected[3:27, 5:36] = solid
    np.testing.assert_array_equal(coco_mask.decode(encoded).astype(bool), expected)


@pytest.mark.parametrize("shape", [kind.shape for kind in CLASSES], ids=[kind.name for kind in CLASSES])
def test_shapes_are_signed_distances_within_the_unit_circle(shape: shapes.Shape) -> None:
    axis = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    distance = shape(x, y)
    assert distance.dtype == np.float32
    assert distance[150, 150] < -0.2
    assert np.hypot(x, y)[distance < 0].max() <= 1.005
    near = np.abs(distance) < 0.05
    slope = np.hypot(*np.gradient(distance, 0.01))
    assert np.median(slope[near]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("pattern", [kind.pattern for kind in CLASSES], ids=[kind.name for kind in CLASSES])
def test_patterns_show_both_colours(pattern: textures.Pattern) -> None:
    axis = np.linspace(-4, 4, 401, dtype=np.float32)
    share = pattern(*np.meshgrid(axis, axis))
    assert share.min() == 0.0
    assert share.max() == 1.0
    assert 0.3 < share.mean() < 0.7
