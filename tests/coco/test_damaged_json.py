"""Damaged annotation files and results files: one line that names the file and the entry, and never a traceback.

Each case is one value of a sound file, replaced by JSON text that a writer gone wrong or a cut copy leaves.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from rexdet.coco.annotations import read_annotations
from rexdet.coco.detections import Detections, read_detections
from rexdet.coco.evaluate import evaluate
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.run_length import first_unfilled
from rexdet.coco.segmentation import runs_of
from rexdet.errors import UserError

FILLED = {"size": [80, 100], "counts": [0, 4000, 4000]}
OUTLINE = [1, 2, 31, 2, 31, 42, 1, 42]
ANNOTATIONS: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80} for number in (1, 2)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200, "segmentation": [OUTLINE]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 30, 40], "iscrowd": 1, "segmentation": FILLED},
    ],
}
DETECTIONS: list[dict[str, Any]] = [
    {"image_id": number, "category_id": number, "bbox": [1, 2, 30, 40], "score": 0.9, "segmentation": FILLED}
    for number in (1, 2)
]
MANY = "9" * 5000


def damaged(content: Any, place: tuple[int | str, ...], text: str) -> str:
    """The JSON of a content with `text` at one place."""
    changed = json.loads(json.dumps(content))
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = "here"
    return json.dumps(changed).replace('"here"', text)


def refused_annotations(folder: Path, text: str) -> str:
    path = folder / "val.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        evaluate(path, read_detections(sound(folder)), "segm")
    return one_line(caught.value, path)


def refused_detections(folder: Path, text: str) -> str:
    path = folder / "detections.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_detections(path)
    return one_line(caught.value, path)


def one_line(error: UserError, path: Path) -> str:
    said = str(error)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < len(str(path)) + 600
    return said


@pytest.mark.parametrize("text", ["[" * 200_000, '[{"a":' * 100_000, "[" * 5000 + "]" * 5000])
def test_what_is_nested_too_deeply_is_one_line(tmp_path: Path, text: str) -> None:
    assert "is nested too deeply to be a list of detections" in refused_detections(tmp_path, text)
    assert "is nested too deeply to be an annotation file" in refused_annotations(tmp_path, text)


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        ((1, "image_id"), MANY, "image_id must be a whole number of 64 bits, but 1 of 2 entries have Infinity, the "),
        ((1, "image_id"), MANY, "the first is entry 1"),
        ((1, "image_id"), f"-{MANY}", "-Infinity"),
        ((0, "image_id"), str(2**63), "have 9223372036854775808, the first is entry 0"),
        ((0, "image_id"), "1e30", "have 1e+30, the first is entry 0"),
        ((0, "category_id"), "1e400", "category_id must be a whole number"),
        ((0, "category_id"), "true", "have true"),
        ((1, "score"), "9" * 400, "detection 1 (image 2) has the score inf"),
        ((1, "score"), "-Infinity", "detection 1 (image 2) has the score -inf"),
        ((1, "score"), "false", "score of entry 1 is false"),
        ((0, "bbox", 3), "9" * 400, "detection 0 (image 1) has the box"),
        # The area of such a box, and whatever is made of it, would be infinite.
        ((0, "bbox", 2), "1e200", "detection 0 (image 1) has the box"),
        # Deeper than Python's own recursion goes, and not too deep for the parser.
        ((0, "bbox", 2), "[" * 1005 + "]" * 1005, "bbox of entry 0 is"),
        ((1, "segmentation", "size", 0), str(2**40), "segmentation of entry 1 is"),
        ((1, "segmentation", "size", 0), MANY, "segmentation of entry 1 is"),
        ((1, "segmentation", "counts", 1), MANY, "segmentation of entry 1 is"),
        ((1, "segmentation", "counts", 1), "3999", "segmentation of entry 1 is"),
        ((1, "segmentation", "counts"), '"\\u00e9"', "segmentation of entry 1 is"),
        ((1, "segmentation", "counts"), '"\\ud800"', "segmentation of entry 1 is"),
        ((1, "segmentation", "counts"), f'"{MANY}"', "segmentation of entry 1 is a run-length code that does not fill"),
        ((1, "segmentation", "counts"), '"oo"', "segmentation of entry 1 is a run-length code that does not fill"),
    ],
)
def test_a_damaged_detection_is_named(tmp_path: Path, place: tuple[int | str, ...], text: str, told: str) -> None:
    assert told in refused_detections(tmp_path, damaged(DETECTIONS, place, text))


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        (("images", 1, "id"), MANY, "images whose id is no whole number: 1 (inf)"),
        (("images", 0, "width"), MANY, "images with a width or height that is no size, by id: 1 (1)"),
        (("images", 0, "height"), str(2**63), "no size, by id: 1 (1)"),
        (("categories", 0, "id"), MANY, "categories whose id is no whole number"),
        (("categories", 1, "name"), '"do\\ud800g"', "categories without a name that is text, by id: 1 (2)"),
        (("annotations", 0, "id"), MANY, "annotations whose id is no whole number: 1 (inf)"),
        (("annotations", 1, "image_id"), MANY, "annotation 2 of image inf"),
        (("annotations", 1, "category_id"), MANY, "without a category_id that is a whole number"),
        (("annotations", 1, "iscrowd"), MANY, "an iscrowd that is not 0 or 1: 1 (2)"),
        (("annotations", 0, "bbox", 0), MANY, "NaN, infinity or a number beyond 1e30 in it: 1 (annotation 1"),
        (("annotations", 0, "bbox", 2), "1e200", "NaN, infinity or a number beyond 1e30 in it: 1 (annotation 1"),
        (("annotations", 0, "segmentation", 0, 0), MANY, "neither polygons nor a run-length code: 1 (1)"),
        (("annotations", 0, "segmentation", 0, 0), "[" * 900 + "]" * 900, "neither polygons nor"),
        (("annotations", 1, "segmentation", "size", 0), str(2**40), "neither polygons nor a run-length code: 1 (2)"),
        (("annotations", 1, "segmentation", "counts", 1), MANY, "neither polygons nor a run-length code: 1 (2)"),
        (("annotations", 1, "segmentation", "counts", 1), "3999", "run-length code of annotation 2 does not fill"),
        (("annotations", 1, "segmentation", "counts"), '"\\ud800"', "neither polygons nor a run-length code: 1 (2)"),
        (("annotations", 1, "segmentation", "counts"), f'"{MANY}"', "run-length code of annotation 2 does not fill"),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path: Path, place: tuple[int | str, ...], text: str, told: str) -> None:
    assert told in refused_annotations(tmp_path, damaged(ANNOTATIONS, place, text))


def test_an_outline_far_away_is_not_drawn(tmp_path: Path) -> None:
    # Pixel by pixel, it would take all the memory of the machine. Cut to the picture it fits its box.
    content = copy.deepcopy(ANNOTATIONS)
    content["annotations"][0].update(bbox=[1, 2, 99, 40], segmentation=[[1, 2, 1e9, 2, 1e9, 42, 1, 42]])
    told = refused_annotations(tmp_path, json.dumps(content))
    assert "the polygons of annotation 1 reach beyond 1,000,000 px" in told


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (("annotations", 0, "area"), MANY),
        (("annotations", 0, "area"), "1e300"),
        (("annotations", 0, "extra"), MANY),
        (("annotations", 1, "segmentation", "extra"), MANY),
        (("annotations", 1, "segmentation", "extra"), '"\\ud800"'),
        (("images", 0, "file_name"), '"\\udcff.jpg"'),
    ],
)
def test_what_shapes_no_number_does_no_harm(tmp_path: Path, place: tuple[int | str, ...], text: str) -> None:
    path = tmp_path / "val.json"
    path.write_text(damaged(ANNOTATIONS, place, text))
    numbers = evaluate(path, read_detections(sound(tmp_path)), "segm").numbers
    path.write_text(json.dumps(ANNOTATIONS))
    assert numbers["AP"] == evaluate(path, read_detections(sound(tmp_path)), "segm").numbers["AP"]


def sound(folder: Path) -> Path:
    path = folder / "detections.json"
    path.write_text(json.dumps(DETECTIONS))
    return path


def test_ids_up_to_the_last_leave_free_ones_to_those_without(tmp_path: Path) -> None:
    content = copy.deepcopy(ANNOTATIONS)
    content["annotations"][0]["id"] = 2**63 - 1
    del content["annotations"][1]["id"]
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    assert read_annotations(path, purpose="evaluate").annotation_ids.tolist() == [2**63 - 1, 1]


def test_masks_without_a_single_annotation_are_scored() -> None:
    truth = GroundTruth.from_coco({**ANNOTATIONS, "annotations": []})
    mask = mask_tools.encode(np.asfortranarray(np.ones((80, 100), np.uint8)))
    found = Detections(np.array([1]), np.array([[0.0, 0, 9, 9]]), np.array([0.9]), np.array([1]), [mask])
    assert evaluate(truth, found, "segm").numbers["AP"] is None


def test_codes_of_pycocotools_fill_their_size() -> None:
    random = np.random.default_rng(0)
    masks = []
    for density in (0.5, 0.01, 0.99, 0.0):
        for _ in range(300):
            height, width = random.integers(1, 90, 2)
            masks.append(mask_tools.encode(np.asfortranarray(random.random((height, width)) < density).view(np.uint8)))
    assert first_unfilled(masks) is None
    for row in (0, 777, len(masks) - 1):
        size = masks[row]["size"]
        changed = [*masks[:row], {**masks[row], "size": [size[0] + 1, size[1]]}, *masks[row + 1 :]]
        assert first_unfilled(changed) == row


def test_codes_are_broken_where_the_loop_over_their_characters_says_so() -> None:
    random = np.random.default_rng(1)
    told = set()
    for _ in range(3000):
        text = bytes(random.integers(46, 113, random.integers(1, 7)).tolist())
        try:
            pixels = int(runs_of(text).sum())
        except ValueError:
            pixels = -1
        # A code that covers so many pixels has this size, if it is sound; a broken one has none.
        fills = pixels > 0 and first_unfilled([{"size": [1, pixels], "counts": text}]) is None
        assert fills == (pixels > 0), text
        assert first_unfilled([{"size": [1, abs(pixels) + 1], "counts": text}]) == 0
        told.add(fills)
    assert told == {True, False}
