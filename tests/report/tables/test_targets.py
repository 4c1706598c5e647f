"""What can be written is known before anything is read, also where permissions tell nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.report.tables.targets import check_file, check_folder


@pytest.mark.parametrize("path", ["/proc/x", "/proc/x/y"])
def test_no_file_can_be_made_in_what_is_no_disk(path: str) -> None:
    # The super-user may write there, as the system has it, and no file can be made all the same.
    for check in (check_file, check_folder):
        with pytest.raises(UserError, match=f"--csv {path}: (no file can be made in|the folder) /proc"):
            check(Path(path), "--csv")


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(UserError, match=r"no file can be made in .* \(No space left on device\)"):
        check_file(tmp_path / "x", "--csv")


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_file(tmp_path / "deep" / "x.csv", "--csv")
    check_folder(tmp_path / "deep", "--output")
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_a_name_that_are_no_letters_are_written_as_escapes(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "x", "\udcff.png, ä")
    assert (tmp_path / "x").read_text() == "\\udcff.png, ä"
