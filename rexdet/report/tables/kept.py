"""Tables that stand in a page of the repository: printed from kept records, and checked cell by cell.

    <!-- begin: tools/summarize.py docs/studies/lwdna --table transfer --columns network,value -->
    (the table)
    <!-- end -->

The words of the mark are those of the command line. Paths are relative to the page's folder, or to one above it.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.report.records.reading import read, shown
from rexdet.report.tables.names import TABLES
from rexdet.report.tables.summary import summarise_runs
from rexdet.report.tables.table import MISSING, Table
from rexdet.report.tables.writers import markdown_table

_BEGIN = "<!-- begin: "
_END = "<!-- end -->"
_OURS = re.compile(r"<!-- begin: tools/summarize\.py (?P<words>.*?) -->\s*")


@dataclass(frozen=True)
class Mark:
    """A table's place in a page. line: number of the mark's. words: of it. start, stop: lines of the table, from 0."""

    line: int
    words: str
    start: int
    stop: int


def check(page: Path) -> list[str]:
    """What in the page's tables is not what the records say, a line a cell: file, line, row, column, both values.

    Raises UserError for a page that cannot be read or has no such tables, and for a mark that cannot be followed.
    """
    lines = _lines(page)
    found: list[str] = []
    for mark in _marks(page, lines):
        expected = _printed(page, mark)
        found += differences(f"{shown(page)}:{mark.line + 1}", "".join(lines[mark.start : mark.stop]).strip(), expected)
    return found


def update(page: Path) -> int:
    """Write the page's tables anew; returns how many were not as they should be. Raises UserError as `check` does."""
    lines = _lines(page)
    changed = 0
    for mark in reversed(_marks(page, lines)):
        expected = _printed(page, mark)
        if "".join(lines[mark.start : mark.stop]).strip() != expected:
            changed += 1
            lines[mark.start : mark.stop] = [f"{expected}\n"]
    if changed:
        write_text_atomically(page, "".join(lines))
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
    """The table with these columns alone, in this order; one in which nothing stands is given empty.

    Raises UserError for one that the table never has.
    """
    columns = {column.key: column for column in (*table.columns, *table.empty)}
    for key in keys:
        if key not in columns:
            raise UserError(f"the table {table.id} has no column {key!r}", fix=f"it has {', '.join(columns)}")
    places = {column.key: place for place, column in enumerate(table.columns)}
    rows = tuple(
        replace(row, cells=tuple(row.cells[places[key]] if key in places else MISSING for key in keys))
        for row in table.rows
    )
    return replace(table, columns=tuple(columns[key] for key in keys), rows=rows, empty=())


def _lines(page: Path) -> list[str]:
    try:
        # Lines as editors count them: other separators stand within one.
        return list(io.StringIO(page.read_text(encoding="utf-8")))
    except UnicodeDecodeError:
        raise UserError("is no text in UTF-8", shown(page)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", shown(page)) from None


def _marks(page: Path, lines: Sequence[str]) -> list[Mark]:
    """The marks in their order. Raises UserError where a begin or an end stands alone: prose between would be lost."""
    found: list[Mark] = []
    begun: tuple[int, str | None] | None = None
    for place, line in enumerate(lines):
        where = f"{shown(page)}:{place + 1}"
        if line.startswith(_BEGIN):
            if begun is not None:
                raise UserError(f"a mark begins inside that of line {begun[0] + 1}", where, f"end that one with {_END}")
            match = _OURS.fullmatch(line)
            if match is None and line.startswith(f"{_BEGIN}tools/summarize.py"):
                raise UserError("a mark stands on one line, and nothing behind it", where)
            begun = place, match["words"] if match else None
        elif line.startswith(_END) or (begun is not None and _END in line):
            if begun is None:
                raise UserError("a mark ends here that nowhere begins", where)
            if not line.startswith(_END):
                raise UserError("the end of a mark stands at the beginning of a line", where)
            if begun[1] is not None:
                found.append(Mark(begun[0] + 1, begun[1], begun[0] + 1, place))
            begun = None
    if begun is not None:
        raise UserError("a mark begins here that nowhere ends", f"{shown(page)}:{begun[0] + 1}", f"end it with {_END}")
    if not found:
        raise UserError(
            "no table of tools/summarize.py stands here", shown(page), "see docs/summarize.md for its marks"
        )
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _printed(page: Path, mark: Mark) -> str:
    """The table that a mark asks for, as Markdown."""
    where = f"{shown(page)}:{mark.line}"
    parser = _Parser(prog="mark", add_help=False, allow_abbrev=False)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--table", choices=TABLES, default="networks")
    parser.add_argument("--columns", default="")
    parser.add_argument("--no-costs", action="store_true")
    try:
        asked = parser.parse_args(shlex.split(mark.words))
    except ValueError as error:
        fix = "it takes RUNS, --table, --columns, --no-costs"
        raise UserError(f"a mark cannot be followed: {error}", where, fix) from None
    runs = read([_resolved(page, where, path) for path in asked.runs])
    table = summarise_runs(runs, with_costs=not asked.no_costs).table(asked.table)
    if not table.rows:
        raise UserError(f"the records of a mark give no table {asked.table}", where)
    return markdown_table(chosen_columns(table, asked.columns.split(",")) if asked.columns else table).strip()


def _resolved(page: Path, where: str, path: str) -> Path:
    for folder in page.resolve().parents:
        try:
            if (folder / path).exists():
                return folder / path
        except OSError:
            # A name that no disk takes.
            break
    raise UserError(f"the records of a mark are not here: {path}", where)


def _cells(text: str) -> list[list[str]]:
    return [
        [re.sub(r"\\([|*_<>`])", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in text.splitlines()
        if line.strip() and not re.fullmatch(r"[|:\- ]+", line.strip())
    ]
