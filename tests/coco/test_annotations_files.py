"""Image entries and their files: where they are looked for, sizes, EXIF, and what cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.coco import picture_headers
from rexdet.coco.annotations import read_annotations
from rexdet.coco.images import load_image
from rexdet.coco.picture_headers import read_header
from rexdet.errors import UserError


def test_sub_folders_are_below_the_root(small_set: Any) -> None:
    small_set.picture("deep/er/3.jpg")
    small_set.content["images"][0]["file_name"] = "deep/er/3.jpg"
    assert small_set.codes() == {}
    assert small_set.open().image(0).path == small_set.images / "deep/er/3.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "..\\..\\media\\upload\\4\\1.jpg",
        "C:\\pictures\\1.jpg",
        "../elsewhere/1.jpg",
        "../images/1.jpg",
        "/home/somebody/1.jpg",
        "train/1.jpg",
        "sub/../1.jpg",
        "1.JPG",
    ],
)
def test_names_that_lead_elsewhere_are_found_by_base_name(small_set: Any, name: str) -> None:
    small_set.content["images"][0]["file_name"] = name
    assert small_set.codes() == {"file-by-base-name": ("mend", 1)}
    entry = small_set.open().image(0)
    assert entry.path == small_set.images / "1.jpg"
    assert entry.file_name == name


def test_base_names_are_found_in_sub_folders(small_set: Any) -> None:
    small_set.picture("deep/3.jpg")
    small_set.content["images"][0]["file_name"] = "other\\3.jpg"
    assert small_set.codes() == {"file-by-base-name": ("mend", 1)}
    assert small_set.open().image(0).path == small_set.images / "deep/3.jpg"


def test_an_absolute_name_inside_the_root_is_that_file(small_set: Any) -> None:
    small_set.content["images"][0]["file_name"] = str(small_set.images.absolute() / "1.jpg")
    assert small_set.codes() == {}


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "..\\secret.jpg", "sub/../../secret.jpg", "secret.jpg", "..", "/", "a\0b"]
)
def test_no_name_leads_out_of_the_root(small_set: Any, name: str) -> None:
    outside = small_set.picture("../secret.jpg")
    assert outside.resolve() == (small_set.folder / "secret.jpg").resolve()
    small_set.content["images"][0]["file_name"] = name
    assert small_set.codes()["image-missing"] == ("refuse", 1)
    assert small_set.open().image(0).path is None


def test_an_absolute_name_outside_the_root_is_not_read(small_set: Any) -> None:
    outside = small_set.picture("../secret.jpg").resolve()
    small_set.content["images"][0]["file_name"] = str(outside)
    assert small_set.codes()["image-missing"] == ("refuse", 1)


def test_missing_files_are_refused_by_name(small_set: Any) -> None:
    small_set.content["images"][1]["file_name"] = "nowhere.jpg"
    for purpose in ("train", "evaluate"):
        with pytest.raises(UserError, match=r"nowhere\.jpg"):
            small_set.open(purpose).raise_if_refused()
    # Without a folder nobody asks for the files.
    read_annotations(small_set.write()).raise_if_refused()


def test_a_base_name_that_fits_two_files_is_refused(small_set: Any) -> None:
    small_set.picture("a/3.jpg")
    small_set.picture("b/3.jpg")
    small_set.content["images"][0]["file_name"] = "c/3.jpg"
    assert small_set.codes()["image-ambiguous"] == ("refuse", 1)


def test_two_entries_of_one_file_are_refused(small_set: Any) -> None:
    small_set.content["images"][1]["file_name"] = "elsewhere/1.jpg"
    assert small_set.codes()["image-file-twice"] == ("refuse", 1)


# --- sizes and EXIF ---------------------------------------------------------------------------------------------


def test_missing_sizes_are_taken_from_the_files(small_set: Any) -> None:
    small_set.picture("1.jpg", (100, 30))
    small_set.content["images"][0] = {"id": 1, "file_name": "1.jpg"}
    small_set.content["images"][1].pop("height")
    for purpose in ("train", "evaluate"):
        assert small_set.codes(purpose) == {"image-size-missing": ("accept", 2)}
        dataset = small_set.open(purpose)
        assert dataset.image_sizes.tolist() == [[100, 30], [64, 48]]
    # Without the files there is nowhere to take them from; boxes can still be scored.
    without = read_annotations(small_set.file)
    with pytest.raises(UserError, match="without width or height"):
        without.raise_if_refused()
    read_annotations(small_set.file, purpose="evaluate").raise_if_refused()


def test_a_declared_size_unlike_the_files_is_refused(small_set: Any) -> None:
    small_set.picture("2.jpg", (48, 64))
    for purpose in ("train", "evaluate"):
        with pytest.raises(UserError, match=r"2\.jpg \(declared 64x48, file 48x64\)"):
            small_set.open(purpose).raise_if_refused()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_turns_a_picture_to_its_declared_size(small_set: Any, orientation: int) -> None:
    # C34 (b): the JSON is in upright coordinates.
    small_set.picture("1.jpg", (48, 64), orientation=orientation)
    assert small_set.codes() == {"exif-turned": ("accept", 1)}
    dataset = small_set.open()
    assert dataset.turned.tolist() == [True, False]
    entry = dataset.image(0)
    assert load_image(entry.path, (entry.width, entry.height)).shape == (48, 64, 3)


def test_exif_is_not_applied_where_the_declared_size_is_the_stored_one(small_set: Any) -> None:
    # C34 (a): the JSON is in stored coordinates.
    path = small_set.picture("1.jpg", (64, 48), orientation=6)
    assert small_set.codes() == {"exif-not-applied": ("accept", 1)}
    assert load_image(path, (64, 48)).shape == (48, 64, 3)
    assert (load_image(path, (64, 48)) == np.asarray(Image.open(path))).all()


def test_exif_that_contradicts_the_boxes_is_one_line(small_set: Any) -> None:
    # Declared as stored (64x48), but the box reaches y = 60: it was drawn on the upright 48x64 picture.
    small_set.picture("1.jpg", (64, 48), orientation=6)
    small_set.content["annotations"][0]["bbox"] = [5, 20, 20, 40]
    assert small_set.codes()["exif-contradicts-boxes"] == ("refuse", 1)
    # Declared as upright (64x48), but the box fits the stored picture (48x64) alone.
    small_set.picture("1.jpg", (48, 64), orientation=6)
    found = small_set.codes()
    assert found["image-size-differs"] == ("refuse", 1)


def test_a_missing_size_is_the_one_that_the_boxes_fit(small_set: Any) -> None:
    small_set.content["images"][0] = {"id": 1, "file_name": "1.jpg"}
    small_set.picture("1.jpg", (64, 48), orientation=6)
    assert small_set.open().image_sizes[0].tolist() == [64, 48]
    small_set.content["annotations"][0]["bbox"] = [5, 20, 20, 40]
    dataset = small_set.open()
    assert dataset.image_sizes[0].tolist() == [48, 64]
    assert dataset.turned[0]


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_headers_agree_with_pillow(tmp_path: Path, kind: str, orientation: int) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description that is longer than four bytes"
    path = tmp_path / f"a.{kind}"
    picture.save(path, **({} if kind == "gif" else {"exif": exif}))
    with Image.open(path) as again:
        expected = (*again.size, again.getexif().get(0x0112, 1))
    assert read_header(str(path)) == expected


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"quality": 30, "optimize": True}, {"comment": b"x" * 60_000}]
)
def test_headers_of_other_jpegs(tmp_path: Path, options: Any) -> None:
    Image.new("CMYK", (51, 37)).save(tmp_path / "a.jpg", **options)
    assert read_header(str(tmp_path / "a.jpg")) == (51, 37, 1)


def test_headers_behind_a_large_exif_block(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    exif[0x927C] = b"m" * 40_000
    Image.new("RGB", (51, 37)).save(tmp_path / "a.jpg", exif=exif)
    assert read_header(str(tmp_path / "a.jpg")) == (51, 37, 8)


# --- files that cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_unreadable_images_are_skipped_and_counted(small_set: Any, content: bytes) -> None:
    # C37
    (small_set.images / "2.jpg").write_bytes(content)
    for purpose in ("train", "evaluate"):
        assert small_set.codes(purpose)["image-unreadable"] == ("skip", 1)
    dataset = small_set.open()
    dataset.raise_if_refused()
    assert len(dataset) == 2
    assert dataset.unreadable.tolist() == [False, True]


def test_all_images_unreadable_is_nothing_to_train_on(small_set: Any) -> None:
    for number in (1, 2):
        (small_set.images / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="images of all annotations are unreadable"):
        small_set.open().raise_if_refused()
    small_set.open("evaluate").raise_if_refused()


def test_a_folder_that_may_not_be_read_is_one_line(small_set: Any) -> None:
    small_set.images.chmod(0)
    try:
        if list_works(small_set.images):
            pytest.skip("this user may read everything")
        with pytest.raises(UserError, match="cannot be read"):
            small_set.open()
    finally:
        small_set.images.chmod(0o755)


def list_works(folder: Path) -> bool:
    """Whether the folder can be listed."""
    try:
        next(folder.iterdir(), None)
    except PermissionError:
        return False
    return True


@pytest.mark.parametrize("wait", [0.0, 1.0])
def test_hundreds_of_headers_are_read_by_one_thread_or_by_many(
    small_set: Any, monkeypatch: pytest.MonkeyPatch, wait: float
) -> None:
    monkeypatch.setattr(picture_headers, "_WAIT", wait)
    for number in range(3, 400):
        shutil.copy(small_set.images / "1.jpg", small_set.images / f"{number}.jpg")
        small_set.content["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48})
    for number in (100, 333):
        small_set.picture(f"{number}.jpg", (48, 48))
    found = {finding.code: finding for finding in small_set.open().findings}
    assert found["image-size-differs"].first == (100, 333)
