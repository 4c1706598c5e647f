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
FIXED = ("torch==2.11.0", "torchvision==0.26.0", "timm==1.0.31", "pycocotools==2.0.11")


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
    """Resolve both lists and write them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = parser.parse_args().upgrade
    known = [*read_pins("runtime.txt"), *read_pins("development.txt")]
    runtime = resolve(["detectron2-needs"], known, upgrade)
    everything = resolve(["detectron2-needs", "onnxruntime", "openvino", "test"], runtime + known, upgrade)
    moved = [pin for pin in runtime if pin not in everything]
    if moved:
        print(f"error: with the development packages these pins differ: {', '.join(moved)}", file=sys.stderr)
        return 1
    (LISTS / "runtime.txt").write_text("\n".join(runtime) + "\n")
    (LISTS / "development.txt").write_text("\n".join(pin for pin in everything if pin not in runtime) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
