"""Make the small backbone that the quickstart starts from, on generated pictures that the quickstart never sees."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rexdet.detection import run_detection
from rexdet.errors import UserError
from rexdet.job import DetectionJob

HELP = "make the quickstart's small backbone checkpoint: train on other generated pictures, keep the backbone"
# Another seed than the quickstart's: none of its pictures is in this data set.
DATA_SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/make_quickstart_weights.py`."""
    parser.add_argument("--output", required=True, metavar="D", help="folder for data, run and checkpoint")
    parser.add_argument("--pictures", type=int, default=6000, metavar="N", help="generated training pictures")
    parser.add_argument("--steps", type=int, default=4000, metavar="N", help="training steps")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the training")


def run(arguments: argparse.Namespace) -> int:
    """Generate, train from random weights, and write backbone.safetensors (float16) beside the run's record."""
    from rexdet.coco.generate import generate_embedded
    from rexdet.weights import read_checkpoint
    from rexdet.weights.save import save_checkpoint

    if arguments.steps < 1:
        raise UserError(f"--steps is {arguments.steps}", fix="give a number of at least 1")
    output = Path(arguments.output)
    data = generate_embedded(output / "data", seed=DATA_SEED, train_images=arguments.pictures)
    job = DetectionJob(
        "quickstart",
        train_annotations=str(data.train_annotations),
        train_images=str(data.train_images),
        val_annotations=str(data.val_annotations),
        val_images=str(data.val_images),
        output=str(output / "run"),
        seed=arguments.seed,
        overrides=["SOLVER.MAX_ITER", str(arguments.steps), "SOLVER.WARMUP_ITERS", str(arguments.steps // 8)],
        command=arguments.command,
    )
    status = run_detection(job)
    trained = read_checkpoint(output / "run" / "model_final.pth")
    small = {key: value.half() if value.is_floating_point() else value for key, value in trained.state_dict().items()}
    backbone = replace(trained, tensors=small, licence="MIT", source="tools/make_quickstart_weights.py")
    count = save_checkpoint(backbone, output / "backbone.safetensors", force=True)
    print(f"{count} tensors of the backbone: {output / 'backbone.safetensors'}")
    return status
