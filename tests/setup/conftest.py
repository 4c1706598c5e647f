"""The set-up's scripts as modules: they are run before anything is installed, and so are no package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def setup_script(repository: Path) -> Callable[[str], ModuleType]:
    """Load tools/setup/NAME.py."""

    def load(name: str) -> ModuleType:
        path = repository / "tools" / "setup" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"rexdet_setup_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def installer(setup_script: Callable[[str], ModuleType]) -> ModuleType:
    """tools/setup/install_detectron2.py."""
    return setup_script("install_detectron2")
