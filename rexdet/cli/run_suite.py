"""Networks x (data sets and detector configs) x seeds from one plan, and the table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexdet.studies.suite import Cell

HELP = "run every network of a plan on every data set and detector of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/run_suite.py`."""
    parser.add_argument("plan", metavar="PLAN.yaml", help="networks, transfer, detection, seeds, output")
    parser.add_argument("--dry-run", action="store_true", help="print the matrix and its hours, run nothing")
    parser.add_argument("--no-hours", action="store_true", help="do not measure how long it would take")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the matrix and the hours, run what is not done, print the table; status 1 where a cell failed."""
    from rexdet.files import write_text_atomically
    from rexdet.report.tables.suite import suite_table, transfer_cells
    from rexdet.report.tables.transfer import as_json
    from rexdet.studies import suite
    from rexdet.transfer.datasets import DATASETS, dataset_facts

    plan = suite.read_plan(arguments.plan)
    cells = suite.plan_cells(plan)
    output = Path(plan.output)
    todo = [cell for cell in cells if suite.finished_cell(cell, output) is None]
    hours = {} if arguments.no_hours or not todo else _measured(todo)
    if not arguments.json:
        _print_matrix(cells, todo, hours, plan.processes)
    if arguments.dry_run:
        return 0
    outcome = suite.run_suite(plan, cells, progress=not arguments.json)
    records = suite.records_of(cells, output)
    metrics = {
        entry.dataset: dataset_facts(entry.dataset).metric if entry.dataset.partition(":")[0] in DATASETS else "top1"
        for entry in plan.transfer
    }
    table = suite_table(records, metrics)
    write_text_atomically(output / "table.md", table + "\n")
    if arguments.json:
        failed = {cell.title: reason for cell, reason in outcome.failures.items()}
        print(json.dumps({"transfer": as_json(transfer_cells(records, metrics)), "failed": failed}, indent=2))
    else:
        print(f"\n{table}")
        for cell, reason in outcome.failures.items():
            print(f"failed: {cell.title}: {reason}")
    return 1 if outcome.failures else 0


# What a cell costs does not hang on its seeds, but on how many they are.
_Kind = tuple[str, tuple[str, ...], int]


def _kind(cell: Cell) -> _Kind:
    return cell.network, cell.words, len(cell.seeds)


def _measured(cells: list[Cell]) -> dict[_Kind, float | str]:
    """Hours of each kind of cell; cells that differ in their seeds alone are measured once."""
    from tqdm import tqdm

    from rexdet.studies.suite import measure_hours

    kinds = {_kind(cell): cell for cell in cells}
    bar = tqdm(kinds.items(), desc="measuring", unit="kind of cell", leave=False)
    return {kind: measure_hours(cell) for kind, cell in bar}


def _print_matrix(cells: list[Cell], todo: list[Cell], hours: dict[_Kind, float | str], processes: int) -> None:
    from tabulate import tabulate

    rows = []
    total = 0.0
    for cell in cells:
        if cell not in todo:
            told = "done"
        else:
            found = hours.get(_kind(cell), "not measured")
            told = found if isinstance(found, str) else f"{found:.2f} h"
            total += found if isinstance(found, float) else 0.0
        rows.append((cell.network, cell.task, ", ".join(map(str, cell.seeds)), told))
    print(tabulate(rows, ("network", "task", "seeds", "hours"), disable_numparse=True))
    print(
        f"{len(cells)} cells, {len(cells) - len(todo)} done; {total:.2f} hours for the rest one after the other, from "
        f"steps measured on this machine now; {processes} at once",
        flush=True,
    )
