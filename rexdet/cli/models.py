"""The named networks: what they cost, what was published of them, and what detectors over them cost."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.published import Cell
from rexdet.zoo.costs import (
    NEEDS_A_FILE,
    DetectorCost,
    NetworkCost,
    PublishedWeights,
    cost_of,
    is_backbone,
    matching_networks,
    matching_without_file,
    networks_printed_with,
)

HELP = "list the named networks: cost, published accuracy and weights; what detectors over them cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/models.py`."""
    parser.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="as in file names, e.g. 'rexnet_lite*'; without it: all, and with --ssdlite or --detectors those of which "
        "a paper prints the cost",
    )
    detectors = parser.add_mutually_exclusive_group()
    detectors.add_argument("--ssdlite", action="store_true", help="the cost of SSDLite over each network")
    detectors.add_argument(
        "--detectors", action="store_true", help="the cost of Faster and Mask R-CNN over each (needs detectron2)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the input (default 224; 32 for the CIFAR forms)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Count and print."""
    if arguments.size is not None and (arguments.ssdlite or arguments.detectors):
        raise UserError("--size stands beside a detector, whose own size is printed", fix="leave it out")
    if arguments.size is not None and arguments.size < 32:
        raise UserError(f"--size is {arguments.size}", fix="give 32 or more")
    if arguments.ssdlite:
        return _print_ssdlite(arguments)
    if arguments.detectors:
        return _print_detectors(arguments)
    pattern = arguments.pattern or "*"
    names = tqdm(_matching(pattern), "counting", leave=False, disable=None)
    costs = [cost_of(name, arguments.size) for name in names]
    missing = []
    for name in matching_without_file(pattern):
        try:
            costs.append(cost_of(name, arguments.size))
        except UserError:
            # Its file is not here: it is listed all the same.
            missing.append(name)
    if arguments.json:
        rows = [cost.as_json() for cost in costs] + [{"name": name, "needs": NEEDS_A_FILE[name]} for name in missing]
        print(json.dumps(rows, indent=2))
    else:
        print(_table(costs, missing))
    return 0


def _matching(pattern: str) -> list[str]:
    names = matching_networks(pattern)
    if not names and not matching_without_file(pattern):
        raise UserError(f"no named network matches {pattern!r}", fix="without a pattern, all are listed")
    return names


def _table(costs: list[NetworkCost], missing: list[str]) -> str:
    rows: list[tuple[str, ...]] = [
        (
            cost.name,
            f"{cost.parameters:,}",
            f"{cost.macs / 1e9:.3f}",
            str(cost.size),
            f"{cost.activations / 1e6:.2f}",
            " ".join(str(channels) for channels in cost.channels.values()),
            _accuracy(cost.accuracy),
            cost.accuracy.cited(short=True) if cost.accuracy else "",
            _weights(cost.weights),
        )
        for cost in costs
    ]
    rows += [(name, NEEDS_A_FILE[name], "", "", "", "", "", "", "") for name in missing]
    head = (
        "network",
        "parameters",
        "GMACs",
        "at px",
        "activations (M)",
        "res2 ... res5",
        "top-1",
        "printed in",
        "published weights (licence)",
    )
    aligned = ("left", "right", "right", "right", "right", "left", "left", "left", "left")
    return tabulate(sorted(rows), head, disable_numparse=True, colalign=aligned)


def _accuracy(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return " ".join(
        part
        for part in (
            str(cell.value),
            "error" if cell.metric == "top1_error" else "",
            "" if cell.dataset == "imagenet-1k" else f"({cell.dataset})",
        )
        if part
    )


def _weights(weights: tuple[PublishedWeights, ...]) -> str:
    """Tags by licence: "@tv_in1k @tv2_in1k (BSD-3-Clause)"."""
    by_licence: dict[str, list[str]] = {}
    for one in weights:
        by_licence.setdefault(one.licence or "no licence stated", []).append(f"@{one.tag}")
    return "; ".join(f"{' '.join(tags)} ({licence})" for licence, tags in by_licence.items())


def _print_ssdlite(arguments: argparse.Namespace) -> int:
    from rexdet.zoo.ssdlite import RULE, has_ssdlite_maps, ssdlite_cost

    names = _detector_names(arguments.pattern, ("ssdlite",), has_ssdlite_maps, "the maps that SSDLite reads")
    _print_costs([ssdlite_cost(name) for name in names], RULE, arguments.json)
    return 0


def _print_detectors(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("detectron2") is None:
        raise UserError(
            "--detectors counts detectron2's heads, and detectron2 is not installed",
            fix="`make setup` installs it; --ssdlite needs torchvision alone",
        )
    from rexdet.detectron2.counts import KINDS, RULE, detector_cost

    names = _detector_names(arguments.pattern, KINDS, is_backbone, "maps at strides 4 to 32")
    _print_costs([detector_cost(name, kind) for name in names for kind in KINDS], RULE, arguments.json)
    return 0


def _detector_names(pattern: str | None, kinds: tuple[str, ...], fits: Callable[[str], bool], what: str) -> list[str]:
    if pattern is None:
        return [name for name in networks_printed_with(kinds) if fits(name)]
    names = [name for name in _matching(pattern) if fits(name)]
    if not names:
        raise UserError(
            f"no network that matches {pattern!r} has {what}", fix="without a pattern, the papers' are listed"
        )
    return names


def _print_costs(costs: list[DetectorCost], rule: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"rule": rule, "detectors": [cost.as_json() for cost in costs]}, indent=2))
        return
    rows = [_cost_row(cost) for cost in costs]
    head = ("network", "detector", "parameters (M)", "printed", "GMACs", "printed", "AP printed", "printed in")
    aligned = ("left", "left", "right", "right", "right", "right", "right", "left")
    print(tabulate(rows, head, disable_numparse=True, colalign=aligned))
    print(f"\nCounted: {rule}.")


def _cost_row(cost: DetectorCost) -> tuple[str, ...]:
    printed = cost.printed
    numbers: tuple[Any, ...] = (
        (printed.parameters_millions, printed.macs_billions, printed.ap) if printed else (None, None, None)
    )
    parameters, macs, ap = ("" if number is None else str(number) for number in numbers)
    return (
        cost.name,
        cost.detector,
        f"{cost.parameters / 1e6:.3f}",
        parameters,
        f"{cost.macs / 1e9:.3f}",
        macs,
        ap,
        printed.cited if printed else "",
    )
