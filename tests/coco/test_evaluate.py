"""What an evaluation says beyond pycocotools' numbers: empty ranges, classes, counts, partial results, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rexdet.coco.annotations import Category, read_annotations
from rexdet.coco.categories import match_categories
from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import KEYS, evaluate
from rexdet.coco.ground_truth import GroundTruth, read_ground_truth
from rexdet.errors import UserError


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    area = box[2] * box[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": 0} | more


def coco(annotations: list[dict[str, Any]], *, images: int = 2, categories: dict[int, str] | None = None) -> Any:
    names = {1: "cup", 3: "spoon"} if categories is None else categories
    return {
        "images": [{"id": n, "width": 200, "height": 200, "file_name": f"{n}.jpg"} for n in range(1, images + 1)],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "annotations": annotations,
    }


def detected(*rows: tuple[int, int, list[float], float]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.int64),
    )


SMALL = [10.0, 10.0, 20.0, 20.0]
LARGE = [50.0, 50.0, 120.0, 120.0]


def test_the_12_keys_in_their_order() -> None:
    assert KEYS == ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    evaluation = evaluate(coco([annotation(1, 1, 1, SMALL)]), detected((1, 1, SMALL, 0.9)))
    assert tuple(evaluation.numbers) == KEYS


def test_an_area_range_without_objects_is_none_and_a_dash() -> None:
    evaluation = evaluate(coco([annotation(1, 1, 1, SMALL)]), detected((1, 1, SMALL, 0.9)))
    assert evaluation.numbers["AP"] == pytest.approx(1.0)
    assert evaluation.numbers["APs"] == pytest.approx(1.0)
    for key in ("APm", "APl", "ARm", "ARl"):
        assert evaluation.numbers[key] is None
    assert "–" in evaluation.table()
    assert "-1" not in evaluation.table(per_class=True)
    assert json.loads(json.dumps(evaluation.as_json(), allow_nan=False))["APm"] is None


def test_nothing_detected_is_zero_and_not_none() -> None:
    evaluation = evaluate(coco([annotation(1, 1, 1, SMALL)]), Detections.empty())
    assert evaluation.numbers["AP"] == 0.0
    assert evaluation.numbers["AR100"] == 0.0
    assert evaluation.numbers["APl"] is None


@pytest.mark.parametrize(("images", "categories"), [(0, {}), (2, {}), (0, None)])
def test_files_that_list_nothing(images: int, categories: dict[int, str] | None) -> None:
    evaluation = evaluate(coco([], images=images, categories=categories), Detections.empty())
    assert set(evaluation.numbers.values()) == {None}
    assert evaluation.counts["images"] == images
    assert set(evaluation.false_positives_per_image.values()) == {0.0}


def test_pictures_without_any_object_show_their_false_alarms() -> None:
    rows = detected((1, 1, SMALL, 0.95), (1, 3, LARGE, 0.6), (2, 1, SMALL, 0.2))
    evaluation = evaluate(coco([], images=4), rows)
    assert set(evaluation.numbers.values()) == {None}
    rates = evaluation.false_positives_per_image
    assert (rates[0.9], rates[0.5], rates[0.1]) == (0.25, 0.5, 0.75)
    assert "no ground truth" in evaluation.table()
    assert "0.5: 0.5" in evaluation.table()
    assert evaluation.as_json()["false_positives_per_image"]["0.9"] == 0.25


def test_the_number_of_objects_does_not_depend_on_the_detections() -> None:
    truth = coco([annotation(1, 1, 1, LARGE, iscrowd=1), annotation(2, 1, 1, SMALL)])
    inside = [(1, 1, [60.0 + 20 * n, 60.0, 15.0, 15.0], 0.9 - n / 10) for n in range(3)]
    without, with_three = evaluate(truth, Detections.empty()), evaluate(truth, detected(*inside))
    for evaluation in (without, with_three):
        assert evaluation.counts["objects"] == 1
        assert evaluation.counts["crowds"] == 1
        assert (evaluation.per_class[0].objects, evaluation.per_class[0].crowds) == (1, 1)
    # Three detections in the crowd are neither right nor wrong: the one object found last still gives AP 1.
    found = evaluate(truth, detected(*inside, (1, 1, SMALL, 0.1)))
    assert found.numbers["AP"] == pytest.approx(1.0)
    assert found.false_positives_per_image[0.05] == 0.0


def test_classes_without_ground_truth_are_listed_and_count_in_no_mean() -> None:
    truth = coco([annotation(1, 1, 3, SMALL)], categories={0: "things", 3: "spoon", 1: "cup"})
    evaluation = evaluate(truth, detected((1, 3, SMALL, 0.9), (1, 1, SMALL, 0.99)))
    assert evaluation.numbers["AP"] == pytest.approx(1.0)
    assert [(entry.id, entry.has_ground_truth) for entry in evaluation.per_class] == [
        (0, False),
        (1, False),
        (3, True),
    ]
    assert evaluation.per_class[1].numbers["AP"] is None
    assert evaluation.per_class[2].numbers["AP"] == pytest.approx(1.0)
    assert evaluation.as_json()["no_ground_truth"] == ["things", "cup"]
    assert "no ground truth, kept out of the means: things, cup" in evaluation.table()


def test_classes_are_matched_by_name_and_a_missing_one_is_shown_without_ground_truth() -> None:
    detector = [Category(1, "cup"), Category(5, "spoon"), Category(90, "fork")]
    truth = coco([annotation(1, 1, 7, SMALL), annotation(2, 2, 5, LARGE)], categories={7: "fork", 5: "cup"})
    rows = detected((1, 90, SMALL, 0.9), (2, 1, LARGE, 0.8), (2, 5, LARGE, 0.99))
    match = match_categories(detector, GroundTruth.from_coco(truth).categories)
    assert (match.only_detected, match.only_annotated) == (("spoon",), ())
    translated, left_out = match.apply(rows)
    assert left_out == 1
    assert translated.category_ids.tolist() == [7, 5]
    evaluation = evaluate(truth, translated, other_class_names=match.only_detected)
    assert evaluation.numbers["AP"] == pytest.approx(1.0)
    spoon = evaluation.per_class[-1]
    assert (spoon.name, spoon.id, spoon.numbers["AP50"], spoon.has_ground_truth) == ("spoon", None, None, False)
    assert "kept out of the means: spoon" in evaluation.table()


def test_matching_by_name_needs_names_that_are_told_apart() -> None:
    with pytest.raises(ValueError, match="used twice"):
        match_categories([Category(1, "cup"), Category(2, "cup")], [])
    match = match_categories([Category(1, "cup")], [Category(1, "spoon")])
    assert match.only_annotated == ("spoon",)
    assert len(match.apply(detected((1, 1, SMALL, 0.9)))[0]) == 0


def test_ids_that_the_annotation_file_does_not_list_are_refused() -> None:
    truth = coco([annotation(1, 1, 1, SMALL)])
    with pytest.raises(UserError, match="category ids that the annotation file does not list: 2, 80"):
        evaluate(truth, detected((1, 80, SMALL, 0.9), (1, 2, SMALL, 0.9)))
    with pytest.raises(UserError, match="image ids that the annotation file does not list: 999"):
        evaluate(truth, detected((999, 1, SMALL, 0.9)))


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="has the score nan"):
        evaluate(coco([]), detected((1, 1, SMALL, float("nan"))))


def test_an_annotation_id_of_zero_is_not_lost() -> None:
    from_zero = coco([annotation(0, 1, 1, SMALL), annotation(1, 2, 1, LARGE)])
    from_one = coco([annotation(1, 1, 1, SMALL), annotation(2, 2, 1, LARGE)])
    rows = detected((1, 1, SMALL, 0.9), (2, 1, LARGE, 0.8))
    assert evaluate(from_zero, rows).numbers == evaluate(from_one, rows).numbers
    assert evaluate(from_zero, rows).numbers["AP"] == pytest.approx(1.0)


def test_missing_crowd_flags_and_areas_are_filled_in() -> None:
    bare = {"id": 1, "image_id": 1, "category_id": 1, "bbox": SMALL}
    evaluation = evaluate(coco([bare]), detected((1, 1, SMALL, 0.9)))
    assert evaluation.numbers["APs"] == pytest.approx(1.0)
    assert evaluation.numbers["APl"] is None


def test_the_annotated_area_decides_the_range() -> None:
    evaluation = evaluate(coco([annotation(1, 1, 1, LARGE, area=100.0)]), detected((1, 1, LARGE, 0.9)))
    assert evaluation.numbers["APs"] == pytest.approx(1.0)
    assert evaluation.numbers["APl"] is None


def test_images_that_could_not_be_predicted_stay_in_the_denominator() -> None:
    truth = coco([annotation(1, 1, 1, SMALL), annotation(2, 2, 1, SMALL)])
    rows = detected((1, 1, SMALL, 0.9))
    assert not evaluate(truth, rows).partial
    evaluation = evaluate(truth, rows, unevaluated_image_ids=[2, 2])
    assert evaluation.partial
    assert evaluation.unevaluated_image_ids == (2,)
    assert evaluation.numbers["AR100"] == 0.5
    assert "PARTIAL: 1 of 2 images" in evaluation.table()
    assert evaluation.as_json()["partial"] is True
    with pytest.raises(UserError, match="lists no image 5"):
        evaluate(truth, rows, unevaluated_image_ids=[5])


def test_a_saved_file_scores_what_the_detections_in_memory_score(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    truth = coco(
        [annotation(n + 1, 1 + n % 4, (1, 3)[n % 2], random.uniform(5, 90, 4).tolist()) for n in range(30)], images=4
    )
    parts = []
    for image in range(1, 5):
        near = [entry for entry in truth["annotations"] if entry["image_id"] == image]
        boxes = np.array([entry["bbox"] for entry in near]) + random.normal(0, 4, (len(near), 4))
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        scores = random.random(len(near)).astype(np.float32)
        parts.append(Detections.from_image(image, corners, scores, [entry["category_id"] for entry in near]))
    detections = Detections.concatenate(parts)
    detections.save(tmp_path / "detections.json")
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    in_memory = evaluate(truth, detections)
    assert 0 < (in_memory.numbers["AP"] or 0) < 1
    from_files = evaluate(tmp_path / "truth.json", tmp_path / "detections.json")
    assert from_files.numbers == in_memory.numbers
    # Shards of several processes, in any order, with an image that a padding sampler repeated.
    assert evaluate(truth, Detections.merge([parts[3], parts[1], parts[0], parts[2], parts[1]])).numbers == (
        in_memory.numbers
    )
    assert evaluate(truth, Detections.concatenate(parts[::-1])).numbers == in_memory.numbers


def test_masks_are_asked_for_only_where_they_are_needed() -> None:
    truth = coco([annotation(4, 1, 1, SMALL, segmentation=[])])
    rows = Detections.from_image(1, [[10, 10, 30, 30]], [0.9], [1], np.ones((1, 200, 200), bool))
    assert evaluate(truth, rows).numbers["AP50"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="annotations have no mask, the first is annotation 4"):
        evaluate(truth, rows, "segm")
    with pytest.raises(UserError, match="these detections have no masks"):
        evaluate(truth, detected((1, 1, SMALL, 0.9)), "segm")
    with pytest.raises(UserError, match="neither bbox nor segm"):
        evaluate(truth, rows, "keypoints")


@pytest.mark.parametrize(
    ("segmentation", "size", "told"),
    [
        ([[1.0, 2.0, 3.0]], 200, "the segmentation of annotation 4 is no mask"),
        ([[]], 200, "the segmentation of annotation 4 is no mask"),
        ([[10.0, 10.0, 30.0, 10.0, 30.0, 30.0]], None, "image 1 has no width and height"),
    ],
)
def test_masks_that_cannot_be_made_are_one_line(segmentation: Any, size: int | None, told: str) -> None:
    truth = coco([annotation(4, 1, 1, SMALL, segmentation=segmentation)])
    truth["images"][0].update(width=size, height=size)
    rows = Detections.from_image(1, [[10, 10, 30, 30]], [0.9], [1], np.ones((1, 200, 200), bool))
    with pytest.raises(UserError, match=told):
        evaluate(truth, rows, "segm")


def test_ground_truth_made_once_can_be_scored_again_and_again() -> None:
    content = coco([annotation(1, 1, 1, SMALL), annotation(2, 1, 1, LARGE)])
    truth = GroundTruth.from_coco(content)
    first, second = detected((1, 1, SMALL, 0.9)), detected((1, 1, LARGE, 0.9))
    assert evaluate(truth, first).numbers == evaluate(content, first).numbers
    assert evaluate(truth, second).numbers == evaluate(content, second).numbers
    assert evaluate(truth, first).numbers == evaluate(content, first).numbers


def test_a_data_set_is_scored_as_it_stands(tmp_path: Path) -> None:
    content = coco(
        [
            annotation(1, 2, 3, LARGE),
            annotation(2, 1, 1, [190.0, 190.0, 40.0, 40.0]),
            annotation(3, 1, 1, [5.0, 5.0, 0.0, 9.0]),
        ]
    )
    content["images"].reverse()
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    rows = detected((1, 1, [190.0, 190.0, 40.0, 40.0], 0.9), (2, 3, LARGE, 0.8))
    evaluation = evaluate(read_annotations(path, purpose="evaluate"), rows)
    # The box past the border is matched by the same box, and the box without size counts as missed.
    assert evaluation.numbers == evaluate(content, rows).numbers
    assert evaluation.counts["objects"] == 3
    assert evaluation.numbers["AR100"] == pytest.approx(0.75)
    assert sum(evaluation.mendable.values()) == 2
    assert "cleaning would mend" in evaluation.table()
    with pytest.raises(ValueError, match="as it stands"):
        evaluate(read_annotations(path), rows)


def test_an_annotation_file_with_faults_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(coco([annotation(1, 1, 1, SMALL), annotation(1, 2, 1, SMALL)])))
    with pytest.raises(UserError, match="used more than once: 1"):
        evaluate(path, detected((1, 1, SMALL, 0.9)))


@pytest.mark.parametrize("images", [1, 40])
def test_masks_of_a_data_set(tmp_path: Path, images: int) -> None:
    polygon = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    content = coco([annotation(n, n, 1, SMALL, segmentation=polygon) for n in range(1, images + 1)], images=images)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    mask = np.zeros((10, 200, 200), bool)
    mask[:, 10:30, 10:30] = True
    rows = Detections.concatenate(
        Detections.from_image(n, [[10, 10, 30, 30]] * 10, np.linspace(0.9, 0.1, 10), [1] * 10, mask)
        for n in range(1, images + 1)
    )
    evaluation = evaluate(path, rows, "segm")
    assert evaluation.numbers["AR1"] == pytest.approx(1.0)
    assert evaluation.numbers["APs"] is not None


def test_precision_falls_as_recall_rises() -> None:
    truth = coco([annotation(n, 1, 1, [30.0 * n, 5.0, 20.0, 20.0]) for n in range(1, 5)])
    rows = [(1, 1, [30.0 * n, 5.0, 20.0, 20.0], 0.9 - n / 10) for n in (1, 3)]
    evaluation = evaluate(truth, detected(rows[0], (1, 1, [150.0, 100.0, 20.0, 20.0], 0.75), rows[1]))
    precision, score = evaluation.curves.precision[0, :, 0, 0], evaluation.curves.score[0, :, 0, 0]
    # One of four found at score 0.8, a false alarm at 0.75, the second of four found at 0.6, no more after that.
    assert precision[[0, 25, 26, 50, 51]] == pytest.approx([1, 1, 2 / 3, 2 / 3, 0])
    assert score[[25, 26, 51]] == pytest.approx([0.8, 0.6, 0])


def test_odd_files_of_others_are_scored_or_refused_in_one_line(shared_dir: Path) -> None:
    outcomes: dict[str, float | str] = {}
    for folder in sorted((shared_dir / "data" / "odd-coco").iterdir()):
        path = folder / "annotations.json"
        if not path.is_file():
            continue
        try:
            truth = read_ground_truth(path)
            found = np.flatnonzero(~truth.crowd)
            perfect = Detections(
                truth.image_ids[truth.annotation_image[found]],
                truth.boxes[found],
                np.ones(len(found)),
                truth.category_ids[truth.annotation_category[found]],
            )
            outcomes[folder.name] = evaluate(truth, perfect).numbers["AP"] or 0.0
        except UserError as error:
            outcomes[folder.name] = str(error)
    refused = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
    assert not any("\n" in message for message in refused.values())
    assert {"duplicate-annotation-ids", "category-id-missing", "unknown-category-id", "invalid-json"} <= set(refused)
    scored = {name: outcome for name, outcome in outcomes.items() if name not in refused}
    assert {"datumaro-instances", "no-iscrowd-no-segmentation", "roboflow-supercategory-zero"} <= set(scored)
    assert scored == dict.fromkeys(scored, pytest.approx(1.0))
