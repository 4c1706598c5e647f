"""An installed wheel works from any folder: configs, package data, console command; nothing else leaks into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy: a build writes beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        if (repository / name).is_file():
            shutil.copy(repository / name, source)
    # tests/ and tools/ are copied on purpose: the wheel must leave them out.
    for name in ("rexdet", "configs", "transfer", "tools", "tests"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    output = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    done = subprocess.run([*command, "--wheel-dir", str(output), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = output.glob("rexdet-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into."""
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run_there(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in another folder, with the installed wheel ahead of this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_every_config_and_data_file_is_in_it_and_nothing_of_tests_or_tools(repository: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rexdet"}
    for path in (repository / "configs").rglob("*"):
        if path.suffix in (".yaml", ".py"):
            assert f"rexdet/shipped_configs/{path.relative_to(repository / 'configs').as_posix()}" in names
    for path in (repository / "transfer").glob("*.yaml"):
        assert f"rexdet/shipped_protocols/{path.name}" in names
    for path in (repository / "rexdet").rglob("*"):
        if path.suffix in (".py", ".yaml", ".safetensors", ".tsv", ".css", ".js") or path.name == "py.typed":
            assert path.relative_to(repository).as_posix() in names


def test_get_config_finds_the_installed_files_from_another_folder(
    repository: Path, installed: Path, tmp_path: Path
) -> None:
    names = sorted(path.stem for path in (repository / "configs").glob("*.yaml"))
    assert "retinanet_rexnet" in names
    code = f"import rexdet; print('\\n'.join(rexdet.get_config(name) for name in {names!r}))"
    done = run_there(installed, tmp_path, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    for name, found in zip(names, done.stdout.split(), strict=True):
        path = Path(found)
        assert path == installed / "rexdet" / "shipped_configs" / f"{name}.yaml"
        assert path.read_bytes() == (repository / "configs" / f"{name}.yaml").read_bytes()


def test_a_base_of_an_installed_config_resolves(installed: Path, tmp_path: Path) -> None:
    code = (
        "import rexdet, rexdet.detectron2\n"
        "from detectron2.config import get_cfg\n"
        "cfg = get_cfg()\n"
        "cfg.merge_from_file(rexdet.get_config('retinanet_rexnet'))\n"
        "print(cfg.MODEL.META_ARCHITECTURE, rexdet.__file__)\n"
    )
    pytest.importorskip("detectron2", reason="detectron2 is not installed (make setup)")
    done = run_there(installed, tmp_path, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["RetinaNet", str(installed / "rexdet" / "__init__.py")]


def test_the_console_command_has_the_verbs_of_tools(repository: Path, installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "rexdet"
    if not command.is_file():
        command = installed / "Scripts" / "rexdet.exe"
    done = run_there(installed, tmp_path, str(command), "--help")
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0].replace("-", "_") for line in done.stdout.splitlines() if line.startswith("  ")}
    # transfer/run.py is the one verb whose script lies elsewhere.
    assert listed == {path.stem for path in (repository / "tools").glob("*.py")} | {"transfer"}
    done = run_there(installed, tmp_path, str(command), "train-det", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: rexdet train-det")


def test_an_unknown_verb_is_one_line_and_status_2(installed: Path, tmp_path: Path) -> None:
    done = run_there(installed, tmp_path, sys.executable, "-m", "rexdet.cli", "paint")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "paint" in done.stderr
