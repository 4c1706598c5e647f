"""detectron2's installer on forged wheels, and on the real one where this machine has it."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

INIT = "detectron2/__init__.py"
OFFICIAL = {INIT: b'__version__ = "0.6"\n', "detectron2/layers.py": b"LAYERS = 1\n", "detectron2/zoo/a.yaml": b"A: 1\n"}
LICENCE = b"the licence\n"
INFO = "sal_detectron2-0.7.2.dist-info"


def blob(data: bytes) -> str:
    """git's own definition, written down a second time."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


FILE_LIST = {name: blob(data) for name, data in OFFICIAL.items()}


def forge(path: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    """A small wheel as its publisher would have made it; `changes` replaces, adds or (None) removes files."""
    content: dict[str, bytes | None] = {
        **OFFICIAL,
        INIT: b'__version__ = "0.7.2"\n',
        "detectron2/_C.cpython-310-x86_64-linux-gnu.so": b"\x7fELF",
        "detectron2/projects/deeplab/__init__.py": b"",
        "tools/train_net.py": b"",
        f"{INFO}/LICENSE": LICENCE,
        f"{INFO}/METADATA": b"Name: sal-detectron2\n",
        **(changes or {}),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def take(installer: ModuleType, wheel: Path) -> tuple[dict[str, bytes], bytes, list[str]]:
    return installer.official_files(wheel, FILE_LIST, license_blob=blob(LICENCE))


def test_official_files_are_taken_and_binaries_are_not(installer: ModuleType, tmp_path: Path) -> None:
    files, licence, left_out = take(installer, forge(tmp_path / "a.whl"))
    assert files == OFFICIAL
    assert licence == LICENCE
    assert "detectron2/_C.cpython-310-x86_64-linux-gnu.so" in left_out
    assert set(left_out) & set(OFFICIAL) == set()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"detectron2/layers.py": b"LAYERS = 2\n"}, "detectron2/layers.py is not the official file"),
        ({"detectron2/layers.py": None}, "detectron2/layers.py is missing"),
        ({"detectron2/extra.py": b""}, "holds detectron2/extra.py, which the official package does not"),
        ({"other_package/__init__.py": b""}, "holds other_package/__init__.py"),
        ({"../evil.py": b""}, "holds ../evil.py"),
        ({INIT: b'__version__ = "0.7.3"\n'}, f"{INIT} is not the official file"),
        ({f"{INFO}/LICENSE": b"other words\n"}, "LICENSE is not the official one"),
        ({f"{INFO}/LICENSE": None}, "LICENSE is not the official one"),
    ],
)
def test_any_difference_is_refused_by_name(
    installer: ModuleType, tmp_path: Path, changes: dict[str, bytes | None], named: str
) -> None:
    with pytest.raises(installer.SetupError) as caught:
        take(installer, forge(tmp_path / "a.whl", changes))
    assert named in str(caught.value)
    assert "nothing was installed" in str(caught.value)


def test_a_name_that_comes_twice_is_refused(installer: ModuleType, tmp_path: Path) -> None:
    wheel = forge(tmp_path / "a.whl")
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("detectron2/layers.py", OFFICIAL["detectron2/layers.py"])
    with pytest.raises(installer.SetupError, match=r"holds detectron2/layers\.py twice"):
        take(installer, wheel)


def test_a_wrong_hash_ends_with_one_line_and_status_2(
    installer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = forge(tmp_path / "a.whl")
    assert installer.main(["--wheel", str(wheel), "--build-only", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in told
    assert not (tmp_path / "out").exists()
    assert installer.main(["--wheel", str(tmp_path / "absent.whl"), "--build-only", str(tmp_path / "out")]) == 2
    assert "absent.whl" in capsys.readouterr().err


def test_what_is_no_zip_file_is_refused(installer: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"<html>404</html>")
    with pytest.raises(installer.SetupError, match="not a zip file"):
        take(installer, tmp_path / "a.whl")


def check_wheel(path: Path) -> dict[str, bytes]:
    """Every rule that an installer relies on: the RECORD lists each file with its hash and size."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    (record_name,) = (name for name in content if name.endswith(".dist-info/RECORD"))
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(content[record_name].decode()))}
    assert rows.keys() == content.keys()
    for name, data in content.items():
        expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert rows[name] == (("", "") if name == record_name else (f"sha256={expected}", str(len(data))))
    return content


def test_the_written_wheel_is_sound_and_the_same_every_time(installer: ModuleType, tmp_path: Path) -> None:
    first = installer.write_wheel(tmp_path / "a", OFFICIAL, LICENCE)
    second = installer.write_wheel(tmp_path / "b", dict(reversed(OFFICIAL.items())), LICENCE)
    assert first.read_bytes() == second.read_bytes()
    content = check_wheel(first)
    assert {name: content[name] for name in OFFICIAL} == OFFICIAL
    info = f"detectron2-{installer.VERSION}.dist-info"
    assert content[f"{info}/LICENSE"] == LICENCE
    assert b"Root-Is-Purelib: true" in content[f"{info}/WHEEL"]
    assert not any(name.endswith((".so", ".pyc")) for name in content)


def run_pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pip_installs_and_lists_it(installer: ModuleType, tmp_path: Path) -> None:
    wheel = installer.write_wheel(tmp_path / "wheel", OFFICIAL, LICENCE)
    target = str(tmp_path / "target")
    run_pip("install", "--quiet", "--no-index", "--no-deps", "--target", target, str(wheel))
    listed = run_pip("list", "--path", target, "--format", "freeze")
    assert listed.split() == [f"detectron2=={installer.VERSION}"]
    command = [sys.executable, "-c", "import detectron2; print(detectron2.__version__, detectron2.__file__)"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=target).stdout.split()
    assert shown == ["0.6", str(Path(target, INIT))]


def test_the_version_says_commit_and_lack(installer: ModuleType) -> None:
    from packaging.version import Version

    version = Version(installer.VERSION)
    assert version.public == "0.6"
    assert version.local == f"{installer.OFFICIAL_COMMIT}.noops"
    text = installer.metadata()
    assert f"Version: {version}" in text
    for lacking in ("rotated boxes", "deformable convolution", "COCOeval_opt"):
        assert lacking in text.split("Summary:")[1].splitlines()[0]


def test_blob_ids_are_gits(installer: ModuleType) -> None:
    # `git hash-object` of an empty file, and of "hello\n".
    assert installer.git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert installer.git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_committed_list_covers_the_package(installer: ModuleType) -> None:
    files = installer.read_file_list()
    assert len(files) == 285
    assert INIT in files
    assert all(name.startswith("detectron2/") and len(name_id) == 40 for name, name_id in files.items())
    assert not any(name.endswith(installer.BINARY_ENDINGS) for name in files)


def test_it_runs_without_any_package(repository: Path) -> None:
    """The script is run before anything is installed: -I -S hides every package, and old syntax is not the point."""
    script = repository / "tools" / "setup" / "install_detectron2.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(script), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("install_detectron2.py", "make_environment.py", "run_other_detectron2.py"):
        tree = ast.parse((repository / "tools" / "setup" / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            else:
                continue
            assert all(module.split(".")[0] in sys.stdlib_module_names for module in imported), (name, imported)


# A detectron2 that is there already: what the probe makes of it, in a Python that finds it on its path.


def with_detectron2(monkeypatch: pytest.MonkeyPatch, folder: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        path = folder / "detectron2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


EMPTY = {"config.py": "", "modeling.py": "", "model_zoo.py": ""}


def test_one_that_imports_is_used_as_it_is(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_detectron2(monkeypatch, tmp_path, {"__init__.py": '__version__ = "0.6"', **EMPTY})
    found = installer.look_for_detectron2()
    assert (found.state, found.version, found.folder) == ("usable", "0.6", str(tmp_path / "detectron2"))
    # A wheel that does not exist: it must not even be looked at.
    assert installer.main(["--wheel", str(tmp_path / "absent.whl")]) == 0
    assert "used as it is" in capsys.readouterr().out


def test_one_that_is_too_old_is_named(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_detectron2(monkeypatch, tmp_path, {"__init__.py": '__version__ = "0.5.1"', **EMPTY})
    assert installer.main([]) == 2
    told = capsys.readouterr().err
    assert "0.5.1" in told
    assert "uninstall" in told


@pytest.mark.parametrize(
    ("body", "told"),
    [("from PIL import NOTHING_SUCH", "ImportError: cannot import name"), ("import os; os._exit(9)", "with status 9")],
)
def test_a_broken_one_is_told_in_one_line(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, told: str
) -> None:
    with_detectron2(monkeypatch, tmp_path, {"__init__.py": '__version__ = "0.6"', **EMPTY, "modeling.py": body})
    found = installer.look_for_detectron2()
    assert found.state == "broken"
    assert told in found.error
    assert "\n" not in found.error


def test_somebody_elses_broken_one_is_left_alone(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = installer.Found("broken", "0.6", "/somewhere", "ImportError: libtorch", distribution="0.6+cu113")
    monkeypatch.setattr(installer, "look_for_detectron2", lambda: found)
    monkeypatch.setattr(installer, "_pip", lambda arguments: pytest.fail(f"pip was run: {arguments}"))
    assert installer.main([]) == 2
    told = capsys.readouterr().err
    assert "ImportError: libtorch" in told
    assert "pip uninstall detectron2" in told
    assert told.count("\n") == 1


def test_the_real_wheel(installer: ModuleType, tmp_path: Path) -> None:
    source = installer.cache_folder() / installer.SOURCE_FILE
    if not source.is_file():
        pytest.skip(f"{source} is not there: make setup downloads it where no detectron2 is installed yet")
    path, left_out, count = installer.build(tmp_path, source)
    content = check_wheel(path)
    assert count == 285
    assert left_out == 36
    for name, name_id in installer.read_file_list().items():
        assert blob(content[name]) == name_id
    assert b'__version__ = "0.6"' in content[INIT]
