"""Every network that is a backbone, tried in RetinaNet and Faster R-CNN."""

from __future__ import annotations

import argparse
import importlib.util
import json
from typing import TYPE_CHECKING

from tabulate import tabulate
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.zoo.costs import NEEDS_A_FILE, is_backbone, matching_networks
from rexdet.zoo.registry import resolve

if TYPE_CHECKING:
    from rexdet.bench.detector_sweep import SweepRow

HELP = "build every backbone in RetinaNet and Faster R-CNN and train two steps on noise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/sweep_detectors.py`."""
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="as in file names; or one name (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Sweep, a line a network and detector, then the table; status 1 where one does not train."""
    names = _backbones(arguments.pattern)
    if importlib.util.find_spec("detectron2") is None:
        raise UserError("the sweep builds detectron2's detectors, and detectron2 is not installed", fix="`make setup`")
    from rexdet.bench.detector_sweep import DETECTORS, sweep

    with tqdm(total=len(names) * len(DETECTORS), desc="detectors", disable=None) as bar:

        def told(row: SweepRow) -> None:
            bar.update()
            if not arguments.json:
                bar.write(_line(row))

        rows = sweep(names, told)
    if arguments.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        print(f"\n{_table(rows)}")
    failed = sum(bool(row.problem) for row in rows)
    if not arguments.json:
        print(f"\n{len(rows) - failed} of {len(rows)} train; random weights, two steps of SGD on noise")
    return 1 if failed else 0


def _backbones(pattern: str) -> list[str]:
    matching = matching_networks(pattern)
    names = [name for name in matching if is_backbone(name)]
    if names:
        return names
    if pattern in NEEDS_A_FILE:
        resolve(pattern)  # Says what is needed where its file is not here.
        return [pattern]
    what = "is a backbone: none has maps at strides 4 to 32" if matching else "is named so"
    raise UserError(f"no network that matches {pattern!r} {what}", fix="without a pattern, all are tried")


def _line(row: SweepRow) -> str:
    said = row.problem or f"losses {' '.join(f'{loss:.3f}' for loss in row.losses)}"
    return f"{row.network}  {row.detector}  {said}  ({row.seconds:.1f} s)"


def _table(rows: list[SweepRow]) -> str:
    head = ("network", "detector", "maps read", "parameters (M)", "losses", "trains")
    lines = [
        (
            row.network,
            row.detector,
            " ".join(str(channels) for channels in row.channels),
            f"{row.parameters / 1e6:.2f}",
            " ".join(f"{loss:.3f}" for loss in row.losses),
            row.problem or "yes",
        )
        for row in rows
    ]
    return tabulate(lines, head, disable_numparse=True, colalign=("left", "left", "left", "right", "left", "left"))
