"""The environment's script: versions, settings that are handed on, and the way round a refused uv."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script(setup_script: Callable[[str], ModuleType]) -> ModuleType:
    return setup_script("make_environment")


def test_an_old_python_is_refused_and_a_new_one_warned_about(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(script.SetupError, match=r"Python 3\.9.*3\.10 or newer.*PYTHON="):
        script.check_python((3, 9))
    for version in ((3, 10), (3, 11), (3, 12)):
        script.check_python(version)
    assert capsys.readouterr().out == ""
    script.check_python((3, 14))
    assert "3.14 has not been tried" in capsys.readouterr().out


def test_pips_index_and_certificates_reach_uv(script: ModuleType) -> None:
    listed = "\n".join(
        [
            ":env:.timeout='30'",
            "global.cert='/etc/own.pem'",
            "global.extra-index-url='https://other.invalid/simple'",
            "global.index-url='https://global.invalid/simple?a=b'",
            "install.index-url='https://install.invalid/simple'",
        ]
    )
    assert script.settings_for_uv(listed) == {
        "UV_DEFAULT_INDEX": "https://install.invalid/simple",
        "SSL_CERT_FILE": "/etc/own.pem",
    }
    assert script.settings_for_uv("") == {}


class Runs:
    """Stands in for subprocess.run: remembers the commands, and fails those that start with one of `refused`."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        status = 1 if command[0].endswith(self.refused) else 0
        message = "error: Failed to fetch\n  Caused by: no route\nhint: look it up" if status else ""
        return subprocess.CompletedProcess(command, status, stdout="", stderr=message)


def make(script: ModuleType, folder: Path, *, uv: bool) -> Any:
    environment = script.Environment(folder)
    environment.python.parent.mkdir(parents=True)
    if uv:
        environment.uv.touch()
    return environment


def test_a_refused_uv_hands_the_same_words_to_pip(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs("uv")
    monkeypatch.setattr(script.subprocess, "run", runs)
    make(script, tmp_path, uv=True).install("-r", "list.txt")
    installs = [command for command in runs.commands if "install" in command]
    assert [Path(command[0]).name for command in installs] == ["uv", "python"]
    assert all(command[-3:] == ["--no-build-isolation", "-r", "list.txt"] for command in installs)
    assert "uv was refused (Caused by: no route)" in capsys.readouterr().out


def test_without_uv_pip_does_the_work(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    monkeypatch.setattr(script.subprocess, "run", runs)
    make(script, tmp_path, uv=False).install("-r", "list.txt")
    assert [command[1:4] for command in runs.commands] == [["-m", "pip", "install"]]


def test_when_both_are_refused_one_line_says_so(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.subprocess, "run", Runs("uv", "python"))
    with pytest.raises(script.SetupError, match="packages could not be installed"):
        make(script, tmp_path, uv=True).install("-r", "list.txt")


def test_the_pins_are_exact_name_no_address_and_serve_every_python(repository: Path) -> None:
    markers = pytest.importorskip("packaging.requirements", reason="packaging reads the markers")
    lists = {name: (repository / "requirements" / f"{name}.txt").read_text() for name in ("runtime", "development")}
    for text in (*lists.values(), (repository / "requirements" / "build.txt").read_text()):
        assert "://" not in text
        for line in text.splitlines():
            requirement = markers.Requirement(line)
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), line
    for version in ("3.10", "3.11", "3.12"):
        environment = {"python_version": version, "python_full_version": f"{version}.1", "sys_platform": "linux"}
        chosen = [
            requirement.name.lower().replace("_", "-")
            for requirement in map(markers.Requirement, "".join(lists.values()).splitlines())
            if requirement.marker is None or requirement.marker.evaluate(environment)
        ]
        assert len(chosen) == len(set(chosen)), f"pinned twice for Python {version}"
        for name in ("torch", "numpy", "pillow", "pycocotools", "fvcore", "pytest", "timm", "scikit-learn"):
            assert name in chosen


def test_the_pins_lie_within_the_ranges(repository: Path) -> None:
    """setup.py's ranges and the pinned lists are two files: a range that moved without its pin would go unseen."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.version import Version

    try:
        declared = metadata.requires("rexdet") or []
    except metadata.PackageNotFoundError:
        pytest.skip("rexdet is not installed here (make setup does it)")
    pins: dict[str, list[Version]] = {}
    for name in ("runtime", "development", "mmdet"):
        for line in (repository / "requirements" / f"{name}.txt").read_text().splitlines():
            pin = Requirement(line)
            version = Version(str(pin.specifier).removeprefix("=="))
            pins.setdefault(pin.name.lower().replace("_", "-"), []).append(version)
    for requirement in map(Requirement, declared):
        name = requirement.name.lower().replace("_", "-")
        assert name in pins, f"{name} is not pinned"
        assert all(version in requirement.specifier for version in pins[name]), requirement


class Installed:
    """Stands in for subprocess.run: an environment that holds `distributions`, in which `broken` imports fail."""

    def __init__(self, *distributions: str, broken: str = "") -> None:
        self.distributions = distributions
        self.broken = broken
        self.commands: list[list[str]] = []
        self.lists: list[str] = []

    def __call__(self, command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        status = 0
        code = command[2] if command[1:2] == ["-c"] else ""
        if "m.version(" in code:
            status = 0 if any(repr(name) in code for name in self.distributions) else 1
        elif code == f"import {self.broken}":
            status = 1
        elif "-r" in command:
            self.lists.append(Path(command[command.index("-r") + 1]).read_text())
        return subprocess.CompletedProcess(command, status, stdout="", stderr="")

    def words(self, word: str) -> list[list[str]]:
        return [command for command in self.commands if word in command]


def test_mmdetection_comes_with_the_mmcv_that_needs_no_compiler_and_moves_no_other_pin(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Installed()
    monkeypatch.setattr(script.subprocess, "run", runs)
    script.install_mmdet(make(script, tmp_path, uv=True))
    assert "mmcv-lite==2.1.0\n" in runs.lists[0]
    (command,) = runs.words("-c") and [command for command in runs.commands if "-r" in command]
    assert Path(command[command.index("-c") + 1]).name == "runtime.txt"
    assert not runs.words("uninstall")


def test_a_compiled_mmcv_stays_alone(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Installed("mmcv")
    monkeypatch.setattr(script.subprocess, "run", runs)
    environment = make(script, tmp_path, uv=True)
    script.install_mmdet(environment)
    assert "mmdet==" in runs.lists[0]
    assert "mmcv" not in runs.lists[0].replace("mmdet", "")
    before = len(runs.commands)
    script.compile_mmcv(environment)
    assert all("install" not in command for command in runs.commands[before:])


def test_another_mmcv_than_the_one_that_works_makes_room(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = make(script, tmp_path, uv=True)
    held = {"mmcv": "2.2.0"}

    def holds(self: object, name: str, version: str = "") -> bool:
        return name in held and version in ("", held[name])

    monkeypatch.setattr(script.Environment, "holds", holds)
    runs = Installed()
    monkeypatch.setattr(script.subprocess, "run", runs)
    monkeypatch.setattr(script.Environment, "uninstall", lambda self, name: held.pop(name))
    script.install_mmdet(environment)
    assert not held
    assert "mmcv-lite==2.1.0" in runs.lists[0]


def test_without_libgl_opencv_comes_without_windows(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Installed(broken="cv2")
    monkeypatch.setattr(script.subprocess, "run", runs)
    script.install_mmdet(make(script, tmp_path, uv=True))
    assert runs.words("uninstall")[0][-1] == "opencv-python"
    assert runs.words("install")[-1][-1].startswith("opencv-python-headless==")


def test_mmcv_is_not_taken_away_before_its_successor_is_built(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Installed()
    monkeypatch.setattr(script.subprocess, "run", runs)
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    environment = make(script, tmp_path, uv=True)
    with pytest.raises(script.SetupError, match=r"no C\+\+ compiler.*make mmcv-ops"):
        script.compile_mmcv(environment)

    # A build that prints what ninja prints, and fails.
    environment.python.write_text("#!/bin/sh\necho '  [1/77] c++ -c a.cpp'\necho '  [2/77] c++ -c b.cpp'\nexit 1\n")
    environment.python.chmod(0o755)
    monkeypatch.setattr(script.shutil, "which", lambda name: "/usr/bin/c++")
    with pytest.raises(script.SetupError, match="could not be compiled"):
        script.compile_mmcv(environment)
    assert not runs.words("uninstall")
    shown = capsys.readouterr()
    assert "compiled 2 of 77 files" in shown.out
    assert "b.cpp" in shown.err


def test_the_list_for_mmdetection_repeats_no_pin_with_another_version() -> None:
    lists = Path(__file__).parents[2] / "requirements"
    pinned: dict[str, set[str]] = {}
    for name in ("runtime.txt", "development.txt"):
        for line in (lists / name).read_text().splitlines():
            package, _, version = line.partition(";")[0].strip().partition("==")
            pinned.setdefault(package, set()).add(version)
    for line in (lists / "mmdet.txt").read_text().splitlines():
        package, equals, version = line.partition(";")[0].strip().partition("==")
        assert equals, line
        assert version in pinned.get(package, {version}), line
