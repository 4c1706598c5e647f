"""Tables that stand in a page of the repository: printed from kept records, and checked cell by cell.

    <!-- begin: tools/summarize.py docs/studies/lwdna --table transfer --columns network,value -->
    (the table)
    <!-- end -->

The words of the mark are those of the command line. Paths are relative to the page's folder, or to one above it.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.report.reading import read
from rexdet.report.summary import TABLES, summarise_runs
from rexdet.report.tables import Table
from rexdet.report.writers import markdown_table

_MARK = re.compile(
    r"^(?P<begin><!-- begin: tools/summarize\.py (?P<words>[^\n]*?) -->\n)(?P<text>.*?)(?P<end><!-- end -->)",
    re.DOTALL | re.MULTILINE,
)


def check(page: Path) -> list[str]:
    """What in the page's tables is not what the records say, a line a cell: file, line, row, column, both values.

    Raises UserError for a page without such tables and for a mark that cannot be followed.
    """
    found: list[str] = []
    for mark, expected in _marks(page):
        at = page.read_text(encoding="utf-8").count("\n", 0, mark.start("text")) + 1
        found += differences(f"{page}:{at}", mark["text"].strip(), expected.strip())
    return found


def update(page: Path) -> int:
    """Write the page's tables anew; returns how many were not as they should be. Raises UserError as `check` does."""
    text = page.read_text(encoding="utf-8")
    changed = 0
    for mark, expected in reversed(list(_marks(page))):
        if mark["text"].strip() != expected.strip():
            changed += 1
            text = f"{text[: mark.start('text')]}{expected}\n{text[mark.end('text') :]}"
    if changed:
        write_text_atomically(page, text)
    return changed


def differences(where: str, stands: str, expected: str) -> list[str]:
    """The cells in which one Markdown table is not another, a line each; where: file and line of the first."""
    if stands == expected:
        return []
    is_line, should = _cells(stands), _cells(expected)
    head = should[0] if should else []
    found = []
    for number in range(max(len(is_line), len(should))):
        here = is_line[number] if number < len(is_line) else []
        there = should[number] if number < len(should) else []
        row = (there or here or [""])[0]
        for place in range(max(len(here), len(there))):
            old, new = (cells[place] if place < len(cells) else "nothing" for cells in (here, there))
            if old != new:
                column = head[place] if place < len(head) else f"column {place + 1}"
                found.append(f"{where}: row {row!r}, column {column!r}: {old!r} stands there, the records say {new!r}")
    return found or [f"{where}: the layout of the table differs"]


def chosen_columns(table: Table, keys: Sequence[str]) -> Table:
    """The table with these columns alone, in this order. Raises UserError for one that it does not have."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    for key in keys:
        if key not in places:
            raise UserError(f"the table {table.id} has no column {key!r}", fix=f"it has {', '.join(places)}")
    rows = tuple(
        type(row)(row.key, tuple(row.cells[places[key]] for key in keys), row.origin, row.of) for row in table.rows
    )
    return Table(table.id, table.title, tuple(table.columns[places[key]] for key in keys), rows, table.notes)


def _marks(page: Path) -> Iterator[tuple[re.Match[str], str]]:
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(page)) from None
    marks = list(_MARK.finditer(text))
    if not marks:
        raise UserError("no table of tools/summarize.py stands here", str(page), "see docs/summarize.md for its marks")
    for mark in marks:
        yield mark, _printed(page, shlex.split(mark["words"]))


def _printed(page: Path, words: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(prog="mark", add_help=False, exit_on_error=False)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--table", choices=TABLES, default="networks")
    parser.add_argument("--columns", default="")
    parser.add_argument("--no-costs", action="store_true")
    try:
        asked, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UserError(f"a mark cannot be followed: {error}", str(page)) from None
    if unknown:
        raise UserError(
            f"a mark cannot be followed: {unknown[0]}", str(page), "it knows --table, --columns, --no-costs"
        )
    summary = summarise_runs(read([_resolved(page, path) for path in asked.runs]), with_costs=not asked.no_costs)
    table = summary.table(asked.table)
    if not table.rows:
        raise UserError(f"the records of a mark give no table {asked.table}", str(page))
    return markdown_table(chosen_columns(table, asked.columns.split(",")) if asked.columns else table)


def _resolved(page: Path, path: str) -> Path:
    for folder in page.resolve().parents:
        if (folder / path).exists():
            return folder / path
    raise UserError(f"the records of a mark are not here: {path}", str(page))


def _cells(text: str) -> list[list[str]]:
    return [
        [re.sub(r"\\([|*_<>`])", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in text.splitlines()
        if line.strip() and not re.fullmatch(r"[|:\- ]+", line.strip())
    ]
