"""Detections as columns, and the results file they are saved to and read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rexdet.coco.detections import Detections, encode_masks, read_detections
from rexdet.coco.ground_truth import GroundTruth
from rexdet.errors import UserError

TRUTH = GroundTruth.from_coco(
    {
        "images": [{"id": 1, "width": 64, "height": 48}, {"id": 7, "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "cup"}, {"id": 3, "name": "spoon"}],
        "annotations": [],
    }
)


def entry(**changes: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5} | changes


def written(folder: Path, content: Any) -> Path:
    path = folder / "detections.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def some(image_ids: list[int], seed: int = 0) -> Detections:
    random = np.random.default_rng(seed)
    count = len(image_ids)
    return Detections(
        np.array(image_ids, np.int64),
        random.uniform(0, 50, (count, 4)),
        random.uniform(0, 1, count),
        random.integers(1, 4, count),
    )


def test_tensors_arrays_and_lists_give_the_same_columns() -> None:
    corners, scores, classes = [[1.0, 2.0, 11.0, 22.5]], [0.25], [3]
    from_lists = Detections.from_image(7, corners, scores, classes)
    from_tensors = Detections.from_image(
        7, torch.tensor(corners, requires_grad=True), torch.tensor(scores), torch.tensor(classes)
    )
    assert from_lists.same_as(from_tensors)
    assert from_lists.boxes.tolist() == [[1.0, 2.0, 10.0, 20.5]]
    assert from_lists.image_ids.tolist() == [7]
    assert from_tensors.scores.dtype == np.float64


def test_low_precision_tensors_are_taken() -> None:
    corners = torch.tensor([[1.0, 2.0, 11.0, 22.5]], dtype=torch.bfloat16)
    detections = Detections.from_image(7, corners, torch.tensor([0.5], dtype=torch.float16), torch.tensor([3]))
    assert detections.boxes.tolist() == [[1.0, 2.0, 10.0, 20.5]]
    assert detections.scores.tolist() == [0.5]


def test_width_is_the_one_that_float32_gives() -> None:
    corners = torch.rand(200, 4) * 300
    boxes = Detections.from_image(1, corners, torch.rand(200), torch.ones(200, dtype=torch.long)).boxes
    expected = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    assert boxes.tolist() == expected.tolist()


@pytest.mark.parametrize("nothing", [[], torch.zeros(0, 4), np.zeros((0, 4), np.float32)])
def test_an_image_without_detections(nothing: Any) -> None:
    detections = Detections.from_image(7, nothing, [], [])
    assert len(detections) == 0
    assert len(Detections.concatenate([detections, some([1])])) == 1
    assert len(Detections.concatenate([])) == 0


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 scores"):
        Detections.from_image(1, [[0, 0, 1, 1]], [0.5, 0.6], [1])


def test_saving_keeps_every_digit(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    boxes = torch.from_numpy(random.uniform(0, 600, (300, 4)).astype(np.float32))
    scores = np.concatenate([random.uniform(0, 1, 297), [5e-324, 1e-7, 1.0]])
    detections = Detections.from_image(1, boxes, scores, random.integers(1, 90, 300))
    path = tmp_path / "detections.json"
    detections.save(path)
    assert read_detections(path).same_as(detections)
    assert json.loads(path.read_text())[5]["score"] == detections.scores[5]


def test_saving_keeps_masks(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((3, 20, 30)) > 0.6
    detections = Detections.from_image(1, np.ones((3, 4)), [0.1, 0.2, 0.3], [1, 1, 3], torch.from_numpy(masks))
    path = tmp_path / "detections.json"
    detections.save(path)
    again = read_detections(path)
    assert again.same_as(detections)
    from pycocotools import mask as mask_tools

    assert again.masks is not None
    assert np.array_equal(mask_tools.decode(again.masks).transpose(2, 0, 1), masks)


def test_no_detections_can_be_saved_and_read(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    Detections.empty().save(path)
    assert json.loads(path.read_text()) == []
    assert len(read_detections(path, TRUTH)) == 0


def test_a_file_is_not_touched_when_saving_fails(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    some([1]).save(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"detection 0 \(image 1\) has the score nan"):
        Detections(np.array([1]), np.ones((1, 4)), np.array([np.nan]), np.array([1])).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["detections.json"]


def test_masks_may_stand_in_for_boxes(tmp_path: Path) -> None:
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 4:9, 10:25] = True
    code = encode_masks(mask)[0]
    content = [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": code}]
    assert read_detections(written(tmp_path, content)).boxes.tolist() == [[10, 4, 15, 5]]


def test_uncompressed_masks_are_read(tmp_path: Path) -> None:
    code = {"size": [2, 3], "counts": [2, 3, 1]}
    detections = read_detections(written(tmp_path, [entry(segmentation=code)]))
    from pycocotools import mask as mask_tools

    assert detections.masks is not None
    assert mask_tools.decode(detections.masks[0]).tolist() == [[0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([entry(image_id=999)], r"image ids that the annotation file does not list: 999 \(it lists 1, 7\)"),
        ([entry(), entry(category_id=2)], r"1 of 2 detections name category ids .*: 2 \(it lists 1, 3\)"),
        (
            [entry(image_id="1"), entry()],
            r'image_id must be a whole number of 64 bits, but 1 of 2 entries have "1", the first is entry 0; .*quotes',
        ),
        ([entry(category_id=True)], "category_id must be a whole number of 64 bits, but 1 of 1 entries have true"),
        ([entry(image_id=1.5)], "image_id must be a whole number"),
        ([entry(score="0.5")], 'score of entry 0 is "0.5", not a number'),
        ([entry(score=None)], "score of entry 0 is null"),
        ([entry(), {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}], "entry 1 has no 'score'"),
        ([entry(), entry(bbox=[1, 2, 3])], r"bbox of entry 1 is \[1, 2, 3\], not four numbers"),
        ([entry(bbox=[1, 2, 3, "4"])], "bbox of entry 0"),
        ([entry(), entry(bbox=None)], "bbox of entry 1 is null"),
        ("[1, 2]", "entry 0 is not an object but 1"),
        (json.dumps([entry(score=float("nan"))]), "detection 0 .* has the score nan"),
        (json.dumps([entry(bbox=[1, 2, float("inf"), 3])]), "has the box"),
        ('[{"image_id": 1,', "not JSON: line 1, column"),
        ("", "not JSON"),
        ({"images": [], "annotations": [], "categories": []}, "is an annotation file, not detections"),
        ({"detections": []}, "where a list of detections is meant"),
        ([entry(segmentation={"size": [2, 3], "counts": ""})], "segmentation of entry 0"),
        ([entry(segmentation={"size": [2, 3], "counts": [1, -1]})], "segmentation of entry 0"),
        ([entry(segmentation={"size": [2], "counts": "06"})], "segmentation of entry 0"),
        ([entry(segmentation=[[1, 2, 3, 4, 5, 6]])], "segmentation of entry 0 .* not a run-length code"),
        ([entry(segmentation={"size": [2, 3], "counts": "06"}), entry()], "entry 1 has no 'segmentation'"),
    ],
)
def test_mistakes_in_a_file_are_one_line(tmp_path: Path, content: Any, told: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=told) as caught:
        read_detections(path, TRUTH)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_written_as_whole_floats_are_numbers(tmp_path: Path) -> None:
    assert read_detections(written(tmp_path, [entry(image_id=7.0)]), TRUTH).image_ids.tolist() == [7]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_detections(tmp_path / "none.json")


def test_shards_merge_in_any_order() -> None:
    whole = some([1, 1, 2, 3, 3, 5])
    rows = whole.take
    shards = [rows(np.array([3, 4])), rows(np.array([5, 0, 1])), rows(np.array([2]))]
    assert Detections.merge(shards).same_as(whole)
    assert Detections.merge(shards[::-1]).same_as(whole)


def test_what_a_padding_sampler_repeats_counts_once() -> None:
    whole = some([1, 1, 2, 3, 3, 5])
    shards = [whole.take(np.array([0, 1, 3, 4])), whole.take(np.array([2, 5])), whole.take(np.array([0, 1]))]
    assert Detections.merge(shards).same_as(whole)


def test_different_rows_of_one_image_are_refused() -> None:
    with pytest.raises(ValueError, match="image 1"):
        Detections.merge([some([1, 1]), some([1, 1], seed=1)])


def test_masks_and_no_masks_do_not_mix() -> None:
    masked = Detections.from_image(1, [[0, 0, 2, 2]], [0.5], [1], np.ones((1, 4, 4), bool))
    with pytest.raises(ValueError, match="some of these detections have masks"):
        Detections.concatenate([masked, some([2])])
