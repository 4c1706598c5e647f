"""Which distributions of MMDetection, mmcv and mmengine are installed, and how the pair that works is got.

The official packages and the maintained forks (onedl-*) have the same import names: of each folder of site-packages one
distribution may be the owner.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

# mmdet 3.3.0 refuses mmcv 2.2, and today's torch compiles none that is older than 2.1: this pair works.
OFFICIAL_PAIR = "mmdet 3.3.0 with mmcv or mmcv-lite 2.1.0"
OFFICIAL_PINS = ("mmdet==3.3.0", "mmcv-lite==2.1.0", "mmengine==0.10.7")
# The fork's MMDetection imports imgaug and does not bring it.
FORKED_PAIR = "onedl-mmdetection 3.5.1 with onedl-mmcv 2.3.6"
FORKED_PINS = ("onedl-mmdetection==3.5.1", "onedl-mmcv==2.3.6", "onedl-mmengine==0.10.12", "imaug")

OWNERS = {
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "mmcv": ("mmcv", "mmcv-lite", "onedl-mmcv"),
    "mmengine": ("mmengine", "mmengine-lite", "onedl-mmengine"),
}


def version_of(*distributions: str) -> str:
    """The installed version of the first of these distributions that is there, "" for none."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def working_pair() -> str:
    """The pair of versions that works: the fork's where the fork alone is installed, else the official one."""
    return FORKED_PAIR if _is_forked() else OFFICIAL_PAIR


def installed_pair() -> str:
    """MMDetection and its mmcv in one phrase: which versions, and whose operators."""
    mmdet, mmcv = (_owners(folder) or [f"{folder} of another origin"] for folder in ("mmdet", "mmcv"))
    operators = "its own operators" if _has_operators() else "operators of torchvision"
    return f"{mmdet[0].removeprefix('mmdet ')} with {mmcv[0]}, {operators}"


def crowded_folders() -> str:
    """Which installed distributions share a folder, so that one has overwritten the other; "" where none do."""
    for folder in OWNERS:
        held = _owners(folder)
        if len(held) > 1:
            return f"{' and '.join(held)} share the folder {folder}, so that one of them is broken"
    return ""


def install_command(python: str, *, in_checkout: bool) -> str:
    """The one command that brings the pair that works. python: the interpreter as a person would type it."""
    pip = f"{python} -m pip"
    if crowded_folders():
        # What one of them removes the other lacks, so all of them go first.
        held = [owner.split()[0] for folder in OWNERS for owner in _owners(folder)]
        return f"{pip} uninstall --yes {' '.join(held)} && {_fresh(pip, in_checkout=in_checkout, again=True)}"
    if _is_forked():
        return f"{pip} install --no-build-isolation {_quoted(FORKED_PINS)}"
    return _fresh(pip, in_checkout=in_checkout, again=bool(version_of("mmdet")))


def without_compiled(python: str, *, in_checkout: bool) -> str:
    """The command that puts mmcv-lite in the place of a compiled mmcv that does not load (built for another torch)."""
    pip = f"{python} -m pip"
    return f"{pip} uninstall --yes mmcv && {_fresh(pip, in_checkout=in_checkout, again=True)}"


def _fresh(pip: str, *, in_checkout: bool, again: bool) -> str:
    if not in_checkout:
        return f"{pip} install {_quoted(OFFICIAL_PINS)}"
    # The script sets right what is there, too, where `make setup-mmdet` sees that it has run before.
    return "python3 tools/setup/make_environment.py mmdet" if again else "make setup-mmdet"


def _quoted(pins: tuple[str, ...]) -> str:
    return " ".join(f"'{pin}'" for pin in pins)


def _is_forked() -> bool:
    official, fork = OWNERS["mmdet"]
    return bool(version_of(fork)) and not version_of(official)


def _owners(folder: str) -> list[str]:
    """Name and version of every installed distribution that owns the folder."""
    return [f"{name} {version}" for name in OWNERS[folder] if (version := version_of(name))]


def _has_operators() -> bool:
    """Whether the installed mmcv has its compiled module; mmcv itself is not imported for it."""
    spec = importlib.util.find_spec("mmcv")
    folders = spec.submodule_search_locations if spec is not None else None
    return any(any(Path(folder).glob("_ext.*")) for folder in folders or ())
