"""The runner for other detectron2s: it says why it skips, and runs the tests on the one that was named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def runner(setup_script: Callable[[str], ModuleType]) -> ModuleType:
    return setup_script("run_other_detectron2")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--python", ""], "no interpreter with detectron2 v0.6 was named (DETECTRON2_PYTHON="),
        (["--python", "/no/such/python"], "is not a program"),
        (["--source", ""], "no source folder of detectron2's main branch was named (DETECTRON2_SOURCE="),
        (["--source", "/no/such/folder"], "holds no detectron2/__init__.py"),
    ],
)
def test_what_is_absent_is_said_and_is_no_failure(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert runner.main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("skipped: ")
    assert reason in told


@pytest.mark.parametrize("version", ["0.5", "0.6+a59f0563.noops"])
def test_another_version_is_not_taken_for_v06(
    runner: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: str,
) -> None:
    (tmp_path / "detectron2.py").write_text('__version__ = "0.6"')
    information = tmp_path / f"detectron2-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: detectron2\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(Path(sys.executable).parent)
    assert runner.main(["--python", f"./{Path(sys.executable).name}"]) == 0
    assert f"has detectron2 {version}, not v0.6" in capsys.readouterr().out


def test_a_source_folder_comes_first_and_its_configs_are_found(
    runner: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "checkout"
    for name, text in {
        "detectron2/__init__.py": '__version__ = "main"',
        "detectron2/model_zoo/__init__.py": "",
        "configs/Base.yaml": "A: 1",
    }.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = sorted(source.rglob("*"))
    test = tmp_path / "test_seen.py"
    test.write_text(
        "import pathlib, detectron2, rexdet\n"
        "def test_seen():\n"
        "    assert detectron2.__version__ == 'main'\n"
        "    assert (pathlib.Path(detectron2.__file__).parent / 'model_zoo/configs/Base.yaml').is_file()\n"
    )
    status = runner.main(["--source", str(source), "--", "-q", "-p", "no:cacheprovider", str(test)])
    told = capfd.readouterr().out
    assert status == 0, told
    assert "tests on detectron2 main from" in told
    assert "1 passed" in told
    assert sorted(source.rglob("*")) == before
