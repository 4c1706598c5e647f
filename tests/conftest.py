"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
