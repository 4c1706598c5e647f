"""The main job on the embedded data set, in minutes on a CPU: train, evaluate, draw, record."""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

from rexdet.detection import DetectionJob, run_detection

HELP = "train, evaluate and picture a small ReXNet detector on generated images, on this machine, in minutes"
CONFIG = "quickstart"
FOLDER = Path("output") / "quickstart"
# A small backbone of our own: tools/make_quickstart_weights.py made it, and its run's record lies beside it.
WEIGHTS = Path(__file__).parents[1] / "zoo" / "files" / "quickstart_backbone.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/quickstart.py`."""
    parser.add_argument(
        "--output", default="", metavar="D", help=f"run folder (default: {FOLDER}, or with the next free number)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the training (default: 0)")
    parser.add_argument("--from-scratch", action="store_true", help="start from random weights instead of ours")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, as in detectron2")


def run(arguments: argparse.Namespace) -> int:
    """Run the shipped config `quickstart`; it prints the table, the path of the pictures and of the record."""
    started = time.monotonic()
    output = Path(arguments.output) if arguments.output else free_folder(FOLDER)
    seed, overrides = arguments.seed, arguments.overrides
    # The record tells the same run in the words of train_det.
    weights = "" if arguments.from_scratch else str(WEIGHTS)
    start = ["--weights", weights] if weights else []
    words = ["--config", CONFIG, *start, "--dataset", "embedded", "--output", str(output), "--seed", str(seed)]
    job = DetectionJob(
        CONFIG,
        weights=weights,
        dataset="embedded",
        output=str(output),
        seed=seed,
        overrides=overrides,
        command=[*words, *overrides],
    )
    status = run_detection(job)
    print(f"done in {time.monotonic() - started:.0f} s")
    return status


def free_folder(folder: Path) -> Path:
    """`folder`, or with the first number behind it (from 2) under which nothing lies yet."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([folder], numbered) if not path.exists())
