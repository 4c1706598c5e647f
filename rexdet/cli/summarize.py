"""Tables of many runs, as text, Markdown, CSV, LaTeX and one page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rexdet.errors import UserError

if TYPE_CHECKING:
    from rexdet.report.summary import Summary
    from rexdet.report.tables import Table

_NOT_PRINTED = ("runs", "pairs", "overall", "intervals", "errors", "thresholds")
HELP = "tables of many runs beside the published numbers: text, Markdown, CSV, LaTeX, one page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/summarize.py`."""
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="folders of runs, records, ledgers (.jsonl)")
    parser.add_argument("--output", metavar="D", help="write everything into this folder: page, Markdown, CSV, LaTeX")
    parser.add_argument("--html", metavar="F", help="write one page that needs no network")
    parser.add_argument("--latex", metavar="F", help="write the tables as LaTeX (booktabs)")
    parser.add_argument("--csv", metavar="F", help="write one table as CSV: the first of --table, else networks")
    parser.add_argument("--markdown", metavar="F", help="write the tables as Markdown")
    parser.add_argument("--ledger", metavar="F", help="write every run once, a record a line, to take elsewhere")
    parser.add_argument(
        "--publish",
        metavar="D",
        help="write the records of runs that are done there, without what tells of the machine",
    )
    parser.add_argument(
        "--table", action="append", metavar="NAME", help="networks, detection, ... (may be repeated; default: all)"
    )
    parser.add_argument("--columns", metavar="A,B", help="with one --table: only these columns, in this order")
    parser.add_argument("--sort", metavar="COLUMN", help="order the rows by this column, best first; empty ones last")
    parser.add_argument("--ascending", action="store_true", help="with --sort: smallest first")
    parser.add_argument("--partial", action="store_true", help="also runs and evaluations of a part of the data")
    parser.add_argument("--no-costs", action="store_true", help="do not count parameters and MACs (a few seconds)")
    parser.add_argument(
        "--pictures",
        type=float,
        default=4.0,
        metavar="MB",
        help="most that the page's pictures take (default 4; 0: none)",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="of the images, for the table intervals (0: none)"
    )
    parser.add_argument(
        "--beta",
        type=float,
        default=1.0,
        help="of F-beta, for the table thresholds; above 1 a miss weighs more than a false alarm (default 1)",
    )
    parser.add_argument("--check", metavar="F", help="compare the tables between the marks of a Markdown file; exit 2")
    parser.add_argument("--update", metavar="F", help="write the tables between the marks of a Markdown file anew")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, write what was asked for, print."""
    if arguments.check or arguments.update:
        return _keep(arguments)
    from rexdet.report.reading import read
    from rexdet.report.summary import summarise_runs

    if not arguments.runs:
        raise UserError("no runs are named", fix="name folders of runs, records or ledgers")
    if arguments.resamples < 0:
        raise UserError(f"--resamples is {arguments.resamples}", fix="give 100 or more, 0 for none")
    if not 0 < arguments.beta < float("inf"):
        raise UserError(f"--beta is {arguments.beta:g}", fix="give a number above 0, such as 0.5, 1 or 2")
    if arguments.pictures < 0:
        raise UserError(f"--pictures is {arguments.pictures:g}", fix="give megabytes, 0 for none")
    summary = summarise_runs(
        read(arguments.runs),
        with_partial=arguments.partial,
        with_costs=not arguments.no_costs,
        resamples=arguments.resamples,
        beta=arguments.beta,
    )
    tables = _chosen(summary, arguments)
    written = _write(summary, tables, arguments)
    if arguments.json:
        plain = {
            "tables": [table.as_json() for table in tables],
            "skipped": [list(entry) for entry in summary.reading.skipped],
            "left_out": [list(entry) for entry in summary.groups.left_out],
            "runs": len(summary.runs),
        }
        print(json.dumps(plain, indent=2, allow_nan=False))
        return 0
    _print(summary, tables, arguments)
    for path in written:
        print(f"written: {path}")
    return 0


def _chosen(summary: Summary, arguments: argparse.Namespace) -> list[Table]:
    from rexdet.report.kept import chosen_columns
    from rexdet.report.summary import TABLES
    from rexdet.report.writers import sorted_rows

    # Those that grow with the runs and with the square of the rows are for files and the page, unless they are named.
    is_written = any((arguments.output, arguments.html, arguments.latex, arguments.markdown, arguments.json))
    names = arguments.table or [name for name in TABLES if is_written or name not in _NOT_PRINTED]
    for name in names:
        if name not in TABLES:
            raise UserError(f"no table is called {name!r}", fix=f"there are {', '.join(TABLES)}")
    tables = summary.filled(names)
    if not tables:
        # What was skipped and left out is the answer then.
        raise UserError("nothing to show: " + " ".join(summary.notes), ", ".join(arguments.runs))
    if arguments.columns:
        if len(tables) != 1:
            raise UserError("--columns are those of one table", fix="name it with --table")
        tables = [chosen_columns(tables[0], arguments.columns.split(","))]
    if not arguments.sort:
        return tables
    keys = {column.key for table in tables for column in table.columns}
    if arguments.sort not in keys:
        raise UserError(f"no column is called {arguments.sort!r}", fix=f"there are {', '.join(sorted(keys))}")
    return [
        sorted_rows(table, arguments.sort, descending=not arguments.ascending)
        if any(column.key == arguments.sort for column in table.columns)
        else table
        for table in tables
    ]


def _write(summary: Summary, tables: list[Table], arguments: argparse.Namespace) -> list[Path]:
    from rexdet.files import write_text_atomically
    from rexdet.report.reading import publish, write_ledger
    from rexdet.report.writers import comma_separated, latex, markdown

    texts: dict[Path, str] = {}
    pages: list[Path] = []
    if arguments.output:
        folder = Path(arguments.output)
        texts |= {folder / f"{table.id}.csv": comma_separated(table) for table in tables}
        texts |= {folder / "tables.md": markdown(tables), folder / "tables.tex": latex(tables)}
        pages.append(folder / "index.html")
    if arguments.csv:
        texts[Path(arguments.csv)] = comma_separated(tables[0])
    if arguments.markdown:
        texts[Path(arguments.markdown)] = markdown(tables)
    if arguments.latex:
        texts[Path(arguments.latex)] = latex(tables)
    if arguments.html:
        pages.append(Path(arguments.html))
    if pages:
        from rexdet.report.page import page

        made = page(summary, tables, picture_bytes=round(arguments.pictures * 2**20))
        texts |= dict.fromkeys(pages, made)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    if arguments.publish:
        (Path(arguments.publish) / "records").mkdir(parents=True, exist_ok=True)
        publish(summary.runs, Path(arguments.publish))
    if arguments.ledger:
        write_ledger(summary.runs, Path(arguments.ledger))
        return [*texts, Path(arguments.ledger)]
    return list(texts)


def _print(summary: Summary, tables: list[Table], arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.text import Text

    from rexdet.report.writers import print_tables

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        # A file or a pipe has no width: tables are not folded for one.
        console = Console(width=400)
    shown = [table for table in tables if arguments.table or table.id not in _NOT_PRINTED]
    print_tables(shown or tables, console)
    for note in summary.notes:
        console.print(Text(note), style="dim")


def _keep(arguments: argparse.Namespace) -> int:
    from rexdet.report.kept import check, update

    path = Path(arguments.update or arguments.check)
    if arguments.update:
        changed = update(path)
        print(f"{path}: {changed} of its tables written anew")
        return 0
    for line in (found := check(path)):
        print(line)
    if found:
        raise UserError(
            f"{len(found)} cells are not what the records say", str(path), f"tools/summarize.py --update {path}"
        )
    print(f"{path}: every table is what the records say")
    return 0
