"""Which MMDetection is installed and how a working pair is got, over distributions made up in an empty folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rexdet import doctor
from rexdet.runs import mmdet_packages

Install = Callable[..., None]
OFFICIAL = {"mmdet": "3.3.0", "mmcv-lite": "2.1.0", "mmengine": "0.10.7"}
FORKED = {"onedl-mmdetection": "3.5.1", "onedl-mmcv": "2.3.6", "onedl-mmengine": "0.10.12"}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """(name -> version, compiled) -> these distributions, and no others, are installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv", raising=False)

    def write(distributions: dict[str, str], *, compiled: bool = False) -> None:
        for name, version in distributions.items():
            folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            if name.endswith(("mmcv", "mmcv-lite")):
                (tmp_path / "mmcv").mkdir(exist_ok=True)
                (tmp_path / "mmcv" / "__init__.py").write_text("raise ImportError('nobody asked for it')")
        if compiled:
            (tmp_path / "mmcv" / "_ext.cpython-311-x86_64-linux-gnu.so").touch()

    return write


def test_the_official_pair(install: Install) -> None:
    install(OFFICIAL)
    assert mmdet_packages.installed_pair() == "3.3.0 with mmcv-lite 2.1.0, operators of torchvision"
    assert mmdet_packages.working_pair() == "mmdet 3.3.0 with mmcv or mmcv-lite 2.1.0"
    assert mmdet_packages.crowded_folders() == ""
    command = mmdet_packages.install_command("python", in_checkout=True)
    assert command == "python3 tools/setup/make_environment.py mmdet"


def test_compiled_operators_are_seen_without_an_import(install: Install) -> None:
    install({"mmdet": "3.3.0", "mmcv": "2.1.0", "mmengine": "0.10.7"}, compiled=True)
    assert mmdet_packages.installed_pair() == "3.3.0 with mmcv 2.1.0, its own operators"
    assert "mmcv" not in sys.modules


def test_the_forks_pair_and_its_one_command(install: Install) -> None:
    install(FORKED)
    assert mmdet_packages.installed_pair().startswith("onedl-mmdetection 3.5.1 with onedl-mmcv 2.3.6")
    assert mmdet_packages.working_pair() == "onedl-mmdetection 3.5.1 with onedl-mmcv 2.3.6"
    command = mmdet_packages.install_command("python", in_checkout=True)
    assert command.startswith("python -m pip install ")
    assert all(f"'{name}=={version}'" in command for name, version in FORKED.items())
    assert "mmdet==" not in command


def test_nothing_installed_gets_the_official_pair(install: Install) -> None:
    install({})
    assert mmdet_packages.install_command("python", in_checkout=True) == "make setup-mmdet"
    assert mmdet_packages.install_command("python", in_checkout=False) == (
        "python -m pip install 'mmdet==3.3.0' 'mmcv-lite==2.1.0' 'mmengine==0.10.7'"
    )
    assert "another origin" in mmdet_packages.installed_pair()


def test_two_owners_of_one_folder_are_told_and_both_go_first(install: Install) -> None:
    install({**OFFICIAL, "mmcv": "2.1.0"})
    crowded = mmdet_packages.crowded_folders()
    assert crowded == "mmcv 2.1.0 and mmcv-lite 2.1.0 share the folder mmcv, so that one of them is broken"
    command = mmdet_packages.install_command("python", in_checkout=False)
    assert command.startswith("python -m pip uninstall --yes mmdet mmcv mmcv-lite mmengine && python -m pip install ")


@pytest.mark.parametrize(
    ("distributions", "error"),
    [
        (
            {**OFFICIAL, "mmcv": "2.2.0"},
            "AssertionError: MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.",
        ),
        ({"mmdet": "3.3.0", "mmengine": "0.10.7"}, "ModuleNotFoundError: No module named 'mmcv'"),
        ({"mmdet": "3.3.0", "mmcv": "2.1.0"}, "ModuleNotFoundError: No module named 'mmengine'"),
        ({"mmcv-lite": "2.1.0"}, "ModuleNotFoundError: No module named 'mmdet.registry'"),
    ],
)
def test_the_doctor_names_the_pair_and_the_one_command(
    install: Install, distributions: dict[str, str], error: str
) -> None:
    install(distributions)
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    (line,) = doctor.describe(library, {"error": error, "absent": False})
    assert line.state == "warning"
    assert "mmdet 3.3.0 with mmcv or mmcv-lite 2.1.0 works" in line.says
    assert line.mend == library.install
    assert "\n" not in line.says + line.mend


def test_what_the_fork_does_not_bring_is_named_by_its_package(install: Install) -> None:
    install(FORKED)
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    (line,) = doctor.describe(library, {"error": "ModuleNotFoundError: No module named 'imgaug'", "absent": False})
    assert line.mend.endswith("pip install imaug")
    assert "onedl-mmdetection 3.5.1 with onedl-mmcv 2.3.6 works" in line.says


def test_a_crowded_folder_is_a_warning_even_where_the_import_works(install: Install) -> None:
    install({**OFFICIAL, "onedl-mmdetection": "3.5.1"})
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    seen = {"error": "", "absent": False, "version": "3.3.0", "folder": "/x/mmdet/__init__.py", "names": {}}
    (line,) = doctor.describe(library, {**seen, "operators": None})
    assert line.state == "warning"
    assert line.says.startswith("mmdet 3.3.0 and onedl-mmdetection 3.5.1 share the folder mmdet")
    assert "uninstall" in line.mend


def test_a_compiled_mmcv_that_does_not_load_gives_way(install: Install) -> None:
    install({"mmdet": "3.3.0", "mmcv": "2.1.0", "mmengine": "0.10.7"}, compiled=True)
    (library,) = (library for library in doctor.known_libraries() if library.module == "mmdet")
    error = "ImportError: site-packages/mmcv/_ext.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN3c10"
    (line,) = doctor.describe(library, {"error": error, "absent": False})
    assert "pip uninstall --yes mmcv && " in line.mend
    assert line.mend.endswith("make_environment.py mmdet")
