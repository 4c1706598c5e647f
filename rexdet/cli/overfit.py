"""Train on a few pictures and score on the same ones: a set-up that cannot do this cannot learn."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexdet.detection import run_detection
from rexdet.job import DetectionJob

HELP = "learn a few pictures by heart: shows in minutes that data, network and loss fit together"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/overfit.py`."""
    parser.add_argument("--annotations", required=True, metavar="J", help="a COCO annotation file")
    parser.add_argument("--images", required=True, metavar="D", help="the folder of its pictures")
    parser.add_argument("--pictures", type=int, default=8, metavar="N", help="how many (default 8)")
    parser.add_argument("--config", default="overfit", metavar="F", help="config file or shipped name")
    parser.add_argument("--output", default="output/overfit", metavar="D", help="run folder (default output/overfit)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, as in detectron2")


def run(arguments: argparse.Namespace) -> int:
    """Write the few pictures' annotations beside the run and train on them."""
    from rexdet.coco.subset import write_first_pictures
    from rexdet.runs.begin import check_folder

    output = Path(arguments.output)
    check_folder(output)
    few = output / "pictures.json"
    write_first_pictures(arguments.annotations, arguments.images, arguments.pictures, few)
    job = DetectionJob(
        arguments.config,
        train_annotations=str(few),
        train_images=arguments.images,
        val_annotations=str(few),
        val_images=arguments.images,
        output=str(output),
        seed=arguments.seed,
        overrides=arguments.overrides,
        command=arguments.command,
    )
    return run_detection(job)
