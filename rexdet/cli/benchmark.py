"""Ratios beside the peers, in one run."""

from __future__ import annotations

import argparse
import json

HELP = "time backbone, detector or evaluation beside others: ratios of one run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/benchmark.py`."""
    parser.add_argument("what", choices=("backbone", "detector", "evaluation"))
    parser.add_argument("--network", default="rexnet_1.0", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="alternations (default 15; evaluation 3)")
    parser.add_argument("--quick", action="store_true", help="backbone: float32 and no torch.compile")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the table."""
    from tabulate import tabulate

    from rexdet.errors import UserError

    if arguments.rounds < 0:
        raise UserError(f"--rounds is {arguments.rounds}", fix="give a number of at least 1")
    rows = _measure(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(tabulate(rows, headers="keys", tablefmt="github"))
    return 0


def _measure(arguments: argparse.Namespace) -> list[dict[str, object]]:
    if arguments.what == "backbone":
        from rexdet.bench import backbone

        return backbone.run(arguments.network, rounds=arguments.rounds or 15, quick=arguments.quick)
    if arguments.what == "detector":
        from rexdet.bench import detector

        return detector.run(arguments.network, rounds=arguments.rounds or 15)
    from rexdet.bench import evaluation

    return evaluation.run(rounds=arguments.rounds or 3)
