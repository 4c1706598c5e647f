"""Where COCO is looked for, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexdet.coco.layout import find_coco
from rexdet.errors import UserError


def _make(base: Path) -> None:
    (base / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (base / f"{split}2017").mkdir()
        (base / "annotations" / f"instances_{split}2017.json").write_text("{}")


@pytest.mark.parametrize("below", ["", "coco"])
def test_the_standard_layout_is_found(tmp_path: Path, below: str) -> None:
    _make(tmp_path / below)
    paths = find_coco(tmp_path)
    assert paths.train_annotations == tmp_path / below / "annotations" / "instances_train2017.json"
    assert paths.val_images == tmp_path / below / "val2017"
    assert paths.train_images.is_dir()
    assert paths.val_annotations.is_file()


def test_the_variable_of_detectron2_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path / "coco")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert find_coco().val_images == tmp_path / "coco" / "val2017"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").symlink_to(tmp_path)
    assert find_coco().val_images.is_dir()


def test_what_is_missing_is_one_line_with_the_ways_on(tmp_path: Path) -> None:
    _make(tmp_path / "coco")
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(UserError) as caught:
        find_coco(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "coco" / "annotations" / "instances_val2017.json") in message
    assert "instances_train2017.json" not in message
    for way in ("--data-root", "--train-annotations", "--dataset embedded"):
        assert way in message


def test_nothing_at_all_lists_all_four(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_coco(tmp_path / "nowhere")
    for name in ("instances_train2017.json", "instances_val2017.json", "train2017", "val2017"):
        assert name in str(caught.value)
