"""Weights from one layout and format to another."""

from __future__ import annotations

import argparse

from rexdet.errors import UserError
from rexdet.weights.layouts import layout_names
from rexdet.weights.save import FORMATS, save_checkpoint
from rexdet.zoo.names import parse
from rexdet.zoo.open import open_checkpoint

HELP = "convert weights between layouts (ours, the authors', timm's, ...) and formats, keeping where they come from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a file of weights, or a published name such as rexnet_1.0@nav_in1k"
    )
    parser.add_argument("--to", choices=sorted({*layout_names(), "timm"}), default="ours", help="layout (default ours)")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of --output")
    parser.add_argument("--output", required=True, metavar="F", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument(
        "--network", default="", metavar="NAME", help="timm:NAME or torchvision:NAME, of whose the file is"
    )
    parser.add_argument("--pixels", metavar="P", help="what it was trained with: a preset's name or a YAML file")
    parser.add_argument("--part", default="", metavar="PART", help="which network of a file that holds several")


def run(arguments: argparse.Namespace) -> int:
    checkpoint = open_checkpoint(
        arguments.file, pixels=arguments.pixels, part=arguments.part, network=arguments.network
    )
    if arguments.network and checkpoint.network != (wanted := parse(arguments.network).without_rule.network):
        raise UserError(
            f"holds {checkpoint.network or 'another network'}, not {wanted}",
            where=checkpoint.source,
            fix="give the right --network, or leave it out",
        )
    written = save_checkpoint(
        checkpoint, arguments.output, layout=arguments.to, format=arguments.format, force=arguments.force
    )
    package, colon, _ = (checkpoint.network or "").partition(":")
    layout = package if colon else arguments.to
    print(f"{arguments.output}: {checkpoint.network or 'a network'} in {layout} layout, {written} tensors")
    print(f"origin SHA-256 {checkpoint.origin_sha256}")
    return 0
