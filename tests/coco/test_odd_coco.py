"""The broken and odd sets of the reference data: each behaves as its case.txt says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.images import load_image
from rexdet.coco.segmentation import decode_runs, mask_area
from rexdet.errors import UserError

# What is found in each set: code -> (action, count). One that is refused is refused for evaluation too.
EXPECTED: dict[str, dict[str, tuple[str, int]]] = {
    "area-is-image-area": {"area-larger-than-box": ("mend", 7)},
    "backslash-file-names": {"file-by-base-name": ("mend", 2)},
    "box-from-first-polygon-values": {"box-polygons-disagree": ("refuse", 14), "box-past-border": ("mend", 7)},
    "category-id-missing": {"category-id-missing": ("refuse", 1), "category-unused": ("accept", 1)},
    "datumaro-instances": {"category-unused": ("accept", 1)},
    "duplicate-annotation-ids": {"annotation-id-twice": ("refuse", 1)},
    "exif-rotated": {"exif-turned": ("accept", 1), "segmentation-missing": ("accept", 1)},
    "image-modes": {},
    "no-iscrowd-no-segmentation": {
        "iscrowd-missing": ("accept", 3),
        "segmentation-missing": ("accept", 3),
        "image-empty": ("accept", 1),
    },
    "no-width-height": {
        "iscrowd-missing": ("accept", 6),
        "area-missing": ("accept", 6),
        "image-size-missing": ("accept", 2),
        "segmentation-missing": ("accept", 6),
    },
    "rle-not-crowd": {"box-past-border": ("mend", 1)},
    "roboflow-supercategory-zero": {"segmentation-missing": ("accept", 9), "category-unused": ("accept", 1)},
    "segmentation-flat-list": {"segmentation-flat": ("mend", 1)},
    "segmentation-point-pairs": {
        "segmentation-point-pairs": ("mend", 5),
        "box-polygons-differ": ("accept", 1),
    },
    "string-image-ids": {"annotation-image-id-is-text": ("accept", 9)},
    "subfolder-names-zero-based-categories": {"segmentation-missing": ("accept", 45)},
    "unknown-category-id": {"category-unknown": ("refuse", 1)},
    "width-height-swapped": {"image-size-differs": ("refuse", 1), "segmentation-missing": ("accept", 1)},
    "xyxy-boxes-four-number-polygons": {
        "box-corners": ("refuse", 3),
        "polygon-too-short": ("mend", 3),
        "box-past-border": ("mend", 2),
        "image-id-is-text": ("accept", 1),
        "annotation-image-id-is-text": ("accept", 3),
    },
}


@pytest.fixture(scope="module")
def odd(shared_dir: Path) -> Path:
    """The folder of odd sets."""
    return shared_dir / "data" / "odd-coco"


def _read(odd: Path, name: str, purpose: str = "train") -> CocoDataset:
    return read_annotations(odd / name / "annotations.json", odd / name / "images", purpose=purpose, cache=False)


def test_every_folder_has_its_expectation(odd: Path) -> None:
    folders = {entry.name for entry in odd.iterdir() if entry.is_dir()}
    assert folders == {*EXPECTED, "invalid-json"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
@pytest.mark.parametrize("purpose", ["train", "evaluate", "check"])
def test_findings_are_those_of_the_case(odd: Path, name: str, purpose: str) -> None:
    dataset = _read(odd, name, purpose)
    assert {item.code: (item.action, item.count) for item in dataset.findings} == EXPECTED[name]
    for finding in dataset.findings:
        assert str(odd / name / "annotations.json") in str(finding)
        assert "\n" not in str(finding)
    if any(action == "refuse" for action, _ in EXPECTED[name].values()):
        with pytest.raises(UserError):
            dataset.raise_if_refused()
    else:
        dataset.raise_if_refused()
    # Nothing crashes on any of the masks and boxes, refused or not.
    for index in range(len(dataset)):
        for annotation in dataset.annotations(index):
            assert np.isfinite(annotation.bbox).all()
            assert annotation.segmentation is None or mask_area(annotation.segmentation) >= 0 or purpose == "evaluate"


def test_invalid_json_is_told_by_line_and_column(odd: Path) -> None:
    with pytest.raises(UserError, match=r"annotations\.json: is not JSON: .* at line \d+ column \d+"):
        _read(odd, "invalid-json")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("box-from-first-polygon-values", "14 (1, 2, 3"),
        ("category-id-missing", "annotation 2"),
        ("duplicate-annotation-ids", "4040"),
        ("unknown-category-id", "(2 in 1; it lists 0, 1)"),
        ("width-height-swapped", "2019000000903.jpg (declared 533x800, file 800x533)"),
        ("xyxy-boxes-four-number-polygons", "55468, 55469, 55470"),
    ],
)
def test_refusals_name_the_entry(odd: Path, name: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        _read(odd, name).raise_if_refused()
    assert part in str(caught.value)


def test_the_area_of_the_picture_is_not_taken_for_the_objects(odd: Path) -> None:
    dataset = _read(odd, "area-is-image-area")
    for annotation in dataset.annotations(0):
        assert annotation.area == pytest.approx(annotation.bbox[2] * annotation.bbox[3], rel=1e-3)


def test_all_three_pictures_are_found_by_base_name(odd: Path) -> None:
    dataset = _read(odd, "backslash-file-names")
    assert [len(dataset.annotations(index)) for index in range(3)] == [5, 2, 3]
    assert all(entry.path.parent == odd / "backslash-file-names" / "images" for entry in dataset)


def test_datumaros_three_classes_and_its_crowd(odd: Path) -> None:
    dataset = _read(odd, "datumaro-instances")
    assert [(item.id, item.name) for item in dataset.categories] == [(1, "a"), (2, "b"), (4, "c")]
    _, crowd = dataset.annotations(0)
    assert crowd.iscrowd == 1
    mask = decode_runs(crowd.segmentation)  # type: ignore[arg-type]
    assert mask.shape == (10, 5)
    assert mask[:, :2].all()
    assert not mask[:, 2:].any()


def test_exif_brings_picture_and_box_together(odd: Path) -> None:
    entry = _read(odd, "exif-rotated").image(0)
    assert entry.path is not None
    assert load_image(entry.path, (entry.width, entry.height)).shape == (841, 1200, 3)


def test_six_kinds_of_files_are_rgb_of_one_brightness(odd: Path) -> None:
    dataset = _read(odd, "image-modes")
    means: dict[str, float] = {}
    for entry in dataset:
        pixels = load_image(entry.path, (entry.width, entry.height))
        assert pixels.shape == (entry.height, entry.width, 3)
        means[entry.file_name] = float(pixels.mean())
        assert pixels.std() > 10
    assert all(50 < mean < 220 for mean in means.values()), means


def test_run_length_masks_have_the_area_that_the_file_says(odd: Path) -> None:
    dataset = _read(odd, "rle-not-crowd", "evaluate")
    count = 0
    for index in range(len(dataset)):
        for annotation in dataset.annotations(index):
            assert annotation.iscrowd == 0
            assert mask_area(annotation.segmentation) == annotation.area
            count += 1
    assert count == 7


def test_masks_are_refused_where_there_are_none(odd: Path) -> None:
    with pytest.raises(UserError, match="9 of 9 annotations have no mask"):
        _read(odd, "roboflow-supercategory-zero").raise_if_masks_missing()


def test_polygons_of_other_spellings_fill_their_boxes(odd: Path) -> None:
    (annotation,) = _read(odd, "segmentation-flat-list").annotations(0)
    (polygon,) = annotation.segmentation  # type: ignore[misc]
    x, y, width, height = annotation.bbox
    assert (min(polygon[0::2]), min(polygon[1::2])) == (x, y)
    assert (max(polygon[0::2]), max(polygon[1::2])) == (x + width, y + height)
    dataset = _read(odd, "segmentation-point-pairs")
    assert all(item.segmentation is not None for index in range(2) for item in dataset.annotations(index))


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_coco_is_read_without_a_refusal(shared_dir: Path, split: str) -> None:
    folder = shared_dir / "data" / "coco-mini"
    dataset = read_annotations(
        folder / "annotations" / f"instances_{split}2017.json", folder / f"{split}2017", cache=False
    )
    dataset.raise_if_refused()
    assert {finding.action for finding in dataset.findings} == {"accept"}
    assert (len(dataset), dataset.annotation_count) == {"train": (208, 1678), "val": (79, 624)}[split]
    assert len(dataset.categories) == 80
    dataset.raise_if_masks_missing()


def test_real_coco_masks_decode_as_pycocotools_does(shared_dir: Path) -> None:
    from pycocotools.coco import COCO

    folder = shared_dir / "data" / "coco-mini"
    file = folder / "annotations" / "instances_val2017.json"
    dataset: Any = read_annotations(file, folder / "val2017", purpose="evaluate", cache=False)
    reference = COCO(str(file))
    for index in range(len(dataset)):
        entry = dataset.image(index)
        expected = reference.loadAnns(reference.getAnnIds(imgIds=[entry.id]))
        found = dataset.annotations(index)
        assert [item.id for item in found] == [item["id"] for item in expected]
        for item, other in zip(found, expected, strict=True):
            assert item.bbox == tuple(other["bbox"])
            assert item.area == other["area"]
            assert item.segmentation == other["segmentation"]
            if isinstance(item.segmentation, dict):
                assert (decode_runs(item.segmentation) == reference.annToMask(other)).all()
