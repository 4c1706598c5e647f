"""`show_run`: prints the record of a run."""

from __future__ import annotations

import argparse
import json

from rexdet.errors import UserError
from rexdet.runs.describe import describe_record, schema_tables
from rexdet.runs.record import read_record

HELP = "print the record of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder, or its record.json")
    parser.add_argument("--json", action="store_true", help="the record as JSON (several: a list of them)")
    parser.add_argument("--per-class", action="store_true", help="also the numbers of every class")
    parser.add_argument("--config", action="store_true", help="also the resolved configuration")
    parser.add_argument("--schema", action="store_true", help="every field of a record with its meaning, in Markdown")


def run(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        print(schema_tables(), end="")
        return 0
    if not arguments.runs:
        raise UserError("no run is named", fix="name the folder that --output named")
    records = [read_record(folder) for folder in arguments.runs]
    if arguments.json:
        values = [record.as_json() for record in records]
        print(json.dumps(values[0] if len(values) == 1 else values, indent=2, allow_nan=False))
        return 0
    pages = [describe_record(record, per_class=arguments.per_class, config=arguments.config) for record in records]
    print("\n\n".join(pages))
    return 0
