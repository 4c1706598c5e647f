"""Set up `.venv`: what `make setup`, `make quickstart` and `make test` run first. Standard library only, no compiler.

    make_environment.py runtime        the virtual environment, the pinned packages, detectron2 and rexdet itself
    make_environment.py development    what the tests and checks need besides
    make_environment.py mmdet          MMDetection, with mmcv less its compiled operators (rexdet has torchvision's)
    make_environment.py mmcv-ops       mmcv with its own operators: compiled here, in minutes (needs a compiler)

All may be run again at any time. Exit status: 0 done, 2 with one line that says what is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
OLDEST = (3, 10)
NEWEST_TRIED = (3, 12)
MMCV = "mmcv==2.1.0"
MMCV_LITE = "mmcv-lite"
# Compiled mmcv is all that looks like this in ninja's output: [12/77] c++ -MMD ...
_BUILD_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


class SetupError(Exception):
    """What keeps the environment from being set up, in one line that ends with what to do."""


class Environment:
    """A virtual environment and the installer that fills it: uv, or pip where uv cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = programs / "python"
        self.uv = programs / "uv"

    def create(self) -> None:
        """Make the environment unless it is there and its Python runs."""
        if self.python.exists() and _succeeds([str(self.python), "-m", "pip", "--version"]):
            return
        with _Step(f"environment {self.folder.name} (Python {sys.version.split()[0]})"):
            # ensurepip is what Debian packs apart from Python itself, and what `venv` needs it for.
            if not _succeeds([sys.executable, "-c", "import venv, ensurepip"]):
                raise SetupError(
                    "this Python has no venv module; install it (Debian: apt-get install python3-venv), "
                    "then run make setup again"
                )
            _run([sys.executable, "-m", "venv", "--clear", str(self.folder)], "the environment could not be made")

    def find_uv(self) -> None:
        """Put uv into the environment; without it pip does the same work, more slowly."""
        if self.uv.exists():
            return
        with _Step("uv, the installer") as step:
            pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = _capture([*pip, "-r", str(REQUIREMENTS / "installer.txt")])
            if done.returncode != 0:
                step.remark = f"not to be had ({_last_line(done.stderr)}): pip goes on, more slowly"

    def install(self, *arguments: str) -> None:
        """Install what pip's `arguments` say, with uv, or with pip where uv is absent or refused.

        Source packages are built with the pinned setuptools of this environment, so that nothing but the pinned
        lists is ever downloaded.
        """
        if self.uv.exists():
            command = [str(self.uv), "pip", "install", "--quiet", "--python", str(self.python)]
            settings = settings_for_uv(_capture([str(self.python), "-m", "pip", "config", "list"]).stdout)
            done = _capture([*command, "--no-build-isolation", *arguments], {**settings, **os.environ})
            if done.returncode == 0:
                return
            print(f"\n   uv was refused ({_complaint(done.stderr)}); trying pip", flush=True)
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*command, "--no-build-isolation", *arguments], "the packages could not be installed")

    def uninstall(self, name: str) -> None:
        """Remove a package that may be there."""
        command = [str(self.python), "-m", "pip", "uninstall", "--yes", "--quiet", "--disable-pip-version-check", name]
        _run(command, f"{name} could not be removed")

    def holds(self, name: str, version: str = "") -> bool:
        """Whether a distribution of exactly this name (and version) is installed."""
        code = f"import importlib.metadata as m, sys; found = m.version({name!r})"
        wanted = f"{code}; sys.exit({version!r} not in ('', found))"
        return _succeeds([str(self.python), "-c", wanted])


class _Step:
    """One line on the screen for one step: what it is, then how long it took."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.remark = ""

    def __enter__(self) -> _Step:
        self.started = time.monotonic()
        print(f"-- {self.title} ...", end="", flush=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        seconds = time.monotonic() - self.started
        print(f" failed after {seconds:.0f} s" if kind else f" {self.remark or 'done'} ({seconds:.0f} s)", flush=True)


def set_up(group: str, folder: Path) -> None:
    """Bring one group of packages into the environment in `folder`."""
    check_python(sys.version_info[:2])
    environment = Environment(folder)
    environment.create()
    environment.find_uv()
    if group == "development":
        with _Step("packages for tests and checks"):
            environment.install("-r", str(REQUIREMENTS / "development.txt"))
        return
    if group == "mmdet":
        install_mmdet(environment)
        return
    if group == "mmcv-ops":
        compile_mmcv(environment)
        return
    with _Step("build tools"):
        environment.install("-r", str(REQUIREMENTS / "build.txt"))
    with _Step("torch and the packages that rexdet runs with (about 5 GB unpacked the first time)"):
        environment.install("-r", str(REQUIREMENTS / "runtime.txt"))
    installer = str(Path(__file__).with_name("install_detectron2.py"))
    with _Step("detectron2") as step:
        done = _capture([str(environment.python), installer])
        if done.returncode != 0:
            raise SetupError(_last_line(done.stderr).removeprefix("error: "))
        step.remark = _last_line(done.stdout)
    with _Step("rexdet itself"):
        environment.install("--no-deps", "--editable", str(ROOT))


def install_mmdet(environment: Environment) -> None:
    """MMDetection and the mmcv that needs no compiler; a compiled mmcv that is there stays, and no second one comes."""
    pins = (REQUIREMENTS / "mmdet.txt").read_text().splitlines()
    with _Step("MMDetection") as step, tempfile.TemporaryDirectory() as folder:
        if environment.holds("mmcv") and not environment.holds(*MMCV.split("==")):
            # mmdet refuses younger ones, and torch of today has no place for older ones.
            environment.uninstall("mmcv")
        if environment.holds("mmcv"):
            pins = [pin for pin in pins if not pin.startswith(f"{MMCV_LITE}==")]
            step.remark = "done, over the compiled mmcv that is there"
        wanted = Path(folder) / "mmdet.txt"
        wanted.write_text("\n".join(pins) + "\n")
        environment.install("-r", str(wanted), "-c", str(REQUIREMENTS / "runtime.txt"))
    if not _succeeds([str(environment.python), "-c", "import cv2"]):
        version = next(pin.partition("==")[2] for pin in pins if pin.startswith("opencv-python=="))
        with _Step("OpenCV without windows, since this system has no libGL"):
            # Both own the folder cv2.
            environment.uninstall("opencv-python")
            environment.install("--no-deps", f"opencv-python-headless=={version}")


def compile_mmcv(environment: Environment) -> None:
    """Build mmcv with its operators for the torch of the environment, and put it in the place of mmcv-lite.

    On the CPU 77 files, 9 to 13 minutes on two cores; with FORCE_CUDA=1 and a CUDA toolkit CUDA's operators as well.
    Until the build has succeeded nothing in the environment changes.
    """
    if environment.holds(*MMCV.split("==")):
        print("-- mmcv with its operators is installed already", flush=True)
        return
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name):
        raise SetupError("no C++ compiler; install one (Debian: apt-get install g++ python3-dev), then make mmcv-ops")
    with _Step("ninja, which runs the compiler"):
        environment.install("ninja==1.13.0")
    with tempfile.TemporaryDirectory() as folder:
        build_wheel(environment, Path(folder))
        wheels = sorted(Path(folder).glob("mmcv-*.whl"))
        if len(wheels) != 1:
            raise SetupError("the build of mmcv left no wheel; the lines above are the compiler's")
        with _Step(f"{MMCV} in the place of {MMCV_LITE}"):
            # Both own the folder mmcv, so the one goes before the other comes.
            environment.uninstall(MMCV_LITE)
            environment.install("--no-deps", str(wheels[0]))


def build_wheel(environment: Environment, folder: Path) -> None:
    """Compile mmcv into a wheel in `folder`, with a line that counts the files done."""
    programs = f"{environment.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = {"MMCV_WITH_OPS": "1", "MAX_JOBS": str(os.cpu_count() or 1), **os.environ, "PATH": programs}
    pip = [str(environment.python), "-m", "pip", "wheel", "--verbose", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--no-binary", "mmcv", "--wheel-dir", str(folder), MMCV]
    started = time.monotonic()
    last: list[str] = []
    print(f"-- {MMCV}: fetching its source", end="", flush=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, env=settings
    ) as build:
        assert build.stdout is not None
        for line in build.stdout:
            last = [*last[-29:], line]
            step = _BUILD_STEP.match(line)
            if step:
                minutes, seconds = divmod(round(time.monotonic() - started), 60)
                shown = f"compiled {step[1]} of {step[2]} files, {minutes} min {seconds:02d} s"
                print(f"\r-- {MMCV}: {shown}   ", end="", flush=True)
    print(flush=True)
    if build.returncode != 0:
        sys.stderr.writelines(last)
        raise SetupError(f"{MMCV} could not be compiled; the lines above are the compiler's")


def check_python(version: tuple[int, ...]) -> None:
    """Raise SetupError for a Python that is too old; warn for one that nobody has tried."""
    shown = ".".join(str(number) for number in version)
    if version < OLDEST:
        raise SetupError(
            f"this is Python {shown}, and rexdet needs 3.10 or newer; "
            "run it with another one: make setup PYTHON=/path/to/python3.11"
        )
    if version > NEWEST_TRIED:
        print(f"-- warning: Python {shown} has not been tried (3.10 to 3.12 have); the pins may not fit", flush=True)


def settings_for_uv(pip_settings: str) -> dict[str, str]:
    """The variables that hand pip's package index and certificates on to uv, which does not read pip's settings.

    pip_settings: what `pip config list` prints (`pip config get` overlooks all files but one).
    """
    values = dict(line.split("=", 1) for line in pip_settings.splitlines() if "=" in line)
    handed_on: dict[str, str] = {}
    for option, variable in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        for section in (":env:", "install", "global"):
            if f"{section}.{option}" in values and variable not in handed_on:
                handed_on[variable] = values[f"{section}.{option}"].strip("'\"")
    return handed_on


def _capture(command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)


def _succeeds(command: Sequence[str]) -> bool:
    return _capture(command).returncode == 0


def _run(command: Sequence[str], complaint: str) -> None:
    done = _capture(command)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise SetupError(f"{complaint} ({_last_line(done.stderr)}); the lines above are the installer's")


def _complaint(text: str) -> str:
    """The line of uv's message that tells the cause, shortened: hints come after it, at length."""
    told = [line for line in text.splitlines() if "Caused by" in line or line.startswith("error")]
    line = " ".join((told or [_last_line(text)])[-1].split())
    return line if len(line) <= 160 else f"{line[:157]}..."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("group", choices=("runtime", "development", "mmdet", "mmcv-ops"))
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv", help="the environment (default: .venv)")
    parsed = parser.parse_args(arguments)
    try:
        set_up(parsed.group, parsed.folder)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
