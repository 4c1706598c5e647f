"""`import rexdet` is light: it loads no engine and nothing heavy, however the machine is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "PIL", "cv2", "detectron2", "fvcore", "matplotlib", "mmcv", "mmdet", "mmengine", "onnxruntime", "openvino",
    "pandas", "pycocotools", "pydantic", "scipy", "sklearn", "tensorboard", "timm", "torchvision", "yaml",
)  # fmt: skip


def test_import_loads_nothing_heavy_and_costs_little_beyond_torch(repository: Path) -> None:
    """The bar is 0.3 s beyond torch. What is held to it are the modules, since a timed test fails on a busy machine."""
    names = "{name.split('.')[0] for name in sys.modules}"
    code = f"import sys, torch\nbefore = {names}\nimport rexdet\nprint(*({names} - before))"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    beyond = set(done.stdout.split())
    assert "rexdet" in beyond
    assert beyond & set(HEAVY) == set()
    assert beyond - {"rexdet"} <= sys.stdlib_module_names
    (line,) = (line for line in done.stderr.splitlines() if line.split("|")[-1].strip() == "rexdet")
    print(f"import rexdet beyond torch: {int(line.split('|')[1]) / 1e6:.3f} s")


def test_import_alone_loads_no_engine(repository: Path) -> None:
    code = "import sys, rexdet\nprint(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & set(HEAVY) == set()


def test_every_public_name_is_listed_and_an_unknown_one_refused() -> None:
    import rexdet

    assert set(rexdet.__all__) <= set(dir(rexdet))
    with pytest.raises(AttributeError, match="no_such_name"):
        rexdet.no_such_name  # noqa: B018
