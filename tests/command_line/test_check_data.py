"""`tools/check_data.py`: exit status, one line a finding, leaks, sheets, and the cleaned copy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.cli import execute
from rexdet.coco.annotations import read_annotations

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


class Data:
    """A sound set of three pictures of 64x48 and two classes, to be spoilt."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.images = folder / "images"
        self.file = folder / "annotations.json"
        self.images.mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for number in (1, 2, 3):
            noise = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(self.images / f"{number}.png")
        self.content: dict[str, Any] = {
            "info": {"description": "made for a test"},
            "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in (1, 2, 3)],
            "annotations": [self.annotation(n, n) for n in (1, 2, 3)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }

    @staticmethod
    def annotation(number: int, image: int, **changes: Any) -> dict[str, Any]:
        entry = {"id": number, "image_id": image, "category_id": 1 + number % 2, "bbox": [10, 10, 20, 20], "area": 400}
        return entry | {"iscrowd": 0, "segmentation": [SQUARE]} | changes

    def options(self, *more: object) -> list[str]:
        self.file.write_text(json.dumps(self.content))
        return ["--annotations", str(self.file), "--images", str(self.images), *map(str, more)]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "data")


def test_sound_data_can_be_trained_on(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("check_data", data.options()) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "can be trained on" in out
    assert "64 to 64, median 64" in out
    rows = [line.split() for line in out.splitlines() if " cat " in line or " dog " in line]
    assert rows == [["1", "cat", "1", "0", "1"], ["2", "dog", "2", "0", "2"]]


def test_refused_data_is_exit_2_with_every_finding_a_line(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.content["annotations"] += [
        data.annotation(3, 1),
        data.annotation(5, 1, category_id=9),
        data.annotation(6, 1, bbox=[60, 40, 30, 30], segmentation=[]),
    ]
    (data.images / "2.png").write_bytes(b"<html>")
    assert execute("check_data", data.options()) == 2
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.endswith("]") and str(data.file) in line]
    codes = [line.rsplit(" ", 2)[1:] for line in lines]
    assert codes[:3] == [["[refuse:", f"{c}]"] for c in ("annotation-id-twice", "category-unknown")] + [
        ["[skip:", "image-unreadable]"]
    ]
    assert ["[mend:", "box-past-border]"] in codes
    assert "6 on 1.png" in out
    assert "it is a web page" in out
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_a_cut_file_whose_header_is_whole_is_found(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    # C37: a check before training finds them all.
    path = data.images / "2.png"
    path.write_bytes(path.read_bytes()[:2000])
    (data.images / "3.png").write_bytes(b"")
    assert execute("check_data", data.options()) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if "image-unreadable" in line)
    assert "2.png: " in line
    assert "truncated" in line
    assert "3.png: " in line
    assert ": 2 (" in line


def test_no_readable_image_is_refused(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    for path in data.images.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    assert execute("check_data", data.options()) == 2
    assert "images of all annotations are unreadable" in capsys.readouterr().out


def test_masks_that_cannot_be_unpacked_are_found(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.content["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": [100, 5]}
    data.content["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": "~~~"}
    data.content["annotations"][2]["segmentation"] = {"size": [48, 64], "counts": [100, 400, 48 * 64 - 500]}
    assert execute("check_data", data.options()) == 2
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "mask-broken" in line)
    assert "annotation 1: its runs cover 105 pixels instead of 3072" in line
    assert "annotation 2: " in line
    assert "annotation 3" not in line


def test_json_output(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.content["annotations"][0]["bbox"] = [60, 40, 30, 30]
    data.content["annotations"][0]["segmentation"] = []
    assert execute("check_data", data.options("--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["refused"] is False
    assert result["statistics"]["images"] == 3
    assert result["statistics"]["per_class"][0] == {"id": 1, "name": "cat", "annotations": 1, "crowds": 0, "images": 1}
    found = {item["code"]: item for item in result["findings"]}
    assert found["box-past-border"]["action"] == "mend"
    assert found["box-past-border"]["first"] == [1]
    data.content["annotations"][0]["category_id"] = 77
    assert execute("check_data", data.options("--json")) == 2
    assert json.loads(capsys.readouterr().out)["refused"] is True


@pytest.mark.parametrize("how", ["bytes", "pixels"])
def test_leaks_between_train_and_val(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    val = Data(tmp_path / "val", seed=1)
    val.content["categories"].append({"id": 3, "name": "cow"})
    if how == "bytes":
        shutil.copy(data.images / "2.png", val.images / "3.png")
    else:
        Image.open(data.images / "2.png").save(val.images / "3.png", compress_level=1)
    both = [*data.options(), "--val-annotations", val.options()[1], "--val-images", str(val.images)]
    assert execute("check_data", both) == 0
    out = capsys.readouterr().out
    assert f"leak: image 3 of the validation set is image 2 of the training set (same {how})" in out
    assert "images in both sets: 1" in out
    assert "classes that only the validation set lists: cow" in out
    assert execute("check_data", [*both, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["leaks"] == [{"train": 2, "val": 3, "same": how}]


def test_copies_inside_a_set_are_told(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data.images / "1.png", data.images / "3.png")
    assert execute("check_data", data.options()) == 0
    assert "images with the same pixels as another, by id: 1 (3 = 1)" in capsys.readouterr().out


def test_sheets_of_pictures_a_class(data: Data, tmp_path: Path) -> None:
    assert execute("check_data", data.options("--output", tmp_path / "out")) == 0
    sheets = sorted((tmp_path / "out" / "classes").iterdir())
    assert len(sheets) == 2
    assert all(Image.open(sheet).size[0] > 60 for sheet in sheets)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--val-annotations", "x.json"], "belong together"),
        (["--config", "x.yaml"], "--output"),
        (["--annotations", "nowhere.json"], "no such annotation file"),
        (["--images", "nowhere"], "no such folder"),
        (["--wrong"], "--help"),
    ],
)
def test_mistakes_are_one_line(data: Data, capsys: pytest.CaptureFixture[str], more: list[str], part: str) -> None:
    assert execute("check_data", data.options(*more)) == 2
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


def test_without_images_the_file_alone_is_looked_at(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    options = data.options()
    shutil.rmtree(data.images)
    assert execute("check_data", options[:2]) == 0
    assert execute("check_data", [*options[:2], "--fix", "anywhere"]) == 2
    assert "--images" in capsys.readouterr().err


def test_the_script_runs(data: Data, repository: Path) -> None:
    command = [sys.executable, str(repository / "tools" / "check_data.py"), *data.options()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, env={"PYTHONPATH": str(repository)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("can be trained on\n")


# --- --fix ------------------------------------------------------------------------------------------------------


def _spoil(data: Data) -> None:
    """Everything that can be mended, at once."""
    (data.images / "deep").mkdir()
    (data.images / "1.png").rename(data.images / "deep" / "1.png")
    data.content["images"][0] |= {"id": "1", "file_name": "C:\\elsewhere\\1.png", "licence": 7}
    data.content["images"][1] = {"id": 2, "file_name": "2.png"}
    (data.images / "3.png").write_bytes(b"<html>")
    data.content["annotations"] = [
        data.annotation(1, 1, bbox=[-5, -5, 20, 20], segmentation=[[-5, -5, 15, -5, 15, 15, -5, 15]], note="kept"),
        data.annotation(2, 1, bbox=[5, 5, 0, 10]),
        data.annotation(3, 1, bbox=[70, 5, 10, 10], segmentation=[]),
        data.annotation(4, 2, area=99_999),
        data.annotation(5, 2, segmentation=SQUARE),
        data.annotation(6, 2, segmentation=[[10, 10], [30, 10], [30, 30], [10, 30]]),
        data.annotation(7, 2, segmentation=[[10, 10, 30, 30], SQUARE]),
        data.annotation(8, 3),
        data.annotation(9, 2, image_id="2", area=-1, iscrowd=True),
        {"image_id": 2, "category_id": 2, "bbox": [10, 10, 20, 20]},
    ]


def test_a_cleaned_copy_is_clean_and_lists_its_changes(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _spoil(data)
    target = tmp_path / "clean"
    options = data.options("--fix", target)
    before = data.file.read_bytes()
    files_before = {path: path.read_bytes() for path in data.images.rglob("*.png")}
    mended = read_annotations(data.file, data.images, purpose="train")
    assert execute("check_data", options) == 0, capsys.readouterr().out
    assert sorted(path.name for path in target.iterdir()) == ["annotations.json", "changes.json", "images"]
    assert data.file.read_bytes() == before
    assert {path: path.read_bytes() for path in data.images.rglob("*.png")} == files_before

    copy = read_annotations(target / "annotations.json", target / "images")
    assert {finding.action for finding in copy.findings} <= {"accept"}
    assert [entry.file_name for entry in copy] == ["deep/1.png", "2.png"]
    assert [copy.annotations(index) for index in range(2)] == [mended.annotations(index) for index in range(2)]
    content = json.loads((target / "annotations.json").read_text())
    assert content["info"] == {"description": "made for a test"}
    assert content["images"][0]["licence"] == 7
    assert content["annotations"][0]["note"] == "kept"

    changes = json.loads((target / "changes.json").read_text())
    dropped = {(item["kind"], item["id"]) for item in changes if "dropped" in item}
    assert dropped == {("image", 3), ("annotation", 2), ("annotation", 3), ("annotation", 8)}
    changed = {(item["kind"], item["id"], item["key"]): (item["from"], item["to"]) for item in changes if "key" in item}
    assert changed["annotation", 1, "bbox"] == ([-5, -5, 20, 20], [0, 0, 15, 15])
    assert changed["image", 1, "file_name"] == ("C:\\elsewhere\\1.png", "deep/1.png")
    assert changed["image", 1, "id"] == ("1", 1)
    assert changed["image", 2, "width"] == (None, 64)
    assert changed["annotation", 4, "area"] == (99_999, 400)
    assert changed["annotation", 9, "iscrowd"] == (True, 1)
    assert changed["annotation", 10, "id"] == (None, 10)
    assert not [key for key in changed if key[:2] == ("annotation", 2)]


def test_sound_data_is_copied_without_a_change(data: Data, tmp_path: Path) -> None:
    assert execute("check_data", data.options("--fix", tmp_path / "clean")) == 0
    assert json.loads((tmp_path / "clean" / "changes.json").read_text()) == []
    assert json.loads((tmp_path / "clean" / "annotations.json").read_text()) == data.content


def test_refused_data_is_not_copied(data: Data, tmp_path: Path) -> None:
    data.content["annotations"][0]["category_id"] = 77
    assert execute("check_data", data.options("--fix", tmp_path / "clean")) == 2
    assert not (tmp_path / "clean").exists()


def test_nothing_is_written_over(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "full"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    for place, part in (
        (target, "not empty"),
        (data.images, "not empty"),
        (data.images / "below", "among the images"),
        (data.file, "is a file"),
    ):
        assert execute("check_data", data.options("--fix", place)) == 2
        assert part in capsys.readouterr().err
    assert (target / "mine.txt").read_text() == "mine"
    assert not (data.images / "below").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert execute("check_data", data.options("--fix", empty)) == 0


def test_a_copy_that_fails_leaves_nothing(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rexdet.coco import clean

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(clean, "_bring_images", fail)
    before = set(tmp_path.iterdir())
    assert execute("check_data", data.options("--fix", tmp_path / "clean")) == 1
    assert set(tmp_path.iterdir()) == before


def test_turned_pictures_keep_their_declared_size_in_the_copy(data: Data, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(5).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data.images / "1.png", exif=exif)
    assert execute("check_data", data.options("--fix", tmp_path / "clean")) == 0
    copy = read_annotations(tmp_path / "clean" / "annotations.json", tmp_path / "clean" / "images")
    assert copy.turned.tolist() == [True, False, False]
