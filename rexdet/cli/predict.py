"""Draw what a trained detector finds."""

from __future__ import annotations

import argparse

from rexdet.detection import choose_engine, find_config
from rexdet.errors import UserError
from rexdet.job import DetectionJob

HELP = "detect on pictures of your own: drawings and COCO JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/predict.py`."""
    parser.add_argument("--config", "--config-file", required=True, metavar="F", help="config file or shipped name")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint that train_det.py wrote")
    parser.add_argument("--input", required=True, metavar="IMAGE|FOLDER", help="a picture, or a folder of them")
    parser.add_argument("--output", required=True, metavar="D", help="folder for drawings and JSON")
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="S", help="0 to 1 (default 0.5)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, as in detectron2")


def run(arguments: argparse.Namespace) -> int:
    """Find the engine and let it predict."""
    config = find_config(arguments.config)
    if choose_engine(config) != "detectron2":
        raise UserError("predict works with detectron2 configs", where=config)
    import rexdet.detectron2  # noqa: F401  (registers the builders)
    from rexdet.detectron2.predict_files import predict_files

    job = DetectionJob(config=config, weights=arguments.weights, output=arguments.output, overrides=arguments.overrides)
    return predict_files(job, arguments.input, arguments.score_threshold)
