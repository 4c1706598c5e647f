"""What a disk refuses is one line and status 2, whichever command meets it; what is our fault keeps its traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rexdet.cli import execute, show_run

Fail = Callable[[], object]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Fail], tuple[int, str]]:
    """Runs a command that does something; returns the exit status and what it said."""

    def run(fail: Fail) -> tuple[int, str]:
        monkeypatch.setattr(show_run, "run", lambda arguments: fail())
        return execute("show_run", ["a"]), capsys.readouterr().err

    return run


def test_what_the_disk_refuses_is_one_line_that_names_the_file(failing, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refusals: list[tuple[Fail, str]] = [
        (lambda: tmp_path.write_text(""), f"{tmp_path}: is a folder, and a file is needed"),
        (lambda: (file / "below").read_text(), f"{file}/below: lies below a file"),
        (lambda: file.mkdir(), f"{file}: is a file, and a folder is needed"),
        (lambda: (tmp_path / ("x" * 300)).read_text(), "the name is longer than this disk takes"),
        (lambda: (tmp_path / "circle").read_text(), f"{tmp_path}/circle: links lead in a circle here"),
        (lambda: os.replace(file, tmp_path / "folder"), f"{tmp_path}/folder: is a folder"),
    ]
    for fail, line in refusals:
        status, said = failing(fail)
        assert status == 2, said
        assert said.startswith("error: ")
        assert line in said
        assert said.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_though_it_names_no_file(failing) -> None:
    def fill() -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    assert failing(fill) == (2, "error: no room is left on this disk\n")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_other_refusals(failing, number: int) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "some/file")

    status, said = failing(refuse)
    assert (status, said.count("\n")) == (2, 1)
    assert "some/file: " in said


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file", "some/file"),
        OSError(errno.EIO, "Input/output error", "some/file"),
        OSError(errno.EACCES, "Permission denied"),
        OSError("of no number"),
        ValueError("something else"),
    ],
)
def test_what_may_be_our_fault_keeps_its_traceback(failing, error: Exception) -> None:
    def fault() -> None:
        raise error

    status, said = failing(fault)
    assert status == 1
    assert "Traceback" in said


def test_a_reader_that_goes_away_is_no_error(failing, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet:
        def close(self) -> None: ...

        def write(self, text: str) -> None: ...

    monkeypatch.setattr("sys.stderr", Quiet())

    def gone() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert failing(gone)[0] == 0


def test_a_name_that_is_no_text_is_printed_as_escapes(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(show_run, "run", lambda arguments: print(os.fsdecode(b"caf\xe9")) or 0)
    assert execute("show_run", ["a"]) == 0
    assert capsys.readouterr().out == "caf\\udce9\n"
