"""Accuracy of a named network with its weights on a folder of ImageNet pictures."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tabulate import tabulate

from rexdet.errors import UserError
from rexdet.transfer.imagenet import Accuracy, Share, evaluate_imagenet, read_imagenet_folder
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.pixels import Preprocessing, read_pixels
from rexdet.zoo import published
from rexdet.zoo.names import parse
from rexdet.zoo.open import create_model, open_checkpoint

HELP = "top-1 and top-5 of a network's weights on a folder of ImageNet pictures"

_KNOWN_BY = {
    "sha": "by SHA-256",
    "metadata": "by metadata",
    "user": "as you say",
    "assumed": "ASSUMED",
    "compared": "for comparison",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/eval_imagenet.py`."""
    parser.add_argument("name", metavar="NAME", help="a network, with a @tag unless --weights is given")
    parser.add_argument(
        "--images",
        required=True,
        metavar="D",
        help="folders named by synset or class number (0 to 999), or files that begin with the number (0007_x.jpg)",
    )
    parser.add_argument("--weights", default="", metavar="FILE", help="weights for a NAME without a @tag")
    parser.add_argument("--pixels", default="", metavar="P", help="what they were trained with: imagenet, half, FILE")
    parser.add_argument(
        "--compare-pixels", action="append", default=[], metavar="P", help="a further row, fed with these pixels"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="so many pictures, spread over all")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="pictures at a time")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    for switch, least in (("limit", 0), ("batch", 1)):
        if getattr(arguments, switch) < least:
            raise UserError(f"--{switch} is {getattr(arguments, switch)}", fix=f"give {least} or more")
    compared = [(word, read_pixels(word, "--compare-pixels")) for word in arguments.compare_pixels]
    checkpoint = _open(arguments.name, arguments.weights, arguments.pixels)
    pictures = read_imagenet_folder(arguments.images, arguments.limit)
    network = create_model(parse(arguments.name).network, weights=checkpoint)

    feeds = [(checkpoint.pixels, checkpoint.pixels_known_by), *((pixels, "compared") for _, pixels in compared)]
    rows = []
    for pixels, known_by in feeds:
        # Beside the weights' own, other means and deviations are fed at the same size and crop.
        fed = pixels if known_by != "compared" else _with_sizes_of(checkpoint.pixels, pixels)
        accuracy = evaluate_imagenet(network, pictures, fed, batch=arguments.batch, progress=not arguments.json)
        rows.append((fed, known_by, accuracy))
    if arguments.json:
        print(json.dumps(_as_json(arguments.name, checkpoint, rows), indent=2))
        return 0
    classes = len({picture.label for picture in pictures})
    print(f"{arguments.name}: {len(pictures)} pictures of {classes} classes in {arguments.images}")
    print(f"weights {checkpoint.source}, SHA-256 {checkpoint.sha256}")
    print(tabulate([_row(*row) for row in rows], headers="keys"))
    if (entry := _entry(checkpoint)) is not None and entry.top1 is not None:
        # Weights are published of a network as it was defined; under a rule they compute something else.
        without = " without the N:M rule" if parse(arguments.name).rule else ""
        print(f"published: top-1 {entry.top1}{without} on ImageNet's 50,000 validation pictures ({entry.top1_from})")
    if checkpoint.pixels_known_by == "assumed":
        print("nothing says what these weights were trained with: --pixels, or a FILE.pixels.yaml beside them, does")
    return 0


def _open(name: str, weights: str, pixels: str) -> Checkpoint:
    parsed = parse(name)
    if parsed.tag and weights:
        raise UserError(f"{name} names its weights already, and --weights is given, too", fix="leave one of them out")
    if not parsed.tag and not weights:
        raise UserError(f"{name} alone has random weights", fix="give a name@tag, or --weights FILE")
    checkpoint = open_checkpoint(weights or name, pixels=pixels or None, network=parsed.network)
    if checkpoint.shape.head is None:
        raise UserError("holds no classifier, so it has no accuracy", where=checkpoint.source)
    return checkpoint


def _with_sizes_of(own: Preprocessing, fed: Preprocessing) -> Preprocessing:
    return Preprocessing(fed.mean, fed.std, fed.order, fed.value_range, own.resize, own.crop, own.interpolation)


def _row(pixels: Preprocessing, known_by: str, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "pixels": f"{pixels}, {pixels.crop} of {pixels.resize}",
        "known": _KNOWN_BY[known_by],
        "top-1 %": f"{100 * accuracy.top1.value:.1f}",
        "95%": _interval(accuracy.top1),
        "top-5 %": f"{100 * accuracy.top5.value:.1f}",
        "95% ": _interval(accuracy.top5),
        "n": accuracy.top1.total,
    }


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _entry(checkpoint: Checkpoint) -> published.Entry | None:
    return next((entry for entry in published.entries() if entry.name == checkpoint.source), None)


def _as_json(name: str, checkpoint: Checkpoint, rows: list[tuple[Preprocessing, str, Accuracy]]) -> dict[str, Any]:
    return {
        "network": name,
        "source": checkpoint.source,
        "sha256": checkpoint.sha256,
        "rows": [
            {
                "pixels": pixels.as_mapping(),
                "pixels_known_by": known_by,
                "top1": accuracy.top1.value,
                "top1_interval": list(accuracy.top1.interval),
                "top5": accuracy.top5.value,
                "top5_interval": list(accuracy.top5.interval),
                "images": accuracy.top1.total,
            }
            for pixels, known_by, accuracy in rows
        ],
    }
