"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# The packages of both engines leave millions of objects that live as long as the tests. To look through them for
# garbage again and again took a tenth of the time: nothing is looked for until all is imported, and there no more.
gc.disable()


def pytest_collection_finish() -> None:
    """All test modules are imported; what they brought stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data that lies beside a developer's checkout; tests that need it skip without it."""
    candidates = [os.environ.get("REXDET_SHARED", ""), str(REPOSITORY.parent / "shared")]
    for candidate in candidates:
        if candidate and (Path(candidate) / "golden").is_dir():
            return Path(candidate)
    pytest.skip("no folder of reference data: set REXDET_SHARED to it")
