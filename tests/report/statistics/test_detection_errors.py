"""Every kind of error on a picture made for it, and random sets beside a plain walk through pairs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rexdet.coco.detections import Detections, encode_masks
from rexdet.coco.evaluate import evaluate
from rexdet.coco.ground_truth import GroundTruth
from rexdet.coco.matched import Matched, match_once
from rexdet.errors import UserError
from rexdet.report.statistics.detection_errors import KINDS, break_down

Box = tuple[float, float, float, float]
OBJECT: Box = (100, 100, 100, 100)


def matched(
    objects: list[tuple[int, Box]], found: list[tuple[int, float, Box]], crowd: tuple[int, ...] = ()
) -> Matched:
    """One image with (category, box) objects and (category, score, box) detections; classes 1, 2 and, empty, 3."""
    truth = {
        "images": [{"id": 1, "width": 640, "height": 640, "file_name": "1.jpg"}],
        "categories": [{"id": number, "name": name} for number, name in ((1, "cat"), (2, "dog"), (3, "yeti"))],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(number in crowd),
            }
            for number, (category, box) in enumerate(objects)
        ],
    }
    return match_once(GroundTruth.from_coco(truth), columns([(1, *entry) for entry in found]))


def columns(rows: list[tuple[int, int, float, Box]]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.int64),
    )


def shifted(by: float) -> Box:
    """OBJECT moved to the right: overlap (100 - by) / (100 + by)."""
    return (100 + by, 100, 100, 100)


@pytest.mark.parametrize(
    ("kind", "found", "won"),
    [
        # A dog where a cat is: relabelled it is the cat.
        ("classification", (2, 0.9, OBJECT), 1.0),
        # Overlap 50/150.
        ("localisation", (1, 0.9, shifted(50)), 1.0),
        # Overlap 50/150 and another class: only left out, and then nothing is found either.
        ("both", (2, 0.9, shifted(50)), 0.0),
        ("background", (1, 0.9, (400, 400, 50, 50)), 0.0),
        # Overlap 9/191: too little to be a bad box.
        ("background", (1, 0.9, shifted(91)), 0.0),
    ],
)
def test_one_error_alone(kind: str, found: tuple[int, float, Box], won: float) -> None:
    errors = break_down(matched([(1, OBJECT)], [found]))
    points_to_it = kind in ("classification", "localisation")
    assert {name: count for name, count in errors.counts.items() if count} == (
        {kind: 1} if points_to_it else {kind: 1, "missed": 1}
    )
    assert (errors.right, errors.ap50) == (0, 0.0)
    assert errors.costs[kind] == pytest.approx(won)


def test_a_second_box_on_a_found_object_is_a_duplicate() -> None:
    errors = break_down(matched([(1, OBJECT), (1, (300, 300, 50, 50))], [(1, 0.9, OBJECT), (1, 0.8, shifted(5))]))
    assert (errors.right, errors.counts["duplicate"], errors.counts["missed"]) == (1, 1, 1)
    assert errors.costs["duplicate"] == pytest.approx(0.0)
    # Without the missed object one of one is found, the duplicate behind it.
    assert errors.costs["missed"] == pytest.approx(1 - errors.ap50)  # type: ignore[operator]


def test_a_wrong_class_on_a_found_object_is_left_out_where_it_is_mended() -> None:
    # The dog stands above the cat, whose object it covers: relabelled it would be a duplicate.
    errors = break_down(matched([(1, OBJECT), (2, (300, 300, 50, 50))], [(2, 0.9, OBJECT), (1, 0.8, OBJECT)]))
    assert errors.counts["classification"] == 1
    assert errors.counts["missed"] == 1
    assert errors.costs["classification"] == pytest.approx(0.0)
    assert errors.ap50 == pytest.approx(0.5)


def test_only_the_most_certain_error_is_put_right() -> None:
    errors = break_down(matched([(1, OBJECT)], [(1, 0.5, shifted(40)), (1, 0.9, shifted(50)), (2, 0.7, shifted(2))]))
    assert (errors.counts["localisation"], errors.counts["classification"]) == (2, 1)
    assert errors.counts["missed"] == 0
    # The best placed comes first, and nothing of the other one is left.
    assert errors.costs["localisation"] == pytest.approx(1.0)
    # Relabelled, the dog stands behind one bad cat.
    assert errors.costs["classification"] == pytest.approx(0.5)


def test_detections_in_a_crowd_are_no_errors_and_crowds_are_not_missed() -> None:
    errors = break_down(matched([(1, (0, 0, 400, 400)), (1, OBJECT)], [(1, 0.9, (200, 200, 30, 30))], crowd=(0,)))
    assert (errors.crowd, errors.right) == (1, 0)
    assert {name: count for name, count in errors.counts.items() if count} == {"missed": 1}


def test_a_least_score_leaves_detections_out() -> None:
    made = matched([(1, OBJECT), (1, (300, 300, 50, 50))], [(1, 0.9, OBJECT), (1, 0.2, (300, 300, 50, 50))])
    assert break_down(made).counts["missed"] == 0
    errors = break_down(made, score=0.5)
    assert (errors.right, errors.counts["missed"], errors.score) == (1, 1, 0.5)
    assert errors.ap50 == pytest.approx(51 / 101)


@pytest.mark.parametrize("without", ["objects", "detections", "both"])
def test_empty_data(without: str) -> None:
    objects = [] if without in ("objects", "both") else [(1, OBJECT)]
    found = [] if without in ("detections", "both") else [(1, 0.9, OBJECT)]
    errors = break_down(matched(objects, found))
    expected = {"objects": {"background": 1}, "detections": {"missed": 1}, "both": {}}[without]
    assert {name: count for name, count in errors.counts.items() if count} == expected
    if objects:
        assert errors.ap50 == 0.0
        # Nothing is left to find where all of it is no longer asked for.
        assert (errors.costs["missed"], errors.costs["background"]) == (None, 0.0)
    else:
        assert errors.ap50 is None
        assert set(errors.costs.values()) == {None}
    assert set(errors.per_class) == {"cat", "dog", "yeti"}
    json.dumps(errors.as_json(), allow_nan=False)


def test_masks_decide_where_masks_are_scored_and_missing_ones_are_told() -> None:
    masks = np.zeros((2, 60, 60), bool)
    masks[0, 10:50, 10:50] = True
    masks[1, 10:50, 40:50] = True  # a quarter of the object
    whole, part = encode_masks(masks)
    box = [10.0, 10.0, 40.0, 40.0]
    truth = {
        "images": [{"id": n, "width": 60, "height": 60, "file_name": f"{n}.jpg"} for n in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": box, "area": 1600, "iscrowd": 0, "segmentation": whole}
            for n in (1, 2)
        ],
    }
    found = columns([(1, 1, 0.9, (10, 10, 40, 40)), (2, 1, 0.8, (10, 10, 40, 40))])
    with_masks = Detections(found.image_ids, found.boxes, found.scores, found.category_ids, [part, whole])
    ground_truth = GroundTruth.from_coco(truth)
    assert break_down(match_once(ground_truth, found)).right == 2
    errors = break_down(match_once(ground_truth, with_masks, "segm"))
    assert (errors.right, errors.counts["localisation"]) == (1, 1)
    with pytest.raises(UserError, match="no masks"):
        match_once(ground_truth, found, "segm")


def random_content(seed: int) -> tuple[dict[str, Any], Detections]:
    random = np.random.default_rng(seed)
    annotations, rows = [], []
    for image in range(25):
        for _ in range(random.integers(0, 6)):
            box = [*random.uniform(0, 60, 2), *random.uniform(20, 60, 2)]
            category = int(random.integers(1, 4))
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(random.random() < 0.1),
                }
            )
            for _ in range(random.integers(0, 4)):
                moved = np.array(box) + random.normal(size=4) * random.choice([1, 8])
                label = category if random.random() < 0.7 else int(random.integers(1, 5))
                rows.append((image, label, round(float(random.random()), 1), tuple(np.abs(moved).tolist())))
        rows.append((image, int(random.integers(1, 5)), round(float(random.random()), 1), (180.0, 180.0, 9.0, 9.0)))
    content = {
        "images": [{"id": image, "width": 200, "height": 200, "file_name": f"{image}.jpg"} for image in range(25)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, 5)],
        "annotations": annotations,
    }
    return content, columns(rows)


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def counted_plainly(content: dict[str, Any], detections: Detections) -> dict[str, int]:
    """The definitions, a detection at a time."""
    counts = dict.fromkeys(KINDS, 0)
    taken, pointed_at = set(), set()
    rest = []
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        image, label = detections.image_ids[row], detections.category_ids[row]
        box = detections.boxes[row].tolist()
        here = [entry for entry in content["annotations"] if entry["image_id"] == image]
        free = [
            (overlap(box, entry["bbox"]), entry["id"])
            for entry in here
            if entry["category_id"] == label and not entry["iscrowd"] and entry["id"] not in taken
        ]
        best = max(free, default=(0.0, -1))
        if best[0] >= 0.5:
            taken.add(best[1])
            continue
        in_crowd = any(
            entry["iscrowd"]
            and entry["category_id"] == label
            and overlap(box, entry["bbox"])
            * (box[2] * box[3] + entry["area"])
            / (1 + overlap(box, entry["bbox"]))
            / (box[2] * box[3])
            >= 0.5
            for entry in here
        )
        if not in_crowd:
            objects = [entry for entry in here if not entry["iscrowd"]]
            same = [(overlap(box, e["bbox"]), e["id"]) for e in objects if e["category_id"] == label]
            other = [(overlap(box, e["bbox"]), e["id"]) for e in objects if e["category_id"] != label]
            rest.append((max(same, default=(0.0, -1)), max(other, default=(0.0, -1))))
    for same_best, other_best in rest:
        if 0.1 <= same_best[0] < 0.5:
            kind = "localisation"
            pointed_at.add(same_best[1])
        elif other_best[0] >= 0.5:
            kind = "classification"
            pointed_at.add(other_best[1])
        elif same_best[0] >= 0.5:
            kind = "duplicate"
        else:
            kind = "background" if max(same_best[0], other_best[0]) < 0.1 else "both"
        counts[kind] += 1
    objects = {entry["id"] for entry in content["annotations"] if not entry["iscrowd"]}
    counts["missed"] = len(objects - taken - pointed_at)
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_random_sets(seed: int) -> None:
    content, detections = random_content(seed)
    truth = GroundTruth.from_coco(content)
    errors = break_down(match_once(truth, detections))
    assert dict(errors.counts) == counted_plainly(content, detections)
    assert all(errors.counts.values()), "a kind that never occurs is not tested"
    evaluation = evaluate(truth, detections)
    assert errors.ap50 == pytest.approx(evaluation.numbers["AP50"], abs=1e-12)
    wrong = sum(count for kind, count in errors.counts.items() if kind != "missed")
    assert errors.right + errors.crowd + wrong == len(detections)
    for kind in KINDS:
        assert sum(counts[kind] for counts in errors.per_class.values()) == errors.counts[kind]
        # Mending never costs.
        assert errors.costs[kind] is not None
        assert errors.costs[kind] >= -1e-12  # type: ignore[operator]
