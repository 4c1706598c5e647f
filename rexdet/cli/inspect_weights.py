"""What a file of weights is, and whether it fits."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rexdet.errors import UserError
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.load import LoadReport, doubts
from rexdet.weights.sanity import suspicions
from rexdet.zoo.genome import genome_of, write_genome
from rexdet.zoo.open import fit_report, open_checkpoint

HELP = "say what a file of weights is: layout, network, SHA-256, pixels, licence, and whether it fits"

_KNOWN_BY = {
    "sha": "known by its SHA-256",
    "metadata": "known by its metadata or the .pixels.yaml beside it",
    "user": "as you say",
    "assumed": "ASSUMED: nothing says what it was trained with",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a file of weights, or a published name such as rexnet_1.0@nav_in1k"
    )
    parser.add_argument("--network", metavar="NAME", help="say whether the file fits this network")
    parser.add_argument("--pixels", metavar="P", help="what it was trained with: a preset's name or a YAML file")
    parser.add_argument("--part", default="", metavar="PART", help="which network of a file that holds several")
    parser.add_argument("--genome", metavar="F", help="write the widths of every layer as a genome (lwdna:F builds it)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    checkpoint = open_checkpoint(
        arguments.file, pixels=arguments.pixels, part=arguments.part, network=arguments.network or ""
    )
    network = arguments.network or checkpoint.network
    report = fit_report(checkpoint, network) if network else None
    if arguments.json:
        print(json.dumps(_as_json(checkpoint, report, network), indent=2))
    else:
        print("\n".join(f"{name:<10} {value}" for name, value in _lines(checkpoint, report, network)))
    if report is None:
        raise UserError(
            "fits no network that has a name",
            where=checkpoint.source,
            fix="build its network with the overrides that it was trained with",
        )
    report.raise_if_wrong()
    if arguments.genome:
        write_genome(arguments.genome, genome_of(checkpoint))
        print(f"genome: {arguments.genome}", file=sys.stderr if arguments.json else sys.stdout)
    return 0


def _lines(checkpoint: Checkpoint, report: LoadReport | None, network: str | None) -> list[tuple[str, str]]:
    lines = [
        ("file", f"{checkpoint.source} ({checkpoint.container})"),
        ("holds", _holds(checkpoint)),
        ("network", _network(checkpoint)),
        ("layout", checkpoint.layout + (f", under {checkpoint.part!r}" if checkpoint.part else "")),
        ("sha256", checkpoint.sha256),
    ]
    if checkpoint.origin_sha256 != checkpoint.sha256:
        lines.append(("origin", f"{checkpoint.origin_sha256} (the file that this one was converted from)"))
    lines += [
        *([("stride", f"in the {checkpoint.stride_in} convolution")] if checkpoint.stride_in else []),
        ("pixels", f"{checkpoint.pixels} ({_KNOWN_BY[checkpoint.pixels_known_by]})"),
        ("licence", checkpoint.licence or "not known"),
    ]
    if checkpoint.other_parts:
        lines.append(("also", f"{', '.join(map(repr, checkpoint.other_parts))} (--part chooses)"))
    if checkpoint.ignored:
        lines.append(("ignored", ", ".join(checkpoint.ignored)))
    lines += [("suspicious", warning) for warning in (*suspicions(checkpoint.tensors), *doubts(checkpoint))]
    if report is not None and network is not None:
        lines.append(("fits", f"{network}: {'yes' if report.ok else 'NO, ' + report.problem()}"))
        if report.head_note:
            lines.append(("head", report.head_note))
    return lines


def _holds(checkpoint: Checkpoint) -> str:
    classes = f" of {checkpoint.shape.classes} classes" if checkpoint.shape.classes else ""
    return f"a {checkpoint.kind}{classes}, {len(checkpoint.tensors)} tensors"


def _network(checkpoint: Checkpoint) -> str:
    if checkpoint.network is None:
        return f"no name fits: {checkpoint.shape.summary()}"
    return checkpoint.network_in_words


def _as_json(checkpoint: Checkpoint, report: LoadReport | None, network: str | None) -> dict[str, Any]:
    return {
        "source": checkpoint.source,
        "container": checkpoint.container,
        "kind": checkpoint.kind,
        "network": checkpoint.network,
        "overrides": dict(checkpoint.overrides),
        "classes": checkpoint.shape.classes,
        "layout": checkpoint.layout,
        "stride_in": checkpoint.stride_in,
        "part": checkpoint.part,
        "other_parts": list(checkpoint.other_parts),
        "ignored": list(checkpoint.ignored),
        "sha256": checkpoint.sha256,
        "origin_sha256": checkpoint.origin_sha256,
        "pixels": checkpoint.pixels.as_mapping(),
        "pixels_known_by": checkpoint.pixels_known_by,
        "licence": checkpoint.licence,
        "suspicions": [*suspicions(checkpoint.tensors), *doubts(checkpoint)],
        "fits": None if report is None else {"network": network, "ok": report.ok, "problem": report.problem()},
    }
