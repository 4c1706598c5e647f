"""`tools/compare.py`: two runs beside each other, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import evaluate
from rexdet.report.comparison.differences import run_differences
from rexdet.report.statistics.bootstrap import NUMBERS
from rexdet.runs import Data, Recipe, RunRecord, read_record, write_record
from rexdet.runs.parts import DataSplit

Compare = Callable[..., tuple[int, str, str]]


def test_the_numbers_are_those_of_the_evaluation(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    status, out, _ = compare(*two_runs, "--json")
    assert status == 0
    content = json.loads(out)
    numbers = [evaluate(saved_runs.annotations, run / "detections.json") for run in two_runs]
    for key in NUMBERS:
        row = content["numbers"][key]
        for name, evaluation in zip("AB", numbers, strict=True):
            assert row[name]["value"] == pytest.approx(evaluation.numbers[key])
        if numbers[0].numbers[key] is None:
            assert row["difference"]["value"] is None
        else:
            expected = numbers[1].numbers[key] - numbers[0].numbers[key]  # type: ignore[operator]
            assert row["difference"]["value"] == pytest.approx(expected)
            assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert content["numbers"]["AP"]["difference"]["shown"] is True
    # No object is large: nothing to compare, and no number that stands for it.
    assert content["numbers"]["APl"]["A"]["value"] is None
    assert content["numbers"]["APl"]["difference"]["p_value"] is None
    by_class = {row["name"]: row for row in content["per_class"]}
    for evaluation, name in zip(numbers, "AB", strict=True):
        for entry in evaluation.per_class:
            expected_ap = entry.numbers["AP"]
            value = by_class[entry.name][name]["value"]
            assert value is None if expected_ap is None else value == pytest.approx(expected_ap)
    # Sorted by what was won, the class without objects last.
    values = [row["difference"]["value"] for row in content["per_class"]]
    assert values[-1] is None
    assert values[:-1] == sorted(values[:-1], reverse=True)
    assert [content["errors"][name]["AP50"] for name in "AB"] == pytest.approx(
        [evaluation.numbers["AP50"] for evaluation in numbers]
    )


def test_images_won_and_lost_are_those_whose_own_ap_differs(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    content = json.loads(compare(*two_runs, "--json")[1])
    rows = content["images_won"] + content["images_lost"]
    assert content["images_without_objects"] == 1
    assert len(rows) + content["images_equal"] == 11
    assert len(content["images_won"]) > len(content["images_lost"])
    assert all(row["difference"] > 0 for row in content["images_won"])
    falls = [row["difference"] for row in content["images_won"]]
    assert falls == sorted(falls, reverse=True)
    first = content["images_won"][0]
    assert first["file_name"] == f"{first['image_id']}.png"
    # All its classes as one: objects and detections of different classes never overlap here.
    one_class = {
        **saved_runs.content,
        "categories": [{"id": 1, "name": "thing"}],
        "images": [image for image in saved_runs.content["images"] if image["id"] == first["image_id"]],
        "annotations": [
            {**entry, "category_id": 1}
            for entry in saved_runs.content["annotations"]
            if entry["image_id"] == first["image_id"]
        ],
    }
    for name, seed, found in (("A", 1, 0.5), ("B", 2, 0.95)):
        made = saved_runs.detections(seed, found)
        mine = made.take(made.image_ids == first["image_id"])
        alone = Detections(mine.image_ids, mine.boxes, mine.scores, np.ones(len(mine), np.int64))
        assert first[name] == pytest.approx(evaluate(one_class, alone).numbers["AP"])


def test_the_text_begins_with_what_differs(two_runs: tuple[Path, Path], compare: Compare) -> None:
    status, out, err = compare(*two_runs)
    assert (status, err) == (0, "")
    head, _, rest = out.partition("Numbers (box, 12 images)")
    lines = [" ".join(line.replace("|", " ").split()) for line in head.splitlines()]
    for expected in (
        "config MODEL.DEPTH 18 50",
        f"weights sha256 {'a' * 43}… {'b' * 43}…",
        "weights norm BN FrozenBN",
        "run seed 0 3",
        "versions torch 2.0 2.1",
        "Nothing differs in: data, recipe, machine.",
    ):
        assert expected in lines
    assert "OUTPUT_DIR" not in head
    order = [lines.index(line) for line in ("config MODEL.DEPTH 18 50", "weights norm BN FrozenBN")]
    assert order == sorted(order)
    assert "AP by class" in rest
    assert "Errors at IoU 0.5" in rest
    assert "B does better on" in rest
    assert "nan" not in out.lower()
    # Nothing annotated is a dash.
    (large,) = [line for line in rest.splitlines() if line.startswith("| APl")]
    assert large.replace("|", " ").split()[1:] == ["–"] * 8


def test_the_same_draws_give_the_same_answer(two_runs: tuple[Path, Path], compare: Compare) -> None:
    first, again, other = (compare(*two_runs, "--json", "--seed", seed)[1] for seed in (0, 0, 1))
    assert first == again != other


def test_turned_round_every_difference_changes_its_sign(two_runs: tuple[Path, Path], compare: Compare) -> None:
    there, back = (json.loads(compare(*pair, "--json")[1]) for pair in (two_runs, two_runs[::-1]))
    assert back["numbers"]["AP"]["difference"]["value"] == pytest.approx(-there["numbers"]["AP"]["difference"]["value"])
    assert {row["image_id"] for row in back["images_lost"]} == {row["image_id"] for row in there["images_won"]}


def test_a_run_beside_itself(two_runs: tuple[Path, Path], compare: Compare) -> None:
    content = json.loads(compare(two_runs[0], two_runs[0] / "record.json", "--json")[1])
    assert content["differences"] == []
    assert content["numbers"]["AP"]["difference"]["value"] == 0.0
    assert content["numbers"]["AP"]["difference"]["shown"] is False
    assert (content["images_won"], content["images_lost"], content["pictures"]) == ([], [], {})


def test_sheets_show_the_images_and_are_capped(two_runs: tuple[Path, Path], compare: Compare, tmp_path: Path) -> None:
    content = json.loads(compare(*two_runs, "--json", "--pictures", "2")[1])
    assert len(content["images_won"]) > 2
    with Image.open(content["pictures"]["won"]) as sheet:
        two = sheet.size
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000
    compare(*two_runs, "--pictures", "4")
    with Image.open(content["pictures"]["won"]) as sheet:
        # A row more is a picture and its title more.
        assert sheet.size[0] == two[0]
        assert sheet.size[1] > 1.5 * two[1]
    none = json.loads(compare(*two_runs, "--json", "--pictures", "0", "--output", tmp_path / "none")[1])
    assert none["pictures"] == {}
    assert not (tmp_path / "none").exists()


def test_pictures_that_are_gone_are_told_on_the_sheet(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    whole = compare(*two_runs, "--json")[1]
    for number, picture in enumerate(sorted(saved_runs.pictures.iterdir())):
        picture.unlink() if number % 2 else picture.write_bytes(b"no picture")
    status, out, _ = compare(*two_runs, "--json")
    assert status == 0
    assert json.loads(out) == json.loads(whole)
    with Image.open(json.loads(out)["pictures"]["won"]) as sheet:
        assert (np.asarray(sheet) == 128).all(axis=2).mean() > 0.1


def test_masks_are_compared_where_both_have_them(saved_runs: Any, compare: Compare) -> None:
    runs = [
        saved_runs.run(name, saved_runs.detections(seed, found, masks=True))
        for name, seed, found in (("one", 1, 0.5), ("other", 2, 0.9))
    ]
    status, out, _ = compare(*runs, "--type", "segm", "--json")
    assert status == 0
    expected = [evaluate(saved_runs.annotations, run / "detections.json", "segm").numbers["AP"] for run in runs]
    content = json.loads(out)
    assert [content["numbers"]["AP"][name]["value"] for name in "AB"] == pytest.approx(expected)
    boxes = saved_runs.run("boxes", saved_runs.detections(1, 0.5))
    status, out, err = compare(runs[0], boxes, "--type", "segm")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no masks" in err


def one_line(said: tuple[int, str, str], *words: str) -> None:
    status, out, err = said
    assert (status, out, err.count("\n")) == (2, "", 1), said
    for word in words:
        assert word in err


def test_runs_that_cannot_be_compared(saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare) -> None:
    one, other = two_runs
    one_line(compare(one, saved_runs.folder / "nowhere"), "nowhere", "no record of a run")
    one_line(compare(saved_runs.run("untold", None), other), "untold", "left no detections file", "--eval-only")
    one_line(compare(one, saved_runs.run("class", None, kind="transfer")), "class", "transfer run")
    one_line(compare(one, saved_runs.run("blind", None, data=Data())), "blind", "never evaluated")
    (saved_runs.folder / "blind" / "record.json").write_text("{")
    one_line(compare(one, saved_runs.folder / "blind"), "not JSON")
    gone = saved_runs.run("gone", saved_runs.detections(1, 0.5))
    (gone / "detections.json").unlink()
    one_line(compare(gone, other), "gone", "detections.json is gone")
    (gone / "detections.json").write_text('[{"image_id": 1}]')
    one_line(compare(gone, other), "entry 0 has no")
    future = json.loads((other / "record.json").read_text()) | {"schema_version": 99}
    (gone / "record.json").write_text(json.dumps(future))
    one_line(compare(one, gone), "schema version 99")


def test_an_output_that_is_a_file(two_runs: tuple[Path, Path], compare: Compare) -> None:
    file = two_runs[0] / "record.json"
    before = file.read_bytes()
    one_line(compare(*two_runs, "--output", file), "record.json", "name a folder")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ("--output", ""),
        ("--resamples", "10"),
        ("--resamples", "10000000"),
        ("--pictures", "-1"),
        ("--pictures", "1000"),
        ("--score-threshold", "2"),
        ("--score-threshold", "nan"),
        ("--seed", "-1"),
    ],
)
def test_numbers_out_of_range(words: tuple[str, str], two_runs: tuple[Path, Path], compare: Compare) -> None:
    one_line(compare(*two_runs, *words), words[1].replace("000000", ""))


def test_annotations_that_were_moved_or_changed(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.json"
    saved_runs.annotations.rename(moved)
    one_line(compare(*two_runs), "val.json", "--annotations")
    status, out, _ = compare(*two_runs, "--annotations", moved, "--images", saved_runs.pictures, "--json")
    assert status == 0
    assert json.loads(out)["images"] == 12
    changed = saved_runs.write_annotations("changed.json", {**saved_runs.content, "info": {"year": 1}})
    one_line(compare(*two_runs, "--annotations", changed), "changed.json", "is not the file")


def other_data(saved_runs: Any) -> tuple[Path, dict[str, Any]]:
    """The same pictures with other ids, in another order; two annotated otherwise, one missing, another class more."""
    content = json.loads(json.dumps(saved_runs.content))
    for image in content["images"]:
        image["id"] += 100
    for number, entry in enumerate(content["annotations"]):
        entry["image_id"] += 100
        entry["id"] = 900 - number
        entry["category_id"] += 10
    content["annotations"][0]["bbox"][2] += 1
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["image_id"] != 102 or entry["category_id"] == 11
    ]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 103]
    content["images"] = [image for image in reversed(content["images"]) if image["id"] != 103]
    content["categories"] = [{"id": 11, "name": "cat"}, {"id": 12, "name": "dog"}, {"id": 14, "name": "emu"}]
    return saved_runs.write_annotations("other.json", content), content


def test_different_data_is_refused_or_cut_to_what_is_shared(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    path, content = other_data(saved_runs)
    made = saved_runs.detections(2, 0.95)
    listed = np.isin(made.image_ids + 100, [image["id"] for image in content["images"]])
    theirs = made.take(listed)
    # A class that A does not know: its detections do not count.
    theirs = Detections(
        np.append(theirs.image_ids + 100, 105),
        np.vstack([theirs.boxes, [[0, 0, 9, 9]]]),
        np.append(theirs.scores, 1.0),
        np.append(theirs.category_ids + 10, 14),
    )
    run = saved_runs.run("elsewhere", theirs, annotations=path)
    one_line(compare(two_runs[0], run), "different validation data", "val.json", "other.json", "--intersect")
    status, out, _ = compare(two_runs[0], run, "--intersect", "--json")
    assert status == 0
    answer = json.loads(out)
    # Of twelve: 1 and 2 are annotated otherwise, 3 is missing.
    assert answer["images"] == 9
    assert any("9 images, of 12 and 11, and the 2 classes" in note for note in answer["notes"])
    assert [row["name"] for row in answer["per_class"]] == [
        row["name"] for row in answer["per_class"] if row["objects"]
    ]
    part = {
        **saved_runs.content,
        "images": [image for image in saved_runs.content["images"] if image["id"] > 3],
        "annotations": [entry for entry in saved_runs.content["annotations"] if entry["image_id"] > 3],
        "categories": saved_runs.content["categories"][:2],
    }
    for name, detections in (("A", saved_runs.detections(1, 0.5)), ("B", made)):
        expected = evaluate(part, detections.take(detections.image_ids > 3)).numbers["AP"]
        assert answer["numbers"]["AP"][name]["value"] == pytest.approx(expected)
    (data,) = [entry for entry in answer["differences"] if entry["field"] == "val.fingerprint"]
    assert data["group"] == "data"
    assert data["A"] != data["B"]


def test_data_with_nothing_in_common(saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare) -> None:
    content = json.loads(json.dumps(saved_runs.content))
    for image in content["images"]:
        image["file_name"] = "x" + image["file_name"]
    path = saved_runs.write_annotations("strange.json", content)
    run = saved_runs.run("strange", saved_runs.detections(1, 0.5), annotations=path)
    one_line(compare(two_runs[0], run, "--intersect"), "no image in common")
    one_line(compare(two_runs[0], run, "--intersect", "--annotations", path), "--intersect")


def test_what_a_reader_must_know_is_said(saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare) -> None:
    record = read_record(two_runs[1])
    train = DataSplit(path="train.json", limited=True)
    changed = record.model_copy(
        update={"status": "killed", "partial": ["3.png cannot be read"], "data": Data(train=train, val=record.data.val)}
    )
    write_record(two_runs[1], changed)
    notes = json.loads(compare(*two_runs, "--json")[1])["notes"]
    assert len(notes) == 3
    assert all(note.startswith("B ") for note in notes)
    text = compare(*two_runs)[1]
    for word in ("killed", "partial", "only a part of its training data"):
        assert word in text


def test_detections_that_are_not_the_records_are_told(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    assert json.loads(compare(*two_runs, "--json")[1])["notes"] == []
    saved_runs.detections(7, 0.3).save(two_runs[1] / "detections.json")
    (note,) = json.loads(compare(*two_runs, "--json")[1])["notes"]
    assert note.startswith("B's detections are not those of its record")


def test_long_values_are_cut_where_they_tell_least(saved_runs: Any, compare: Compare) -> None:
    deep = "/a/very/deep/folder/of/somebody/who/likes/folders"
    runs = [
        saved_runs.run(name, saved_runs.detections(1, 0.5), config=json.dumps({"WEIGHTS": path, "WORDS": words}))
        for name, path, words in (("one", f"{deep}/first.pth", "left " * 20), ("other", "", "right " * 20))
    ]
    out = compare(*runs)[1]
    (weights,) = [line for line in out.splitlines() if "WEIGHTS" in line]
    assert "first.pth" in weights
    assert '""' in weights
    (words,) = [line for line in out.splitlines() if "WORDS" in line]
    assert "left left" in words
    assert "…" in words
    assert max(map(len, (weights, words))) < 130
    assert f"{deep}/first.pth" in compare(*runs, "--whole")[1]


def test_odd_names_of_classes_and_pictures_do_not_break_the_tables(saved_runs: Any, compare: Compare) -> None:
    saved_runs.content["categories"][1]["name"] = "dog | wolf"
    saved_runs.annotations = saved_runs.write_annotations("odd.json", saved_runs.content)
    runs = [saved_runs.run(name, saved_runs.detections(seed, 0.6)) for name, seed in (("one", 1), ("other", 2))]
    out = compare(*runs)[1]
    (line,) = [line for line in out.splitlines() if "wolf" in line]
    assert line.startswith("| dog \\| wolf")
    assert line.replace("\\|", "").count("|") == 9


def test_configs_that_are_programs_are_told_line_by_line() -> None:
    one, other = (
        RunRecord(kind="detection", name="x", engine="mmdet", config=config)
        for config in (
            "work_dir = 'a'\nmodel = dict(\n    depth=18,\n)\n",
            "work_dir = 'b'\nmodel = dict(\n    depth=50,\n    frozen=1,\n)\n",
        )
    )
    (entry,) = [entry for entry in run_differences(one, other) if entry.group == "config"]
    assert (entry.field, entry.one, entry.other) == ("line 3", "depth=18,", "depth=50,\nfrozen=1,")
    # Of two engines the languages differ, not only the lines.
    third = RunRecord(kind="detection", name="x", engine="detectron2", config="A: 1")
    assert [entry.field for entry in run_differences(one, third)] == ["engine"]


def test_a_config_that_one_run_lacks_is_a_difference() -> None:
    one, other = (RunRecord(kind="detection", name="x", engine="mmdet", config=config) for config in ("a = 1", None))
    (entry,) = run_differences(one, other)
    assert (entry.group, entry.one, entry.other) == ("config", "told", "none")


def test_configs_of_two_engines_are_not_said_to_be_the_same(
    saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare
) -> None:
    third = saved_runs.run("third", saved_runs.detections(3, 0.5), engine="mmdet", config="model = dict(depth=18)\n")
    out = compare(two_runs[0], third)[1]
    assert "Configs of two engines are not compared" in out
    (line,) = [line for line in out.splitlines() if line.startswith("Nothing differs in")]
    assert "config" not in line
    assert "are not compared" not in compare(*two_runs)[1]


def test_what_the_recipe_says_is_not_said_twice(saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare) -> None:
    slow = Recipe(base_lr=0.001, iterations=100, differs_from_recipe=["base lr: 0.001 here, 0.01 in the config"])
    other = saved_runs.run("slow", saved_runs.detections(3, 0.5), recipe=slow)
    content = json.loads(compare(two_runs[0], other, "--json")[1])
    assert [entry["field"] for entry in content["differences"]] == ["base_lr"]


def test_sheets_where_no_file_can_be_made_are_one_line(two_runs: tuple[Path, Path], compare: Compare) -> None:
    status, out, err = compare(*two_runs, "--output", "/proc/sheets")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no file can be made in /proc" in err


def test_runs_that_find_nothing(saved_runs: Any, two_runs: tuple[Path, Path], compare: Compare) -> None:
    nothing = saved_runs.run("nothing", Detections.empty())
    for kind in ("bbox", "segm"):
        content = json.loads(compare(nothing, nothing, "--type", kind, "--json")[1])
        assert content["numbers"]["AP"]["B"]["value"] == 0.0
        assert content["errors"]["A"]["counts"]["missed"] == 33
    content = json.loads(compare(nothing, two_runs[1], "--json")[1])
    assert content["numbers"]["AP"]["difference"]["shown"] is True
    assert content["images_lost"] == []


def test_pictures_without_a_single_object(saved_runs: Any, compare: Compare) -> None:
    empty = saved_runs.write_annotations("empty.json", {**saved_runs.content, "annotations": []})
    runs = [
        saved_runs.run(name, saved_runs.detections(seed, 0.5), annotations=empty)
        for name, seed in (("one", 1), ("other", 2))
    ]
    status, out, _ = compare(*runs)
    assert status == 0
    assert "12 show no object" in out
    content = json.loads(compare(*runs, "--json")[1])
    assert content["numbers"]["AP"]["difference"]["value"] is None
    assert content["errors"]["A"]["AP50"] is None
    assert content["errors"]["A"]["counts"]["background"] > 0
