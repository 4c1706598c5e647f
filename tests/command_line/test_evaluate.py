"""`tools/evaluate.py`: the table, the JSON that scripts read, and mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rexdet.cli import execute
from rexdet.coco.evaluate import KEYS

BOX = [10.0, 10.0, 20.0, 20.0]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """One small cup found, one missed; a class without objects; no iscrowd and no area."""
    annotations: dict[str, Any] = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in (1, 2)],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "spoon"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": BOX} for n in (1, 2)],
    }
    detections = [{"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.9}]
    paths = tmp_path / "instances.json", tmp_path / "detections.json"
    for path, content in zip(paths, (annotations, detections), strict=True):
        path.write_text(json.dumps(content))
    return paths


def options(files: tuple[Path, Path], *more: str) -> list[str]:
    return ["--annotations", str(files[0]), "--detections", str(files[1]), *more]


def test_json_has_the_12_numbers_at_its_top(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("evaluate", options(files, "--json")) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content)[:12] == list(KEYS)
    assert content["AR100"] == 0.5
    assert content["AP"] == pytest.approx(51 / 101)
    assert content["APl"] is None
    assert content["counts"]["objects"] == 2
    assert content["no_ground_truth"] == ["spoon"]
    assert content["filled_in"] == {"iscrowd-missing": 2, "area-missing": 2}
    assert "per_class" not in content


def test_json_by_class(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("evaluate", options(files, "--json", "--per-class")) == 0
    classes = json.loads(capsys.readouterr().out)["per_class"]
    assert [(entry["name"], entry["objects"]) for entry in classes] == [("cup", 2), ("spoon", 0)]
    assert classes[0]["AP50"] == pytest.approx(51 / 101)
    assert classes[1]["AP50"] is None


def test_table(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("evaluate", options(files, "--per-class")) == 0
    text = capsys.readouterr().out
    assert "50.5" in text
    assert "–" in text
    assert "no ground truth" in text
    assert "2 images (0 without objects), 2 objects, 0 crowd regions, 1 detection\n" in text
    assert "2 × area-missing" in text


@pytest.mark.parametrize(
    ("which", "content", "told"),
    [
        (1, [{"image_id": "1", "category_id": 1, "bbox": BOX, "score": 0.9}], "whole number"),
        (1, [{"image_id": 999, "category_id": 1, "bbox": BOX, "score": 0.9}], "999"),
        (1, {"images": [], "annotations": [], "categories": []}, "is an annotation file"),
        (0, [{"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.9}], "instances.json"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], which: int, content: Any, told: str
) -> None:
    files[which].write_text(json.dumps(content))
    assert execute("evaluate", options(files)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert captured.err.count("\n") == 1


def test_masks_that_are_not_there_are_one_line(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("evaluate", options(files, "--type", "segm")) == 2
    assert capsys.readouterr().err.endswith("these detections have no masks; evaluate boxes (bbox)\n")


def test_the_script_loads_no_engine_and_no_torch(files: tuple[Path, Path], repository: Path) -> None:
    code = (
        "import sys; from rexdet.cli import execute; status = execute('evaluate', sys.argv[1:]);"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'detectron2', 'mmdet'}); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *options(files, "--json")], capture_output=True, text=True, cwd=repository
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("set()\n")


def test_a_closer_look_at_the_same_file(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["--json"]
    assert execute("evaluate", options(files, *plain)) == 0
    numbers = json.loads(capsys.readouterr().out)
    asked = ["--intervals", "--errors", "--calibration", "--thresholds", "2"]
    assert execute("evaluate", options(files, *asked, *plain)) == 0
    content = json.loads(capsys.readouterr().out)
    assert {key: content[key] for key in numbers} == numbers
    assert list(content)[len(numbers) :] == ["intervals", "errors", "calibration", "thresholds"]
    # Two images: a number, and no interval that two images could support.
    assert content["intervals"]["AP"]["value"] == pytest.approx(numbers["AP"])
    assert content["intervals"]["AP"]["low"] is None
    assert content["errors"]["counts"]["missed"] == 1
    assert content["errors"]["per_class"]["spoon"] == dict.fromkeys(content["errors"]["counts"], 0)
    assert content["calibration"]["bins"][9]["precision"] == 1.0
    assert (content["thresholds"]["beta"], content["thresholds"]["chosen_on"]) == (2.0, 1)
    assert execute("evaluate", options(files, *asked)) == 0
    text = capsys.readouterr().out
    for part in ("95% interval", "costs (AP50)", "Expected calibration error 0.100", "chosen on 1 images"):
        assert part in text
    assert "nan" not in text.lower()
    assert "None" not in text


@pytest.mark.parametrize("beta", ["1e200", "1e-200"])
@pytest.mark.filterwarnings("error")
def test_an_extreme_beta_is_scored(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], beta: str) -> None:
    assert execute("evaluate", options(files, "--thresholds", beta)) == 0
    assert "nan" not in capsys.readouterr().out
    assert execute("evaluate", options(files, "--thresholds", beta, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["thresholds"]["beta"] == float(beta)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("text", ["[" * 200_000, '[{"image_id": ' + "9" * 5000 + "}]"])
def test_damaged_files_are_one_line(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], which: int, text: str
) -> None:
    files[which].write_text(text)
    assert execute("evaluate", options(files)) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert files[which].name in said.err


def test_a_beta_that_is_none_is_one_line(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("evaluate", options(files, "--thresholds", "-1")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "beta is -1" in said.err
