"""What was found of an image is kept by its path, size and times, and looked at again when one of them changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from rexdet.transfer import scan as module
from rexdet.transfer.images import ImageFile, StoredImage
from rexdet.transfer.scan import cache_folder, scan


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are read, in order; the cache is the test's own, files count as settled."""
    names: list[str] = []

    def read(file: StoredImage) -> bytes:
        names.append(file.name)
        return file.path.read_bytes()

    monkeypatch.setattr(StoredImage, "read", read)
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**18))
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    return names


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return [StoredImage(f"{number}.png", str(tmp_path / f"{number}.png")) for number in range(3)]


def test_a_second_look_reads_nothing(files: list[ImageFile], reads: list[str]) -> None:
    first = scan(files, "set", "train")
    assert sorted(reads) == ["0.png", "1.png", "2.png"]
    reads.clear()
    assert scan(files, "set", "train") == first
    assert reads == []
    # Another split's findings lie in another file.
    assert scan(files, "set", "test") == first
    assert len(reads) == 3


def test_a_changed_file_is_read_again_and_alone(files: list[ImageFile], reads: list[str], tmp_path: Path) -> None:
    first = scan(files, "set", "train")
    reads.clear()
    (tmp_path / "1.png").write_bytes((tmp_path / "2.png").read_bytes())
    os.utime(tmp_path / "1.png", ns=(1, 1))
    second = scan(files, "set", "train")
    assert reads == ["1.png"]
    assert [found.digest for found in second] == [first[0].digest, first[2].digest, first[2].digest]


def test_damage_is_remembered_until_it_is_repaired(files: list[ImageFile], reads: list[str], tmp_path: Path) -> None:
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:40])
    for _ in range(2):
        assert "cannot be read as an image" in (scan(files, "set", "train")[1].problem or "")
    assert len(reads) == 3
    (tmp_path / "1.png").write_bytes(whole)
    assert scan(files, "set", "train")[1].problem is None


def test_a_file_that_has_just_changed_is_not_trusted(
    files: list[ImageFile], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLED_NS", 10**18)
    scan(files, "set", "train")
    scan(files, "set", "train")
    assert len(reads) == 6


def test_missing_files_are_told_and_looked_for_again(files: list[ImageFile], reads: list[str], tmp_path: Path) -> None:
    (tmp_path / "0.png").rename(tmp_path / "x.png")
    assert scan(files, "set", "train")[0].problem == "is missing"
    (tmp_path / "x.png").rename(tmp_path / "0.png")
    assert scan(files, "set", "train")[0].problem is None


def test_a_damaged_or_read_only_cache_costs_time_alone(
    files: list[ImageFile], reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan(files, "set", "train")
    (kept,) = cache_folder("images").rglob("*.json")
    for damaged in ('{"files": {"0.png": [1]', '{"files": []}', '{"files": {"0.png": 3}}'):
        kept.write_text(damaged)
        assert scan(files, "set", "train") == first
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("REXDET_CACHE", str(blocked))
    with pytest.warns(UserWarning, match="cannot be kept in .*REXDET_CACHE names another folder"):
        assert scan(files, "set", "train") == first
