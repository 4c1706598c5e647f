"""Ratios beside the peers, in one run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = (
    "time backbone, detector (mmdet: MMDetection's) or evaluation beside others; latency: of any networks; engines: "
    "train in both, compare AP; tables: of many records; comparison: of two runs on COCO's scale"
)

_WHAT = ("backbone", "latency", "detector", "mmdet", "engines", "evaluation", "transfer", "tables", "comparison")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/benchmark.py`."""
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("--network", default="rexnet_1.0", metavar="NAME", help="latency: several, NAME,NAME,...")
    parser.add_argument(
        "--rounds",
        type=int,
        default=0,
        metavar="N",
        help="alternations (default 15; evaluation, transfer, tables 3, comparison 1), engines: seeds (1)",
    )
    parser.add_argument("--records", type=int, default=10_000, metavar="N", help="tables: how many (default 10,000)")
    parser.add_argument("--images", type=int, default=5_000, metavar="N", help="comparison: how many (default 5,000)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="backbone, latency: float32 and no torch.compile; detector, transfer: small sizes",
    )
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="engines: training steps (default 600)")
    parser.add_argument(
        "--output", default="output/engines", metavar="D", help="engines: folder of the runs (default output/engines)"
    )
    parser.add_argument(
        "--record",
        metavar="D",
        help="backbone, latency: leave a record of the latencies there for tools/summarize.py (latency: in D/NAME)",
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the table."""
    from tabulate import tabulate

    from rexdet.errors import UserError

    if arguments.rounds < 0:
        raise UserError(f"--rounds is {arguments.rounds}", fix="give a number of at least 1")
    if arguments.record and arguments.what not in ("backbone", "latency"):
        raise UserError("--record is of latencies", fix="leave it out, or benchmark backbone or latency")
    rows = _latencies(arguments) if arguments.what == "latency" else _measure(arguments)
    if arguments.record and arguments.what == "backbone":
        from rexdet.bench.record import write_latencies

        command = ["tools/benchmark.py", *arguments.command]
        write_latencies(Path(arguments.record), arguments.network, rows, command)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(tabulate(rows, headers="keys", tablefmt="github"))
    return 0


def _latencies(arguments: argparse.Namespace) -> list[dict[str, object]]:
    from rexdet.bench import latency
    from rexdet.bench.record import write_latencies
    from rexdet.runs import check_folder
    from rexdet.runs.matrix import folder_name

    names = [name.strip() for name in arguments.network.split(",") if name.strip()]
    folders = {name: Path(arguments.record) / folder_name(name) for name in names} if arguments.record else {}
    for folder in folders.values():
        # Before minutes are measured for nothing.
        check_folder(folder)
    found = latency.run(names, rounds=arguments.rounds or 15, quick=arguments.quick)
    for name, folder in folders.items():
        write_latencies(folder, name, found[name], ["tools/benchmark.py", *arguments.command])
    return [{"network": name, **row} for name, rows in found.items() for row in rows]


def _measure(arguments: argparse.Namespace) -> list[dict[str, object]]:
    if arguments.what == "backbone":
        from rexdet.bench import backbone

        return backbone.run(arguments.network, rounds=arguments.rounds or 15, quick=arguments.quick)
    if arguments.what == "detector":
        from rexdet.bench import detector

        return detector.run(arguments.network, rounds=arguments.rounds or 15, quick=arguments.quick)
    if arguments.what == "engines":
        from rexdet.bench import engine_runs

        return engine_runs.run(Path(arguments.output), seeds=arguments.rounds or 1, steps=arguments.steps)
    if arguments.what == "mmdet":
        from rexdet.bench import mmdet_detector

        return mmdet_detector.run(arguments.network, rounds=arguments.rounds or 15)
    if arguments.what == "transfer":
        from rexdet.bench import transfer

        return transfer.run(arguments.network, rounds=arguments.rounds or 3, quick=arguments.quick)
    if arguments.what == "tables":
        from rexdet.bench import tables

        return tables.run(arguments.records, rounds=arguments.rounds or 3)
    if arguments.what == "comparison":
        from rexdet.bench import comparison

        return comparison.run(arguments.images, rounds=arguments.rounds or 1)
    from rexdet.bench import evaluation

    return evaluation.run(rounds=arguments.rounds or 3)
