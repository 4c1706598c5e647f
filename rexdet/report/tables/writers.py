"""A table as Markdown and CSV, and with its rows in another order."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count

from rexdet.report.tables.table import DASH, Cell, Column, Row, Table

_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "|*_<>`"})


def markdown(tables: Sequence[Table], *, with_titles: bool = True) -> str:
    """Tables as Markdown; published numbers are in italics, missing ones a dash."""
    parts = []
    for table in tables:
        if with_titles:
            parts.append(f"## {table.title}")
        parts.append(markdown_table(table))
        parts += table.notes
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """One table as Markdown, without title and notes."""
    head = [_escaped(column.title) for column in table.columns]
    lines = [[_markdown(cell) for cell in row.cells] for row in table.rows]
    # A column is two wider than its title, as the library pads it that the repository's other tables are written with;
    # that one takes a second for ten thousand rows.
    columns = zip(head, zip(*lines, strict=True) if lines else [()] * len(head), strict=True)
    widths = [max([len(title) + 2, *map(len, cells)]) for title, cells in columns]
    is_right = [column.is_number for column in table.columns]
    pads = [str.rjust if right else str.ljust for right in is_right]
    dashes = ["-" * (width + 1) for width in widths]
    rule = "|".join(f"{dash}:" if right else f":{dash}" for dash, right in zip(dashes, is_right, strict=True))
    written = [
        f"| {' | '.join(pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True))} |"
        for line in (head, *lines)
    ]
    return "\n".join((written[0], f"|{rule}|", *written[1:]))


def comma_separated(table: Table) -> str:
    """One table as CSV (RFC 4180): numbers unrounded in the column's unit, and what stands behind them; no dashes.

    Columns are named after their titles, with the unit at the end. Beside a number stand its interval and of how many
    it is (low, high, n), whether it is ours or published (status), and where it comes from (source).
    """
    taken = {"row"}
    head = ["row"]
    parts = []
    for place, column in enumerate(table.columns):
        parts.append(_csv_parts([row.cells[place] for row in table.rows]))
        head += _csv_names(column, parts[-1], taken)
    written = io.StringIO()
    # With these ends of a line a return within a value is quoted as well.
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(head)
    for row in table.rows:
        line: list[object] = [row.key]
        for cell, column, beside in zip(row.cells, table.columns, parts, strict=True):
            line.append(cell.number if column.is_number else cell.text)
            line += [_csv_part(cell, part) for part in beside]
        writer.writerow(line)
    return written.getvalue()


def sorted_rows(table: Table, key: str, *, descending: bool = True) -> Table:
    """The table ordered by a column; rows without a value come last either way."""
    place = [column.key for column in table.columns].index(key)
    is_number = table.columns[place].is_number

    def empty(row: Row) -> bool:
        cell = row.cells[place]
        return cell.number is None if is_number else not cell.text

    filled = [row for row in table.rows if not empty(row)]
    filled.sort(
        key=lambda row: (row.cells[place].number or 0.0) if is_number else row.cells[place].text, reverse=descending
    )
    return replace(table, rows=(*filled, *(row for row in table.rows if empty(row))))


def _markdown(cell: Cell) -> str:
    if not cell.text:
        return DASH
    text = _escaped(cell.text)
    return f"*{text}*" if cell.status == "published" else text


@lru_cache(maxsize=2**16)
def _escaped(text: str) -> str:
    # Cached: what a column says is the same in most of its rows.
    return " ".join(text.split()).translate(_MARKDOWN)


def _csv_parts(cells: Sequence[Cell]) -> tuple[str, ...]:
    """What stands beside the numbers of a column."""
    with_spread = any(cell.summary is not None for cell in cells)
    with_status = any(cell.status in ("ours", "published") for cell in cells)
    with_source = any(cell.source for cell in cells)
    parts = ("low", "high", "n") if with_spread else ()
    return (*parts, *(["status"] if with_status else []), *(["source"] if with_source else []))


def _csv_names(column: Column, parts: Sequence[str], taken: set[str]) -> list[str]:
    """The names of a column and of what stands beside it; taken: names of others, to which they are added.

    They follow from the column's title alone, so that a setting more or less renames no other column.
    """
    words = _slug(column.title.replace(f"({column.unit})", "") if column.unit else column.title)
    unit = _slug({"%": "percent", "no.": "", "p": ""}.get(column.unit, column.unit))
    if f"{words}_".startswith(f"{unit}_") or f"_{words}".endswith(f"_{unit}"):
        # The title names it: "seeds", "data sets needed", "higher on data sets".
        unit = ""
    for number in count(1):
        stem = words if number == 1 else f"{words}_{number}"
        names = ["_".join(filter(None, (stem, unit))), *(f"{stem}_{part}" for part in parts)]
        # Databases do not tell capitals from small letters.
        if taken.isdisjoint(name.casefold() for name in names):
            break
    taken.update(name.casefold() for name in names)
    return names


def _slug(text: str) -> str:
    """Letters and digits as they are, and one underscore for all between them."""
    return re.sub(r"[\W_]+", "_", text.replace("'", "")).strip("_")


def _csv_part(cell: Cell, part: str) -> object:
    summary = cell.summary
    if part == "status":
        return cell.status if cell.text else "missing"
    if part == "source":
        return cell.source
    if summary is None:
        return None
    return {"low": summary.low, "high": summary.high, "n": summary.count}[part]
