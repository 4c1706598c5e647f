"""The named networks and what they cost."""

from __future__ import annotations

import argparse
import json

from tabulate import tabulate

from rexdet.errors import UserError
from rexdet.zoo.costs import NetworkCost, cost_of
from rexdet.zoo.registry import list_models

HELP = "list the named networks with their parameters and multiply-accumulates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="as in file names, e.g. 'rexnet_lite*'"
    )
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of the input (default 224)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    names = list_models(arguments.pattern)
    if not names:
        raise UserError(f"no named network matches {arguments.pattern!r}", fix="without a pattern, all are listed")
    if arguments.size < 32:
        raise UserError(f"--size is {arguments.size}", fix="give 32 or more")
    costs = [cost_of(name, arguments.size) for name in names]
    print(json.dumps([cost.as_json() for cost in costs], indent=2) if arguments.json else _table(costs, arguments.size))
    return 0


def _table(costs: list[NetworkCost], size: int) -> str:
    rows = [
        (
            cost.name,
            f"{cost.parameters:,}",
            f"{cost.macs / 1e9:.3f}",
            f"{cost.activations / 1e6:.2f}",
            " ".join(str(channels) for channels in cost.channels),
            ", ".join(f"@{tag}" for tag in cost.tags),
        )
        for cost in costs
    ]
    head = ("network", "parameters", f"GMACs at {size}", "activations (M)", "res2 ... res5", "published weights")
    return tabulate(rows, head, disable_numparse=True, colalign=("left", "right", "right", "right", "left", "left"))
