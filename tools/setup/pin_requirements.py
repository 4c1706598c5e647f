"""Write the pinned lists in `requirements/` anew from the ranges in setup.py (for maintainers; needs uv).

Versions that are pinned already stay unless `--upgrade` is given. The lists hold names, versions and markers only, no
address of a package index, and serve Python 3.10 and later.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "requirements"
# What the measured numbers of the project were taken with; everything else may move freely within its range.
FIXED = (
    "torch==2.11.0",
    "torchvision==0.26.0",
    "timm==1.0.31",
    "pycocotools==2.0.11",
    "mmcv-lite==2.1.0",
    "mmdet==3.3.0",
    "mmengine==0.10.7",
)


def resolve(extras: list[str], known: list[str], upgrade: bool) -> list[str]:
    """All pins, direct and indirect, of setup.py with these extras; `known` pins are kept where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        fixed = Path(folder) / "fixed.txt"
        pins.write_text("\n".join(known) + "\n")
        fixed.write_text("\n".join(FIXED) + "\n")
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", str(ROOT / "setup.py")]
        command += [part for extra in extras for part in ("--extra", extra)]
        command += ["--no-annotate", "--no-header", "--no-strip-extras", "-c", str(fixed), "-o", str(pins)]
        command += ["--upgrade"] if upgrade else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return pins.read_text().splitlines()


def read_pins(name: str) -> list[str]:
    """The lines of one list."""
    path = LISTS / name
    return path.read_text().splitlines() if path.is_file() else []


def main() -> int:
    """Resolve the lists and write them: each holds what the ones before it do not."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = parser.parse_args().upgrade
    known = [*read_pins("runtime.txt"), *read_pins("development.txt"), *read_pins("mmdet.txt")]
    runtime = resolve(["detectron2-needs"], known, upgrade)
    developed = resolve(["detectron2-needs", "onnxruntime", "openvino", "test"], runtime + known, upgrade)
    # MMDetection goes into an environment with or without the development packages: their pins agree.
    with_mmdet = resolve(["detectron2-needs", "mmdet"], runtime + developed + known, upgrade)
    for title, before, pins in (
        ("development", runtime, developed),
        ("MMDetection", runtime, with_mmdet),
        ("MMDetection", developed, with_mmdet),
    ):
        moved = [pin for pin in pins if _name(pin) in map(_name, before) and _version(pin) not in map(_version, before)]
        if moved:
            print(f"error: with the {title} packages these pins differ: {', '.join(moved)}", file=sys.stderr)
            return 1
    for name, pins in (("runtime.txt", runtime), ("development.txt", developed), ("mmdet.txt", with_mmdet)):
        kept = pins if pins is runtime else [pin for pin in pins if pin not in runtime]
        (LISTS / name).write_text("\n".join(kept) + "\n")
    return 0


def _name(pin: str) -> str:
    return pin.partition("==")[0]


def _version(pin: str) -> str:
    """Name and version without the marker, which may be wider in one list than in the other."""
    return pin.partition(";")[0].strip()


if __name__ == "__main__":
    sys.exit(main())
