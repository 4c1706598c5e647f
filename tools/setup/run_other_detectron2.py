"""Run the tests on another detectron2 than the set-up's: an installed v0.6, or the source folder of its main branch.

    run_other_detectron2.py --python PYTHON -- [words for pytest]    an interpreter with detectron2 v0.6 and pytest
    run_other_detectron2.py --source FOLDER -- [words for pytest]    a checkout; it is read, never written to

Where there is none, one line says so and the exit status is 0. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The set-up's own detectron2 says 0.6 as well, being younger; only its distribution tells.
LOOK = """
import importlib.metadata, detectron2, pytest
try:
    print(importlib.metadata.version("detectron2"))
except importlib.metadata.PackageNotFoundError:
    print(detectron2.__version__)
"""


class AbsentError(Exception):
    """Why the tests cannot run on the detectron2 that was asked for."""


def installed_v06(python: str) -> str:
    """The interpreter, once it is known to have detectron2 v0.6 and pytest."""
    if not python:
        raise AbsentError("no interpreter with detectron2 v0.6 was named (DETECTRON2_PYTHON=/path/to/its/python)")
    found = shutil.which(python)
    if found is None:
        raise AbsentError(f"DETECTRON2_PYTHON={python} is not a program")
    # The tests run in other folders than the one that a relative path was typed in.
    found = os.path.abspath(found)
    done = subprocess.run([found, "-c", LOOK], capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise AbsentError(f"{python} cannot import detectron2 and pytest ({reason})")
    version = done.stdout.strip().splitlines()[-1]
    if not version.startswith("0.6") or version.endswith(".noops"):
        raise AbsentError(f"{python} has detectron2 {version}, not v0.6")
    return found


def source_folder(source: str) -> Path:
    """The folder of a detectron2 checkout."""
    if not source:
        raise AbsentError("no source folder of detectron2's main branch was named (DETECTRON2_SOURCE=/path/to/it)")
    folder = Path(source).resolve()
    if not (folder / "detectron2" / "__init__.py").is_file():
        raise AbsentError(f"DETECTRON2_SOURCE={source} holds no detectron2/__init__.py")
    return folder


def importable_copy(source: Path, folder: Path) -> Path:
    """Copy the package of a checkout to `folder`, with the configs where an installation puts them."""
    package = folder / "detectron2"
    shutil.copytree(source / "detectron2", package, ignore=shutil.ignore_patterns("configs", "__pycache__"))
    # The checkout's own setup.py links them there when it is run.
    shutil.copytree(source / "configs", package / "model_zoo" / "configs")
    return folder


def run_tests(python: str, search_path: Sequence[Path], words: Sequence[str]) -> int:
    """Run pytest with `search_path` ahead of what `python` has installed; returns its exit status."""
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([*map(str, search_path), str(ROOT), *([inherited] if inherited else [])])
    environment = {**os.environ, "PYTHONPATH": path}
    shown = subprocess.run(
        [python, "-c", "import detectron2; print(detectron2.__version__, 'from', detectron2.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"tests on detectron2 {shown.stdout.strip()}", flush=True)
    return subprocess.run([python, "-m", "pytest", *words], env=environment, cwd=ROOT).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns pytest's exit status, 0 where there is nothing to run on."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--python", help="an interpreter with detectron2 v0.6 and pytest")
    which.add_argument("--source", help="a source folder of detectron2's main branch")
    parser.add_argument("words", nargs="*", help="words for pytest")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.python is not None:
            return run_tests(installed_v06(parsed.python), [], parsed.words)
        source = source_folder(parsed.source)
        with tempfile.TemporaryDirectory() as folder:
            return run_tests(sys.executable, [importable_copy(source, Path(folder))], parsed.words)
    except AbsentError as reason:
        print(f"skipped: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
