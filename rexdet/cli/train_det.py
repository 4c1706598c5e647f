"""Train, resume or evaluate a detector."""

from __future__ import annotations

import argparse

from rexdet.detection import run_detection
from rexdet.job import DetectionJob

HELP = "train a detector, go on with a run, or evaluate one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/train_det.py`."""
    parser.add_argument("--config", "--config-file", required=True, metavar="F", help="config file or shipped name")
    parser.add_argument(
        "--engine", default="auto", choices=("auto", "detectron2", "mmdet"), help="default: told by the file"
    )
    network = parser.add_argument_group("network and weights")
    network.add_argument("--backbone", default="", metavar="NAME", help="such as rexnet_1.3 or rexnet_1.0@nav_in1k")
    network.add_argument("--weights", default="", metavar="FILE|NAME@TAG", help="of a backbone or a detector")
    network.add_argument("--pixels", default="", metavar="P", help="of the weights: imagenet, half, FILE")
    data = parser.add_argument_group("data (default: the config's)")
    data.add_argument("--dataset", default="", choices=("", "embedded"), help="the generated data set")
    data.add_argument("--data-root", default="", metavar="D", help="folder with annotations/, train2017/, val2017/")
    data.add_argument("--train-annotations", default="", metavar="J")
    data.add_argument("--train-images", default="", metavar="D")
    data.add_argument("--val-annotations", default="", metavar="J")
    data.add_argument("--val-images", default="", metavar="D")
    data.add_argument("--limit-train", type=int, default=0, metavar="N", help="first N images; kept out of tables")
    data.add_argument("--map-classes", default="", choices=("", "by-name"), help="score on another class list")
    run = parser.add_argument_group("run")
    run.add_argument("--output", default="", metavar="D", help="run folder (default: output/<config>)")
    run.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    run.add_argument("--eval-only", action="store_true", help="evaluate the weights, train nothing")
    run.add_argument("--dry-run", action="store_true", help="one batch, then what the whole run would cost")
    run.add_argument("--seed", type=int, default=None, metavar="N")
    run.add_argument("--amp", default="", choices=("", "bf16", "fp16"), help="mixed precision")
    run.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches per step")
    run.add_argument("--ema", type=float, default=0.0, metavar="DECAY", help="average weights, and evaluate those")
    run.add_argument("--replay", default="", metavar="FILE", help="show a saved non-finite step again")
    processes = parser.add_argument_group("processes (torchrun works too)")
    processes.add_argument("--num-gpus", type=int, default=0, metavar="N")
    processes.add_argument("--num-machines", type=int, default=1, metavar="N")
    processes.add_argument("--machine-rank", type=int, default=0, metavar="N")
    processes.add_argument("--dist-url", default="", metavar="U", help="tcp://HOST:PORT of machine 0")
    add_override_arguments(parser)


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """The two ways of changing a config from the command line, each that of an engine."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="K=V",
        help="config keys, as in MMDetection",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, as in detectron2")


def run(arguments: argparse.Namespace) -> int:
    """Hand the job to its engine."""
    return run_detection(DetectionJob(**vars(arguments)))
