"""Tables of many runs, as text, Markdown, CSV, LaTeX and one page."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rexdet.errors import UserError
from rexdet.report.tables.names import TABLES

if TYPE_CHECKING:
    from rexdet.report.tables.summary import Summary
    from rexdet.report.tables.table import Table

_NOT_PRINTED = ("runs", "pairs", "overall", "intervals", "errors", "thresholds")
# Those that rest on saved detections: why a run has none is asked for where they are named.
_DETAILS = ("intervals", "errors", "thresholds")
_FEWEST_RESAMPLES, _MOST_RESAMPLES = 100, 100_000
# Files, each with the option that names it.
_FILES = ("csv", "markdown", "latex", "html", "ledger")
HELP = "tables of many runs beside the published numbers: text, Markdown, CSV, LaTeX, one page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/summarize.py`."""
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="folders of runs, records, ledgers (.jsonl)")
    parser.add_argument("--output", metavar="D", help="write everything into this folder: page, Markdown, CSV, LaTeX")
    parser.add_argument("--html", metavar="F", help="write one page that needs no network")
    parser.add_argument("--latex", metavar="F", help="write the tables as LaTeX (booktabs, longtable, array)")
    parser.add_argument("--csv", metavar="F", help="write one table as CSV: the first --table, else networks")
    parser.add_argument("--markdown", metavar="F", help="write the tables as Markdown")
    parser.add_argument("--ledger", metavar="F", help="write every run once, a record a line, to take elsewhere")
    parser.add_argument(
        "--publish",
        metavar="D",
        help="write the records of runs that are done there, without what tells of the machine",
    )
    parser.add_argument(
        "--table", action="append", metavar="NAME", help=f"{', '.join(TABLES)} (may be repeated; default: all)"
    )
    parser.add_argument("--columns", metavar="A,B", help="with one --table: only these columns, in this order")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="order the rows by this column, largest first; empty ones last"
    )
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
    if arguments.check is not None or arguments.update is not None:
        return _keep(arguments)
    from rexdet.report.records.reading import read, shown
    from rexdet.report.tables.summary import summarise_runs

    _check(arguments)
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
        print(f"written: {shown(path)}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise UserError for what cannot be followed, before anything is read."""
    from rexdet.report.tables.targets import check_file, check_folder, named_folder

    if not arguments.runs:
        raise UserError("no runs are named", fix="name folders of runs, records or ledgers")
    if arguments.resamples and not _FEWEST_RESAMPLES <= arguments.resamples <= _MOST_RESAMPLES:
        raise UserError(
            f"--resamples is {arguments.resamples}", fix=f"give {_FEWEST_RESAMPLES} to {_MOST_RESAMPLES:,}, 0 for none"
        )
    if not 0 < arguments.beta < math.inf:
        raise UserError(f"--beta is {arguments.beta:g}", fix="give a number above 0, such as 0.5, 1 or 2")
    if not 0 <= arguments.pictures < math.inf:
        raise UserError(f"--pictures is {arguments.pictures:g}", fix="give megabytes, 0 for none")
    for name in arguments.table or ():
        if name not in TABLES:
            raise UserError(f"no table is called {name!r}", fix=f"there are {', '.join(TABLES)}")
    named: dict[Path, str] = {}
    for option, path in _files(arguments):
        check_file(path, option)
        if path.absolute() in named:
            raise UserError(f"{named[path.absolute()]} and {option} name the same file", str(path), "name two")
        named[path.absolute()] = option
    for option, folder in (("--output", arguments.output), ("--publish", arguments.publish)):
        if folder is not None:
            check_folder(named_folder(folder, option), option)


def _files(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for name in _FILES:
        if getattr(arguments, name) is not None:
            yield f"--{name}", Path(getattr(arguments, name))


def _chosen(summary: Summary, arguments: argparse.Namespace) -> list[Table]:
    from rexdet.report.tables.kept import chosen_columns
    from rexdet.report.tables.writers import sorted_rows

    # Those that grow with the runs and with the square of the rows are for files and the page, unless they are named.
    files = (arguments.output, arguments.html, arguments.latex, arguments.markdown)
    is_written = arguments.json or any(name is not None for name in files)
    names = arguments.table or [name for name in TABLES if is_written or name not in _NOT_PRINTED]
    tables = summary.filled(names)
    if not tables and not arguments.table and (arguments.ledger is not None or arguments.publish is not None):
        # Runs that are in no table are to be taken elsewhere all the same.
        return []
    if not tables:
        # What was skipped and left out is the answer then.
        told = [*summary.notes, *_told_of_details(summary, arguments)]
        raise UserError("nothing to show: " + " ".join(told), ", ".join(arguments.runs))
    if arguments.columns:
        if len(tables) != 1:
            raise UserError("--columns are those of one table", fix="name it with --table")
        tables = [chosen_columns(tables[0], arguments.columns.split(","))]
    if not arguments.sort:
        return tables
    keys = {column.key for table in tables for column in (*table.columns, *table.empty)}
    if arguments.sort not in keys:
        raise UserError(f"no column is called {arguments.sort!r}", fix=f"there are {', '.join(sorted(keys))}")
    return [
        sorted_rows(table, arguments.sort, descending=not arguments.ascending)
        if any(column.key == arguments.sort for column in table.columns)
        else table
        for table in tables
    ]


def _told_of_details(summary: Summary, arguments: argparse.Namespace) -> list[str]:
    """Why runs are not in the tables that rest on saved detections, where such a table was named."""
    named = [name for name in arguments.table or () if name in _DETAILS]
    if not named:
        return []
    if named == ["intervals"] and not arguments.resamples:
        return ["--resamples 0 leaves the table intervals out."]
    saved, notes = summary.saved
    if saved or notes:
        return notes
    is_left_out = any(one.record.kind == "detection" for one in summary.runs)
    return ["No run of a detector is in a table." if is_left_out else "No run of a detector is among them."]


def _for_csv(summary: Summary, tables: list[Table], arguments: argparse.Namespace) -> Table:
    """The first table that was named, else that of the networks."""
    name = arguments.table[0] if arguments.table else "networks"
    for table in tables:
        if table.id == name:
            return table
    there = ", ".join(table.id for table in tables)
    raise UserError(f"the table {name} has no row", f"--csv {arguments.csv}", f"--table takes one of {there}")


def _write(summary: Summary, tables: list[Table], arguments: argparse.Namespace) -> list[Path]:
    from rexdet.files import write_text_atomically
    from rexdet.report.records.reading import publish, write_ledger
    from rexdet.report.tables.latex import latex
    from rexdet.report.tables.writers import comma_separated, markdown

    texts: dict[Path, str] = {}
    pages: list[Path] = []
    with_wide = bool(arguments.columns)
    if arguments.output is not None:
        folder = Path(arguments.output)
        texts |= {folder / f"{table.id}.csv": comma_separated(table) for table in tables}
        texts |= {folder / "tables.md": markdown(tables), folder / "tables.tex": latex(tables, with_wide=with_wide)}
        pages.append(folder / "index.html")
    if arguments.csv is not None:
        texts[Path(arguments.csv)] = comma_separated(_for_csv(summary, tables, arguments))
    if arguments.markdown is not None:
        texts[Path(arguments.markdown)] = markdown(tables)
    if arguments.latex is not None:
        texts[Path(arguments.latex)] = latex(tables, with_wide=with_wide)
    if arguments.html is not None:
        pages.append(Path(arguments.html))
    if pages:
        from rexdet.report.page.document import page

        made = page(summary, tables, picture_bytes=round(arguments.pictures * 2**20))
        texts |= dict.fromkeys(pages, made)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    if arguments.publish is not None:
        (Path(arguments.publish) / "records").mkdir(parents=True, exist_ok=True)
        publish(summary.runs, Path(arguments.publish))
    if arguments.ledger is not None:
        write_ledger(summary.runs, Path(arguments.ledger))
        return [*texts, Path(arguments.ledger)]
    return list(texts)


def _print(summary: Summary, tables: list[Table], arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.text import Text

    from rexdet.report.tables.terminal import UNBOUNDED, print_tables

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        # A file or a pipe has no width: nothing is folded for one.
        console = Console(width=UNBOUNDED)
    shown = [table for table in tables if arguments.table or table.id not in _NOT_PRINTED]
    print_tables(shown or tables, console, with_wide=bool(arguments.columns))
    for note in (*summary.notes, *_told_of_details(summary, arguments)):
        console.print(Text(note), style="dim")


def _keep(arguments: argparse.Namespace) -> int:
    from rexdet.report.records.reading import shown
    from rexdet.report.tables.kept import check, update
    from rexdet.report.tables.targets import check_file

    path = Path(arguments.check if arguments.update is None else arguments.update)
    name = shown(path)
    if arguments.update is not None:
        check_file(path, "--update")
        changed = update(path)
        print(f"{name}: {changed} of its tables written anew")
        return 0
    for line in (found := check(path)):
        print(line)
    if found:
        raise UserError(f"{len(found)} cells are not what the records say", name, f"tools/summarize.py --update {name}")
    print(f"{name}: every table is what the records say")
    return 0
