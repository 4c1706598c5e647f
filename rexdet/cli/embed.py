"""Features of the pictures of any folder, in a file that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path

from rexdet.errors import UserError

HELP = "features of the pictures of a folder: .npz or .safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/embed.py`."""
    parser.add_argument("name", metavar="NAME", help="a network, with a @tag unless --weights is given")
    parser.add_argument("--images", required=True, metavar="D", help="folder of pictures; folders in it are read, too")
    parser.add_argument("--output", required=True, metavar="F", help="file to write, .npz or .safetensors")
    parser.add_argument("--weights", default="", metavar="FILE", help="weights for a NAME without a @tag")
    parser.add_argument("--pixels", default="", metavar="P", help="what they were trained with: imagenet, half, FILE")
    parser.add_argument(
        "--tap", default="penultimate", metavar="T", help="penultimate (default), or res2 to res5, averaged over pixels"
    )
    parser.add_argument("--size", type=int, default=0, metavar="N", help="side of the input (default: the weights')")
    parser.add_argument(
        "--framing", default="centre", choices=("centre", "whole"), help="cut the middle out, or scale pictures whole"
    )
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="pictures at a time")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default) or cuda")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")


def run(arguments: argparse.Namespace) -> int:
    """Compute and write."""
    from rexdet.processes import is_main, process_group
    from rexdet.transfer.embed import embed, open_weights

    checkpoint = open_weights(arguments.name, arguments.weights, arguments.pixels)
    if arguments.size < 0:
        raise UserError(f"--size is {arguments.size}", fix="give a number of pixels, or 0 for the weights' own")
    with process_group(arguments.device) as device:
        written = embed(
            arguments.name,
            checkpoint,
            Path(arguments.images),
            Path(arguments.output),
            tap=arguments.tap,
            framing=arguments.framing,
            size=arguments.size,
            batch_size=arguments.batch,
            device=device,
            is_bf16=arguments.bf16,
            progress=is_main(),
        )
        if is_main():
            print(written)
    return 0
