"""Packages that rexdet uses where they are installed and does not demand."""

from __future__ import annotations

import importlib
from types import ModuleType

from rexdet.errors import UserError


def import_optional(module: str, package: str) -> ModuleType:
    """Import `module` of an optional package. Raises UserError with the command that installs the package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{package} is not installed ({error})", where=f"{package}:", fix=f"pip install {package}"
        ) from error
