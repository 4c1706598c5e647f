"""The rules for annotation files, each on a tiny file: what is accepted, mended, skipped, refused."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest

from rexdet.coco.annotations import Category, read_annotations
from rexdet.errors import UserError


def _message(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_sound_file_has_no_findings_and_reads_as_written(small_set: Any) -> None:
    small_set.content["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    small_set.content["annotations"][1]["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    dataset = small_set.open()
    assert dataset.findings == ()
    dataset.raise_if_refused()
    assert len(dataset) == 2
    entry = dataset.image(0)
    assert (entry.id, entry.file_name, entry.width, entry.height) == (1, "1.jpg", 64, 48)
    assert entry.path == small_set.images / "1.jpg"
    (annotation,) = dataset.annotations(0)
    assert annotation.bbox == (10.0, 10.0, 20.0, 20.0)
    assert (annotation.id, annotation.category_id, annotation.area, annotation.iscrowd) == (1, 1, 400.0, 0)
    assert annotation.segmentation == [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    assert dataset.image_ids.tolist() == [1, 2]
    assert dataset.image_ids.dtype == np.int64
    assert dataset.class_names == ("cat",)
    dataset.raise_if_masks_missing()


def test_the_fingerprint_is_the_sha256_of_the_file(small_set: Any) -> None:
    import hashlib

    dataset = small_set.open()
    assert dataset.fingerprint == hashlib.sha256(small_set.file.read_bytes()).hexdigest()


def test_to_coco_reads_back_the_same(small_set: Any) -> None:
    dataset = small_set.open()
    again = small_set.folder / "again.json"
    again.write_text(json.dumps(dataset.to_coco()))
    copy = read_annotations(again, small_set.images)
    assert copy.to_coco() == dataset.to_coco()
    assert [entry.id for entry in copy] == [1, 2]


def test_negative_index_and_end(small_set: Any) -> None:
    dataset = small_set.open()
    assert dataset[-1].id == 2
    with pytest.raises(IndexError):
        dataset.image(2)
    with pytest.raises(IndexError):
        dataset.annotations(-3)


# --- accepted ---------------------------------------------------------------------------------------------------


def test_ids_need_not_follow_each_other_and_categories_are_sorted_by_id(small_set: Any) -> None:
    # C26: the ids 90, 1 and 5 in any order; three classes.
    small_set.content["categories"] = [{"id": number, "name": f"c{number}"} for number in (90, 1, 5)]
    for number, entry in zip((90, 5), small_set.content["annotations"], strict=True):
        entry["category_id"] = number
        entry["id"] *= -1000
    small_set.content["images"][0]["id"] = -7
    small_set.content["annotations"][0]["image_id"] = -7
    small_set.content["annotations"].append(small_set.annotation(3, image_id=2))
    dataset = small_set.open()
    dataset.raise_if_refused()
    assert dataset.categories == (Category(1, "c1"), Category(5, "c5"), Category(90, "c90"))
    assert [item.id for index in range(2) for item in dataset.annotations(index)] == [-1000, -2000, 3]


@pytest.mark.parametrize("key", ["iscrowd", "area"])
@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_missing_iscrowd_or_area_is_filled_in_and_counted(small_set: Any, key: str, purpose: str) -> None:
    # C29
    for entry in small_set.content["annotations"]:
        del entry[key]
    assert small_set.codes(purpose) == {f"{key}-missing": ("accept", 2)}
    (annotation,) = small_set.open(purpose).annotations(0)
    assert (annotation.area, annotation.iscrowd) == (400.0, 0)


def test_null_counts_as_missing_and_booleans_as_crowd_flags(small_set: Any) -> None:
    small_set.content["annotations"][0] |= {"iscrowd": True, "area": None, "segmentation": None}
    dataset = small_set.open()
    assert dataset.annotations(0)[0].iscrowd == 1
    assert dataset.annotations(0)[0].area == 400


def test_missing_annotation_ids_are_numbered_on(small_set: Any) -> None:
    small_set.content["annotations"].append(small_set.annotation(0, id=...))
    small_set.content["annotations"][0]["id"] = 41
    assert small_set.codes() == {"annotation-id-missing": ("accept", 1)}
    assert [item.id for item in small_set.open().annotations(0)] == [41, 42]


def test_annotation_id_zero_is_an_id(small_set: Any) -> None:
    small_set.content["annotations"][0]["id"] = 0
    assert small_set.codes() == {}
    assert small_set.open().annotations(0)[0].id == 0


def test_an_image_without_annotations_stays(small_set: Any) -> None:
    # C31
    small_set.content["annotations"].pop()
    assert small_set.codes() == {"image-empty": ("accept", 1)}
    assert small_set.open().annotations(1) == []


def test_unused_categories_are_listed_and_stay_classes(small_set: Any) -> None:
    # C85
    small_set.content["categories"] += [{"id": 0, "name": "animals", "supercategory": "none"}, {"id": 2, "name": "dog"}]
    assert small_set.codes() == {"category-unused": ("accept", 2)}
    assert small_set.open().class_names == ("animals", "cat", "dog")


def test_cocos_80_ids_up_to_90_are_80_classes(small_set: Any) -> None:
    # C85: the head has as many classes as there are categories, whatever the largest id.
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    small_set.content["categories"] = [{"id": n, "name": f"c{n}"} for n in range(1, 91) if n not in gaps]
    dataset = small_set.open()
    dataset.raise_if_refused()
    assert len(dataset.categories) == 80
    assert dataset.categories[-1].id == 90


@pytest.mark.parametrize("as_text", ["images", "annotations", "both"])
def test_image_ids_as_text_match_numbers(small_set: Any, as_text: str) -> None:
    if as_text != "annotations":
        for image in small_set.content["images"]:
            image["id"] = str(image["id"])
    if as_text != "images":
        for annotation in small_set.content["annotations"]:
            annotation["image_id"] = str(annotation["image_id"])
    dataset = small_set.open()
    dataset.raise_if_refused()
    assert [len(dataset.annotations(index)) for index in range(2)] == [1, 1]
    assert dataset.image_ids.tolist() == [1, 2]
    assert all(finding.action == "accept" for finding in dataset.findings)


def test_whole_floats_are_ids(small_set: Any) -> None:
    small_set.content["annotations"][0] |= {"id": 7.0, "image_id": 1.0, "category_id": 1.0}
    dataset = small_set.open()
    dataset.raise_if_refused()
    assert dataset.annotations(0)[0].id == 7


def test_bom_gzip_and_odd_names_are_read(small_set: Any) -> None:
    small_set.picture("ein Bild – β.JPG")
    small_set.content["images"][0]["file_name"] = "ein Bild – β.JPG"
    text = json.dumps(small_set.content, ensure_ascii=False).encode()
    for data in (b"\xef\xbb\xbf" + text, gzip.compress(text)):
        dataset = read_annotations(small_set.write(data), small_set.images)
        dataset.raise_if_refused()
        assert dataset.image(0).path == small_set.images / "ein Bild – β.JPG"


def test_extra_keys_and_null_info_do_no_harm(small_set: Any) -> None:
    small_set.content |= {"info": None, "licenses": [], "videos": {}}
    small_set.content["annotations"][0] |= {"score": 1.0, "attributes": {"segmentation": [1, 2], "x": "}{"}}
    assert small_set.codes() == {}


# --- mended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bbox", "code", "kept"),
    [
        ([60, 40, 30, 30], "box-past-border", (60.0, 40.0, 4.0, 8.0)),
        ([-5, -5, 20, 20], "box-past-border", (0.0, 0.0, 15.0, 15.0)),
        ([0, 0, 0, 0], "box-empty", None),
        ([5, 5, 0, 10], "box-empty", None),
        ([5, 5, 10, 0], "box-empty", None),
        ([64, 10, 5, 5], "box-outside", None),
        ([-9, 10, 9, 5], "box-outside", None),
    ],
)
def test_boxes_are_clipped_or_dropped_for_training_alone(small_set: Any, bbox: Any, code: str, kept: Any) -> None:
    # C31, C32
    small_set.content["annotations"].append(small_set.annotation(7, bbox=bbox, area=bbox[2] * bbox[3]))
    assert small_set.codes()[code] == ("mend", 1)
    (finding,) = (finding for finding in small_set.open().findings if finding.action == "mend")
    assert finding.first == (7,)
    assert "7 on 1.jpg" in finding.message
    trained = [item for item in small_set.open("train").annotations(0) if item.id == 7]
    assert [item.bbox for item in trained] == ([kept] if kept else [])
    if kept:
        assert trained[0].area == kept[2] * kept[3]
    # Evaluation takes it as it stands and says the same.
    assert small_set.codes("evaluate")[code] == ("mend", 1)
    (stands,) = (item for item in small_set.open("evaluate").annotations(0) if item.id == 7)
    assert stands.bbox == tuple(map(float, bbox))
    assert stands.area == bbox[2] * bbox[3]


def test_a_box_up_to_the_border_is_left_alone(small_set: Any) -> None:
    small_set.content["annotations"][0] |= {"bbox": [0, 0, 64, 48], "area": 64 * 48}
    small_set.content["annotations"][1] |= {"bbox": [63.5, 47.5, 0.5, 0.5], "area": 0.25}
    assert small_set.codes() == {}


def test_an_area_larger_than_its_box_is_computed_anew(small_set: Any) -> None:
    small_set.content["annotations"][0]["area"] = 64 * 48
    small_set.content["annotations"][1] |= {
        "area": 64 * 48,
        "segmentation": [[10, 10, 30, 10, 30, 30]],
    }
    assert small_set.codes() == {"area-larger-than-box": ("mend", 2)}
    dataset = small_set.open()
    assert dataset.annotations(0)[0].area == 400
    assert dataset.annotations(1)[0].area == 200
    assert small_set.open("evaluate").annotations(0)[0].area == 64 * 48


@pytest.mark.parametrize("area", [-4, "many", "400", True, [400]])
def test_an_area_that_is_no_size_is_computed_anew(small_set: Any, area: Any) -> None:
    small_set.content["annotations"][0]["area"] = area
    assert small_set.codes() == {"area-invalid": ("mend", 1)}
    assert small_set.open().annotations(0)[0].area == 400


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        ([10, 10, 30, 10, 30, 30, 10, 30], "segmentation-flat"),
        ([[10, 10], [30, 10], [30, 30], [10, 30]], "segmentation-point-pairs"),
    ],
)
def test_other_spellings_of_a_polygon_are_read(small_set: Any, segmentation: Any, code: str) -> None:
    small_set.content["annotations"][0]["segmentation"] = segmentation
    for purpose in ("train", "evaluate"):
        assert small_set.codes(purpose) == {code: ("mend", 1)}
        mask = small_set.open(purpose).annotations(0)[0].segmentation
        assert mask == [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]


@pytest.mark.parametrize("polygon", [[10, 10, 30, 30], [10, 10, 30, 10, 30], [1, 2]])
def test_polygons_that_are_none_are_dropped_and_counted(small_set: Any, polygon: Any) -> None:
    whole = [10, 10, 30, 10, 30, 30, 10, 30]
    small_set.content["annotations"][0]["segmentation"] = [polygon, whole]
    small_set.content["annotations"][1]["segmentation"] = [polygon]
    assert small_set.codes() == {"polygon-too-short": ("mend", 2)}
    dataset = small_set.open()
    assert dataset.annotations(0)[0].segmentation == [list(map(float, whole))]
    assert dataset.annotations(1)[0].segmentation is None
    assert "annotation 2" in _message(dataset.raise_if_masks_missing)
    assert small_set.open("evaluate").annotations(1)[0].segmentation == [list(map(float, polygon))]


# --- masks ------------------------------------------------------------------------------------------------------


def test_run_length_masks_of_both_forms(small_set: Any) -> None:
    from pycocotools import mask as reference

    from rexdet.coco.segmentation import decode_runs, mask_area

    pixels = np.zeros((48, 64), np.uint8, order="F")
    pixels[10:30, 10:30] = np.random.default_rng(0).integers(0, 2, (20, 20))
    packed = reference.encode(pixels)
    text = {"size": [48, 64], "counts": packed["counts"].decode()}
    column = pixels.ravel(order="F")
    edges = np.flatnonzero(np.diff(column)) + 1
    runs = np.diff(np.concatenate(([0], edges, [column.size]))).tolist()
    small_set.content["annotations"][0]["segmentation"] = text
    small_set.content["annotations"][1] |= {"segmentation": {"size": [48, 64], "counts": runs}, "iscrowd": 1}
    assert small_set.codes() == {}
    dataset = small_set.open()
    for index in range(2):
        mask = dataset.annotations(index)[0].segmentation
        assert (decode_runs(mask) == pixels).all()
        assert mask_area(mask) == pixels.sum()
    assert dataset.annotations(1)[0].iscrowd == 1
    assert dataset.annotations(0)[0].iscrowd == 0
    dataset.raise_if_masks_missing()


def test_a_run_length_mask_of_another_size_is_refused(small_set: Any) -> None:
    small_set.content["annotations"][0]["segmentation"] = {"size": [64, 48], "counts": [0, 64 * 48]}
    assert small_set.codes() == {"mask-size-differs": ("refuse", 1)}
    message = _message(small_set.open().raise_if_refused)
    assert "annotation 1 (mask 48x64, image 64x48)" in message


@pytest.mark.parametrize(
    "segmentation",
    [
        "polygon",
        7,
        [["a", "b", "c", "d", "e", "f"]],
        [[10, 10, 30, 10, 30, None]],
        [[[10, 10], [30, 10], [30, 30]]],
        [{"counts": [1]}],
        {"counts": "abc"},
        {"size": [48, 64]},
        {"size": [48, 64], "counts": [3, -3]},
        {"size": [48, 64, 1], "counts": [48 * 64]},
        {"size": [48, 64], "counts": ""},
    ],
)
def test_a_segmentation_of_no_known_form_is_refused_with_its_annotation(small_set: Any, segmentation: Any) -> None:
    small_set.content["annotations"][1]["segmentation"] = segmentation
    (finding,) = (finding for finding in small_set.open().findings if finding.action == "refuse")
    assert (finding.code, finding.count, finding.first) == ("segmentation-invalid", 1, (2,))


def test_nan_in_a_polygon_is_refused(small_set: Any) -> None:
    small_set.content["annotations"][1]["segmentation"] = [[10, 10, 30, 10, math.nan, 30]]
    assert small_set.codes()["segmentation-invalid"] == ("refuse", 1)


def test_masks_asked_for_where_there_are_none_are_refused(small_set: Any) -> None:
    message = _message(small_set.open().raise_if_masks_missing)
    assert "2 of 2 annotations have no mask" in message


# --- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bbox", "code"),
    [
        ([10, 10, -4, 8], "box-negative"),
        ([10, 10, 4, -8], "box-negative"),
        ([math.nan, 10, 4, 8], "box-not-finite"),
        ([10, 10, math.inf, 8], "box-not-finite"),
        ([10, 10, 10**400, 8], "box-not-finite"),
        (["10", "10", "4", "8"], "box-invalid"),
        ([10, 10, 4], "box-invalid"),
        ([10, 10, 4, 8, 1], "box-invalid"),
        ([10, 10, True, 8], "box-invalid"),
        ([10, 10, None, 8], "box-invalid"),
        ([[10, 10], [4, 8]], "box-invalid"),
        ({"x": 1}, "box-invalid"),
        ("10 10 4 8", "box-invalid"),
        ([], "box-invalid"),
        (None, "box-missing"),
        (..., "box-missing"),
    ],
)
@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_boxes_that_are_none_are_refused(small_set: Any, bbox: Any, code: str, purpose: str) -> None:
    # C32
    small_set.content["annotations"].append(small_set.annotation(9, image_id=2, bbox=bbox))
    dataset = small_set.open(purpose)
    (finding,) = (finding for finding in dataset.findings if finding.action == "refuse")
    assert (finding.code, finding.count, finding.first) == (code, 1, (9,))
    message = _message(dataset.raise_if_refused)
    assert "annotation 9 of image 2" in message
    assert str(small_set.file) in message


def test_numbers_beyond_double_precision_are_refused(small_set: Any) -> None:
    text = json.dumps(small_set.content).replace("[10, 10, 20, 20]", "[10, 10, 1e400, 20]", 1)
    dataset = read_annotations(small_set.write(text), small_set.images)
    assert [finding.code for finding in dataset.findings if finding.action == "refuse"] == ["box-not-finite"]


def test_an_unknown_category_is_named_with_everything_needed(small_set: Any) -> None:
    # C25
    small_set.content["categories"] = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    small_set.content["annotations"] += [
        small_set.annotation(5, image_id=2, category_id=2),
        small_set.annotation(6, category_id=2),
    ]
    dataset = small_set.open()
    message = _message(dataset.raise_if_refused)
    for part in (str(small_set.file), "annotation 5 on 2.jpg", "2 in 2", "it lists 0, 1"):
        assert part in message
    assert dataset.findings[0].first == (5, 6)


@pytest.mark.parametrize("category", [..., None, "cat", 1.5, True, [1]])
def test_a_category_id_that_is_none_is_refused(small_set: Any, category: Any) -> None:
    small_set.content["annotations"].append(small_set.annotation(5, category_id=category))
    dataset = small_set.open()
    assert dataset.findings[0].code == "category-id-missing"
    assert "annotation 5" in _message(dataset.raise_if_refused)


@pytest.mark.parametrize("image_id", [99, "99", "one", ..., None, 1.5, True, 10**30, -1])
def test_annotations_of_unknown_images_are_refused(small_set: Any, image_id: Any) -> None:
    small_set.content["annotations"].append(small_set.annotation(5, image_id=image_id))
    found = small_set.codes()
    assert found["image-unknown"] == ("refuse", 1)
    assert "annotation 5" in _message(small_set.open().raise_if_refused)


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_repeated_ids_are_refused_by_name(small_set: Any, purpose: str) -> None:
    # C35
    small_set.content["annotations"] += [small_set.annotation(7), small_set.annotation(7, image_id=2)]
    small_set.content["images"].append({"id": 2, "file_name": "1.jpg", "width": 64, "height": 48})
    small_set.content["categories"] += [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}]
    found = {finding.code: finding for finding in small_set.open(purpose).findings}
    assert found["annotation-id-twice"].first == (7,)
    assert found["image-id-twice"].first == (2,)
    assert found["category-id-twice"].first == (1,)
    assert found["category-name-twice"].first == ("cat",)
    assert "1.jpg of images 1 and 2" in found["file-name-twice"].message
    assert all(found[code].action == "refuse" for code in found if code.endswith("twice"))


def test_every_finding_is_listed_although_one_refuses(small_set: Any) -> None:
    small_set.content["annotations"] += [
        small_set.annotation(7),
        small_set.annotation(7, image_id=2),
        small_set.annotation(8, category_id=9),
        small_set.annotation(10, bbox=[60, 40, 30, 30]),
        small_set.annotation(11, iscrowd=...),
    ]
    dataset = small_set.open()
    codes = [finding.code for finding in dataset.findings]
    assert codes[:2] == ["annotation-id-twice", "category-unknown"]
    assert {"box-past-border", "iscrowd-missing"} <= set(codes)
    message = _message(dataset.raise_if_refused)
    assert "annotation ids used more than once" in message
    assert f"and 1 more: tools/check_data.py --annotations {small_set.file} --images {small_set.images}" in message


@pytest.mark.parametrize("value", [2, -1, "yes", [0]])
def test_an_iscrowd_that_is_no_flag_is_refused(small_set: Any, value: Any) -> None:
    small_set.content["annotations"][1]["iscrowd"] = value
    assert small_set.codes()["iscrowd-invalid"] == ("refuse", 1)


@pytest.mark.parametrize("value", ["seven", True, 1.5, 10**30, [1]])
def test_ids_that_are_no_whole_numbers_are_refused(small_set: Any, value: Any) -> None:
    small_set.content["annotations"][1]["id"] = value
    small_set.content["images"].append({"id": value, "file_name": "3.jpg", "width": 64, "height": 48})
    small_set.content["categories"].append({"id": value, "name": "dog"})
    found = small_set.codes()
    for code in ("annotation-id-invalid", "image-id-invalid", "category-id-invalid"):
        assert found[code] == ("refuse", 1)


@pytest.mark.parametrize("name", ["", "  ", None, ..., {}])
def test_categories_and_images_need_names(small_set: Any, name: Any) -> None:
    category = {"id": 2} if name is ... else {"id": 2, "name": name}
    image = {"id": 3, "width": 64, "height": 48} | ({} if name is ... else {"file_name": name})
    small_set.content["categories"].append(category)
    small_set.content["images"].append(image)
    found = {finding.code: finding for finding in small_set.open().findings}
    assert found["category-name-missing"].first == (2,)
    assert found["file-name-missing"].first == (3,)


@pytest.mark.parametrize("size", [(0, 48), (-64, 48), ("wide", 48), (64, math.nan), (64, 48.5), (10**9, 48)])
def test_sizes_that_are_none_are_refused(small_set: Any, size: Any) -> None:
    small_set.content["images"][1] |= {"width": size[0], "height": size[1]}
    assert small_set.codes()["image-size-invalid"] == ("refuse", 1)


def test_nothing_to_train_on_is_refused_and_evaluated(small_set: Any) -> None:
    # C40 for evaluation: images and categories without any object are fine there.
    for entries, reason in (
        ([], "none at all"),
        ([small_set.annotation(1, iscrowd=1)], "every annotation is a crowd"),
        ([small_set.annotation(1, bbox=[5, 5, 0, 10])], "no box with any size"),
    ):
        small_set.content["annotations"] = entries
        assert reason in _message(small_set.open("train").raise_if_refused)
        small_set.open("evaluate").raise_if_refused()


def test_boxes_that_disagree_with_most_polygons_are_refused(small_set: Any) -> None:
    square = [[40, 20, 60, 20, 60, 40, 40, 40]]
    for entry in small_set.content["annotations"]:
        entry["segmentation"] = square
    assert small_set.codes() == {"box-polygons-disagree": ("refuse", 2)}
    small_set.content["annotations"] += [
        small_set.annotation(number, bbox=[40, 20, 20, 20], segmentation=square) for number in (3, 4)
    ]
    # Two of four are not most of them: told, and trained on.
    assert small_set.codes() == {"box-polygons-differ": ("accept", 2)}


def test_polygons_past_the_border_agree_with_clipped_boxes(small_set: Any) -> None:
    for entry in small_set.content["annotations"]:
        entry |= {"bbox": [50, 10, 14, 20], "area": 280, "segmentation": [[50, 10, 90, 10, 90, 30, 50, 30]]}
    assert small_set.codes() == {}


def test_corner_boxes_are_told_by_their_areas(small_set: Any) -> None:
    for entry in small_set.content["annotations"]:
        entry |= {"bbox": [10, 8, 40, 38], "area": 30 * 30}
    assert small_set.codes() == {"box-corners": ("refuse", 2)}
    # One in many is a coincidence.
    small_set.content["annotations"] += [small_set.annotation(number) for number in range(3, 8)]
    assert small_set.codes() == {}


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("entry", [None, [], 3, "x"])
def test_entries_that_are_no_objects_are_refused(small_set: Any, key: str, entry: Any) -> None:
    small_set.content[key].append(entry)
    (finding,) = (finding for finding in small_set.open().findings if finding.action == "refuse")
    assert finding.code.endswith("-not-an-object")


def test_empty_lists_of_images_or_categories_are_refused(small_set: Any) -> None:
    small_set.content["images"] = []
    small_set.content["annotations"] = []
    assert small_set.codes("evaluate")["no-images"][0] == "refuse"
    small_set.content["categories"] = []
    assert small_set.codes("evaluate")["no-categories"][0] == "refuse"


# --- files that are no annotation files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('{"images": [}', "line 1 column 13"),
        ('{"images": [],\n "annotations": [{"id": 1}{"id": 2}]}', "line 2 column 27"),
        ("null", "NoneType"),
        ("3", "int"),
        ("[]", "holds a list at its top"),
        ('[{"image_id": 1, "score": 0.5}]', "list of detections"),
        ('{"annotations": [], "categories": []}', "no images key"),
        ('{"images": [], "categories": []}', "no annotations key"),
        ('{"images": [], "annotations": []}', "no categories key"),
        ('{"images": {}, "annotations": [], "categories": []}', "images is dict, not a list"),
        ('{"images": [], "annotations": [], "categories": "water"}', "categories is str, not a list"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x1f\x8bbroken", "broken gzip"),
        ("[" * 200_000, "not JSON"),
    ],
)
def test_other_files_are_one_line(small_set: Any, text: Any, part: str) -> None:
    path = small_set.write(text)
    message = _message(lambda: read_annotations(path, small_set.images))
    assert part in message or "nested too deeply" in message
    assert message.startswith(str(path))


def test_broken_json_inside_a_mask_is_told_by_its_place(small_set: Any) -> None:
    small_set.content["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 30, 30]]
    text = json.dumps(small_set.content).replace("30, 10, 30, 30]", "30, 10 30, 30]")
    assert "line 1 column" in _message(lambda: read_annotations(small_set.write(text), small_set.images))


def test_missing_files_and_folders_are_one_line(small_set: Any) -> None:
    path = small_set.write()
    assert "no such annotation file" in _message(lambda: read_annotations(path.with_name("x.json")))
    assert "it holds annotations.json" in _message(lambda: read_annotations(small_set.folder))
    assert "no such folder" in _message(lambda: read_annotations(path, small_set.folder / "nowhere"))
    assert "is not a folder" in _message(lambda: read_annotations(path, path))


def test_an_unknown_purpose_is_a_programming_error(small_set: Any) -> None:
    with pytest.raises(ValueError, match="unknown purpose"):
        small_set.open("test")


def test_the_documentation_lists_every_code(repository: Any) -> None:
    import re

    written = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", (repository / "docs" / "data.md").read_text()))
    used = {f"{kind}-not-an-object" for kind in ("image", "annotation", "category")}
    for module in ("schema", "annotation_columns", "picture_facts", "mend", "check"):
        source = (repository / "rexdet" / "coco" / f"{module}.py").read_text()
        used |= set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', source))
    assert len(used) > 40
    assert written == used


def test_masks_set_aside_are_read_like_those_that_are_not(small_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layout of the JSON, and every block size, gives what parsing the whole file gives."""
    from rexdet.coco import mask_columns, source

    triangle = [[10, 10, 30, 10, 30.5, 30]]
    small_set.content["annotations"] += [
        small_set.annotation(number, segmentation=mask, area=200)
        for number, mask in enumerate(
            (
                triangle,
                [],
                triangle * 2,
                None,
                [1, 2, 3, 4],
                ...,
                {"size": [48, 64], "counts": [0, 48 * 64]},
                [[]],
                [7],
            ),
            3,
        )
    ]
    small_set.content["annotations"][0] |= {
        "segmentation": triangle,
        "attributes": {"segmentation": [[1, 2], "}", {"a": 1}]},
    }
    parse = source.parse
    monkeypatch.setattr(mask_columns, "_BLOCK", 2)
    for options in ({}, {"indent": 1}, {"separators": (",", ":")}, {"sort_keys": True}):
        path = small_set.write(json.dumps(small_set.content, **options))
        fast = read_annotations(path, small_set.images, purpose="evaluate")
        with monkeypatch.context() as patched:
            patched.setattr(source, "parse", lambda data, path: parse(data, path, set_masks_aside=False))
            slow = read_annotations(path, small_set.images, purpose="evaluate")
        assert fast.to_coco() == slow.to_coco()
        assert fast.findings == slow.findings
        assert fast.annotations(0)[0].segmentation == triangle


def test_large_files_compare_boxes_and_polygons_on_a_sample(small_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rexdet.coco import mask_columns

    monkeypatch.setattr(mask_columns, "MEASURED", 10)
    square = [[40, 20, 60, 20, 60, 40, 40, 40]]
    small_set.content["annotations"] = [
        small_set.annotation(number, segmentation=square if number % 50 else [*square, [1, 2]])
        for number in range(1, 101)
    ]
    dataset = small_set.open()
    found = {finding.code: finding for finding in dataset.findings}
    assert found["box-polygons-disagree"].action == "refuse"
    assert "of 10 compared" in found["box-polygons-disagree"].message
    # What is counted on every annotation stays exact.
    assert found["polygon-too-short"].count == 2
    # A null among the numbers is no number, wherever it stands.
    small_set.content["annotations"][6]["segmentation"] = [[40, 20, 60, None, 60, 40]]
    assert small_set.codes()["segmentation-invalid"] == ("refuse", 1)
    small_set.content["annotations"][6]["segmentation"] = [[40, 20, [60], 20, 60, 40]]
    assert small_set.codes()["segmentation-invalid"] == ("refuse", 1)


def test_a_wrong_area_beside_a_broken_run_length_code_takes_the_boxs(small_set: Any) -> None:
    small_set.content["annotations"][0] |= {"area": -1, "segmentation": {"size": [48, 64], "counts": "~"}}
    assert small_set.open().annotations(0)[0].area == 400
