"""Packages that rexdet uses where they are installed and does not demand."""

from __future__ import annotations

import importlib
from types import ModuleType

from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID

# The stride of each feature map that an FPN takes, and the side of the image with which other networks are probed.
STRIDES = {name: 4 << level for level, name in enumerate(PYRAMID)}
PROBE_SIDE = 128


def import_optional(module: str, package: str) -> ModuleType:
    """Import `module` of an optional package. Raises UserError with the command that installs the package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{package} is not installed ({error})", where=f"{package}:", fix=f"pip install {package}"
        ) from error
