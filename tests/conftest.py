"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

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


# Files whose tests share what takes long to make, by what that is: one worker has them whole. (pytest-xdist 3.8 has
# marks for it, which pytest 9.2 no longer lets it tell its workers of.)
_ONE_WORKER = {
    "tests/engine_detectron2/test_export.py": "exported backbone",
    "tests/report/page/test_document.py": "browser",
    "tests/report/page/test_layout.py": "browser",
    "tests/report/page/test_print.py": "browser",
    "tests/setup/test_wheel.py": "wheel",
    "tests/transfer/test_several_processes.py": "several processes",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each worker one test after the other, but those of _ONE_WORKER together."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return _ONE_WORKER.get(file, nodeid)

    return Scheduling(config, log)


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
