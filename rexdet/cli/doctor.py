"""`doctor`: what this machine has, what it lacks, and the one command that mends each gap."""

from __future__ import annotations

import argparse
import json

from tabulate import tabulate

from rexdet.doctor import Diagnosis, examine

HELP = "what this machine has, what it lacks, and the command that mends each gap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit status: 0 when a detector can be trained through detectron2 here, 2 when not."
    parser.add_argument(
        "--engines",
        action="store_true",
        help="instead: what detectron2 and MMDetection make of the same picture files, and the AP it costs",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.engines:
        return _compare_engines(as_json=arguments.json)
    diagnosis = examine()
    print(json.dumps(diagnosis.as_json(), indent=2) if arguments.json else as_text(diagnosis))
    return 0 if diagnosis.healthy else 2


def _compare_engines(*, as_json: bool) -> int:
    from rexdet.bench.engines.report import compare_engines

    report = compare_engines()
    print(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())
    return 0


def as_text(diagnosis: Diagnosis) -> str:
    """The report for a person."""
    hardware = diagnosis.hardware
    memory = f"{hardware['memory'] / 2**30:.0f} GiB" if hardware["memory"] else "unknown"
    machine = [
        ("system", hardware["platform"]),
        ("processor", f"{hardware['processor'] or 'unknown'}, {hardware['usable_cpus']} usable"),
        ("memory", memory),
        *((name, version) for name, version in diagnosis.versions.items()),
    ]
    rows = [(line.subject, line.state, line.says) for line in diagnosis.lines]
    parts = [
        tabulate(machine, tablefmt="plain", disable_numparse=True),
        tabulate(rows, headers=("what", "state", "found"), disable_numparse=True),
    ]
    mends = [(line.subject, line.mend) for line in diagnosis.lines if line.mend]
    if mends:
        parts.append(tabulate(mends, headers=("to mend", "run"), disable_numparse=True))
    parts.append(
        "A detector can be trained here."
        if diagnosis.healthy
        else "No detector can be trained here until what is broken is mended."
    )
    return "\n\n".join(parts)
