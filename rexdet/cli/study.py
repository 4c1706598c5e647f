"""A study of the papers at a small scale: a matrix of trainings, its tables and its plots."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexdet.errors import UserError

if TYPE_CHECKING:
    from rexdet.studies.cells import Cell, MakeJob
    from rexdet.transfer.protocols import Protocol

HELP = "run a small-scale study (lwdna, nm_relu), or print its tables from records"
STUDIES = ("lwdna", "nm_relu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/study.py`."""
    parser.add_argument("study", choices=STUDIES, help="lwdna: searched widths; nm_relu: fewer activations")
    parser.add_argument("--data", metavar="D", help="a folder with train/ and test/, each with a folder a class")
    parser.add_argument("--output", metavar="D", help="folder for cells, tables and plots; finished cells there stay")
    parser.add_argument("--records", metavar="D", help="only print the tables, from the records in this folder")
    parser.add_argument("--network", action="append", metavar="NAME", help="network of the study (may be repeated)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each setting (default: 5)")
    parser.add_argument("--protocol", default="cifar_short", metavar="P", help="name or file (default: cifar_short)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, metavar="N", help="instead of the protocol's length")
    length.add_argument("--steps", type=int, metavar="N", help="instead of the protocol's length")
    parser.add_argument("--processes", type=int, metavar="N", help="trainings at once, one thread each (default: CPUs)")
    parser.add_argument("--width", type=float, default=2.0, help="lwdna: factor of the widened network (default: 2)")
    parser.add_argument(
        "--weights",
        choices=("reinitialised", "inherited"),
        default="reinitialised",
        help="lwdna: what training starts from; the paper's claim is about widths (default: reinitialised)",
    )
    parser.add_argument("--remain", type=float, default=0.4, help="lwdna: share of its channels that a layer keeps")
    parser.add_argument("--linear", type=float, default=0.45, help="lwdna: the same for what the classifier reads")
    parser.add_argument("--ratio", action="append", metavar="N:M", help="nm_relu: a ratio (may be repeated)")
    parser.add_argument("--publish", metavar="D", help="also write records without machine, tables and plots there")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Compute what is missing, then print the tables; status 1 where a cell failed."""
    from rexdet.studies import outcome

    if arguments.records:
        found = outcome.from_records(arguments.study, outcome.read_records(arguments.records))
        _print(found, as_json=arguments.json)
        return 0
    if not arguments.data or not arguments.output:
        raise UserError("a study needs --data and --output", fix="or --records, to print tables only")
    return _run_study(arguments)


def _run_study(arguments: argparse.Namespace) -> int:
    from rexdet.optional import import_optional
    from rexdet.studies import outcome
    from rexdet.studies.cells import run_cells

    # Asked before the hours of training, not after them.
    import_optional("matplotlib", "matplotlib")
    output = Path(arguments.output)
    cells, make_job = _matrix(arguments, _protocol(arguments))
    processes = arguments.processes or os.cpu_count() or 1
    records, failures = run_cells(
        cells,
        make_job,
        output,
        processes=processes,
        progress=not arguments.json,
        command=["tools/study.py", *arguments.command],
    )
    if not records:
        raise UserError(f"no cell ended: {next(iter(failures.values()))}", where=str(output))
    found = outcome.from_records(arguments.study, list(records.values()))
    outcome.write(found, output)
    if arguments.publish:
        outcome.publish(found, Path(arguments.publish))
    _print(found, as_json=arguments.json)
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}")
    return 1 if failures else 0


def _protocol(arguments: argparse.Namespace) -> Protocol:
    from rexdet.transfer.protocols import read_protocol

    protocol = read_protocol(arguments.protocol)
    if arguments.epochs is not None:
        return protocol.changed(epochs=arguments.epochs)
    return protocol if arguments.steps is None else protocol.changed(steps=arguments.steps)


def _matrix(arguments: argparse.Namespace, protocol: Protocol) -> tuple[list[Cell], MakeJob]:
    """The cells that were asked for, and what makes a job of one."""
    from rexdet.studies import lwdna, nm_relu
    from rexdet.studies.cells import make_cells

    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}", fix="give a number of at least 1")
    options: dict[str, Any] = {}
    settings: dict[str, list[str]]
    if arguments.study == lwdna.NAME:
        settings = {network: list(lwdna.SETTINGS) for network in arguments.network or lwdna.NETWORKS}
        options = {name: getattr(arguments, name) for name in ("width", "weights", "remain", "linear")}
        make_job = lwdna.make_job
    else:
        ratios = [nm_relu.BASELINE, *(arguments.ratio or nm_relu.SETTINGS[1:])]
        settings = {
            network: nm_relu.distinct_settings(network, list(dict.fromkeys(ratios)), protocol.size())[0]
            for network in arguments.network or nm_relu.NETWORKS
        }
        make_job = nm_relu.make_job
    cells = make_cells(
        arguments.study, settings, seeds=arguments.seeds, protocol=protocol, data=arguments.data, options=options
    )
    return cells, make_job


def _print(found: Any, *, as_json: bool) -> None:
    print(json.dumps(found.as_json(), indent=2) if as_json else found.text())
