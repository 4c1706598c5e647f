"""`doctor`: what it makes of whole, broken and absent libraries, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rexdet import doctor
from rexdet.cli import execute
from rexdet.doctor import DETECTRON2_NAMES, Diagnosis, Library, Line

LIBRARY = Library("a_library", ("a-distribution",), "a purpose", needed=True, install="install it")


def write_modules(monkeypatch: pytest.MonkeyPatch, folder: Path, modules: dict[str, str]) -> None:
    for name, body in modules.items():
        (folder / f"{name}.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_one_probe_tells_whole_broken_crashing_and_absent_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_modules(
        monkeypatch,
        tmp_path,
        {
            "whole_one": "__version__ = '1.2'\nprint('noise on standard output')",
            "broken_one": "raise OSError('libcuda.so:\\n cannot open')",
            "leaving_one": "raise SystemExit(3)",
            "crashing_one": "import os\nos._exit(11)",
            "last_one": "",
        },
    )
    names = ("whole_one", "broken_one", "leaving_one", "crashing_one", "no_such_library", "last_one")
    seen = doctor.probe([Library(name, (name,), "") for name in names])
    assert [one["error"] for one in seen] == [
        "",
        "OSError: libcuda.so: cannot open",
        "SystemExit: 3",
        "importing it ended Python with status 11",
        "ModuleNotFoundError: No module named 'no_such_library'",
        "",
    ]
    assert [one["absent"] for one in seen] == [False, False, False, False, True, False]
    assert seen[0]["version"] == "1.2"


def test_a_library_that_never_returns_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_modules(monkeypatch, tmp_path, {"hanging_one": "import time\ntime.sleep(60)", "last_one": ""})
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 2)
    hanging, last = doctor.probe([Library("hanging_one", (), ""), Library("last_one", (), "")])
    assert hanging["error"] == "importing it took more than 2 s"
    assert last["error"] == ""


@pytest.mark.parametrize(
    ("error", "command"),
    [
        ("ModuleNotFoundError: No module named 'pkg_resources'", "pip install 'setuptools<82'"),
        ("AttributeError: module 'PIL.Image' has no attribute 'LINEAR'", "pip install 'pillow<10'"),
        ("ModuleNotFoundError: No module named 'fvcore.nn'", "pip install fvcore"),
        ("ModuleNotFoundError: No module named 'yaml'", "pip install pyyaml"),
    ],
)
def test_a_known_error_gets_its_command(error: str, command: str) -> None:
    assert doctor.mend(LIBRARY, error).endswith(command)


def test_what_is_needed_is_broken_and_what_is_optional_is_missing() -> None:
    absent = {"error": "ModuleNotFoundError: No module named 'a_library'", "absent": True}
    (line,) = doctor.describe(LIBRARY, absent)
    assert (line.state, line.mend) == ("broken", "install it")
    (line,) = doctor.describe(Library("a_library", (), "speed", install="get it"), absent)
    assert (line.state, line.mend) == ("missing", "get it")


def test_a_registry_without_our_names_is_broken_and_says_why() -> None:
    library = Library("a_library", (), "", needed=True, names=("one", "two"))
    seen = {
        "error": "",
        "absent": False,
        "version": "0.6",
        "folder": "/somewhere/a_library/__init__.py",
        "operators": False,
        "names": {"one": True, "two": False},
        "plugin_error": "KeyError: two",
    }
    first, second = doctor.describe(library, seen)
    assert first.says.startswith("0.6 from /somewhere/a_library, without compiled operators")
    assert (second.state, second.says) == ("broken", "lacks two (KeyError: two)")


def test_the_machine_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.accelerator_line([], None).says == "none: runs on the CPU"
    assert doctor.accelerator_line(["a card"], "/bin/nvidia-smi").says == "a card"
    assert doctor.accelerator_line([], "/bin/nvidia-smi").state == "warning"
    monkeypatch.setattr(doctor, "ENOUGH_SHARED_MEMORY", 1 << 62)
    assert "--shm-size" in doctor.shared_memory_line(tmp_path).mend
    monkeypatch.setattr(doctor, "ENOUGH_SHARED_MEMORY", 1)
    assert doctor.shared_memory_line(tmp_path).state == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert doctor.compiler_line().state == "missing"
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    assert doctor.cache_line(doctor.cache_folder()).says.startswith(str(tmp_path / "cache"))


def test_the_exit_status_follows_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hardware = {"platform": "Linux", "processor": None, "usable_cpus": 2, "memory": None}
    diagnosis = Diagnosis({"python": "3.11"}, hardware, [Line("timm", "missing", "not installed", "pip install timm")])
    monkeypatch.setattr("rexdet.cli.doctor.examine", lambda: diagnosis)
    assert execute("doctor", []) == 0
    printed = capsys.readouterr().out
    assert "pip install timm" in printed
    assert printed.rstrip().endswith("A detector can be trained here.")
    diagnosis.lines.append(Line("detectron2", "broken", "ImportError", "make setup"))
    assert execute("doctor", []) == 2
    assert "make setup" in capsys.readouterr().out
    assert execute("doctor", ["--json"]) == 2
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The real report about what the main job needs: all of it is whole, and the registry holds our names."""
    pytest.importorskip("detectron2", reason="detectron2 is not installed (make setup)")
    needed = [library for library in doctor.known_libraries() if library.needed]
    monkeypatch.setattr(doctor, "known_libraries", lambda: needed)
    status = execute("doctor", ["--json"])
    report = json.loads(capsys.readouterr().out)
    lines = {line["subject"]: line for line in report["lines"]}
    assert lines["torch"]["state"] == "ok"
    assert lines["detectron2"]["state"] == "ok", lines["detectron2"]
    assert lines["detectron2 registry"]["says"] == f"holds {', '.join(DETECTRON2_NAMES)}"
    assert all(line["state"] == "ok" or line["mend"] for line in report["lines"])
    assert report["versions"]["python"] == sys.version.split()[0]
    assert status == 0


def test_mmdetection_gets_the_pair_of_versions_and_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    error = "AssertionError: MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0."
    for seen in ({"error": error, "absent": False}, {"error": "No module named 'mmdet'", "absent": True}):
        (line,) = doctor.describe(library, seen)
        assert "mmdet 3.3.0 with mmcv or mmcv-lite 2.1.0 works" in line.says
        assert line.state in ("warning", "missing")
        assert line.mend == library.install
    monkeypatch.setattr(doctor, "_in_checkout", lambda: False)
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    assert library.install.endswith("pip install 'mmdet==3.3.0' 'mmcv-lite==2.1.0' 'mmengine==0.10.7'")
