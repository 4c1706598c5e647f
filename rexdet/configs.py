"""The configurations that travel with rexdet, found by name from any folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from rexdet.errors import UserError

_SUFFIXES = (".yaml", ".py")


def config_folder() -> Path:
    """The folder of the shipped configurations, absolute.

    In an installed wheel it lies inside the package; in a checkout it is `configs/` at the top.
    """
    package = Path(__file__).resolve().parent
    installed = package / "shipped_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def list_configs() -> list[str]:
    """The names that `get_config` knows, sorted: "retinanet_rexnet", "mmdet/retinanet_rexnet", ...

    What lies in a folder or file that begins with "_" (`_base_`) is a part of others, and none by itself.
    """
    folder = config_folder()
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    whole = (path for path in paths if not any(part.startswith("_") for part in path.parts))
    return sorted({path.with_suffix("").as_posix() for path in whole})


def get_config(name: str) -> str:
    """The absolute path of a shipped configuration: get_config("retinanet_rexnet").

    name: as `list_configs` gives it, with or without its ending; files that it names by `_BASE_` lie beside it.
    Raises UserError for a name that is not shipped, with the nearest ones.
    """
    wanted = name.replace("\\", "/")
    for suffix in _SUFFIXES:
        wanted = wanted.removesuffix(suffix)
    known = list_configs()
    if wanted in known:
        for suffix in _SUFFIXES:
            path = config_folder() / f"{wanted}{suffix}"
            if path.is_file():
                return str(path)
    # "fcos" should find "lazy/fcos", too.
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    near += [other for other in known if other.rsplit("/", 1)[-1] == wanted and other not in near]
    fix = f"near names: {', '.join(near)}" if near else f"shipped are: {', '.join(known) or 'none'}"
    raise UserError(f"no shipped config is called {name!r}", fix=fix)
