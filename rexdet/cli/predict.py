"""Draw what a trained detector finds."""

from __future__ import annotations

import argparse

from rexdet.cli.train_det import add_override_arguments
from rexdet.detection import find_config, predict_with_engine
from rexdet.job import DetectionJob

HELP = "detect on pictures of your own: drawings and COCO JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/predict.py`."""
    parser.add_argument("--config", "--config-file", required=True, metavar="F", help="config file or shipped name")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint that train_det.py wrote")
    parser.add_argument("--input", required=True, metavar="IMAGE|FOLDER", help="a picture, or a folder of them")
    parser.add_argument("--output", required=True, metavar="D", help="folder for drawings and JSON")
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="S", help="0 to 1 (default 0.5)")
    add_override_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find the engine and let it predict."""
    job = DetectionJob(
        config=find_config(arguments.config),
        weights=arguments.weights,
        output=arguments.output,
        overrides=arguments.overrides,
        cfg_options=arguments.cfg_options,
    )
    return predict_with_engine(job, arguments.input, arguments.score_threshold)
