"""A table as text for a terminal, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rexdet.report.tables.table import DASH, Cell, Column, Row, Table
from rexdet.report.tables.tex_letters import tex

_STYLES = {"published": "italic cyan", "ours": "", "missing": "dim", "fact": ""}
# Words that no narrow terminal has room for; the files and the page have them.
_WIDE = ("command", "versions", "machine", "events", "where", "differs")
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "|*_<>`"})


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print tables for a person. What does not fit into the width is wrapped, never cut."""
    for table in tables:
        shown = [place for place, column in enumerate(table.columns) if column.key not in _WIDE]
        drawn = RichTable(title=table.title, title_justify="left", title_style="bold", show_lines=False)
        for place in shown:
            column = table.columns[place]
            drawn.add_column(Text(column.title), justify="right" if column.is_number else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(_rich(row.cells[place]) for place in shown))
        console.print(drawn)
        for note in table.notes:
            console.print(Text(note), style="dim")
        console.print()


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
    """One table as CSV (RFC 4180): numbers unrounded in the column's unit, with interval and runs beside; no dashes."""
    with_spread = [
        any(row.cells[place].summary is not None for row in table.rows) for place in range(len(table.columns))
    ]
    with_origin = [
        any(row.cells[place].status == "published" for row in table.rows) for place in range(len(table.columns))
    ]
    head: list[str] = ["row"]
    for place, column in enumerate(table.columns):
        head.append(_csv_name(column))
        head += [f"{column.key}_{what}" for what in ("low", "high", "runs")] if with_spread[place] else []
        head += [f"{column.key}_status"] if with_spread[place] or with_origin[place] else []
        head += [f"{column.key}_source"] if with_spread[place] or with_origin[place] else []
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(head)
    for row in table.rows:
        line: list[object] = [row.key]
        for place, column in enumerate(table.columns):
            line += _csv_cells(row.cells[place], column, with_spread[place], with_origin[place])
        writer.writerow(line)
    return written.getvalue()


def latex(tables: Sequence[Table]) -> str:
    """Tables as LaTeX that needs the package booktabs and nothing else.

    Each is a `tabular` after a comment that names it; its notes are paragraphs below.
    """
    parts = ["% \\usepackage{booktabs}"]
    for table in tables:
        alignment = "".join("r" if column.is_number else "l" for column in table.columns)
        lines = [f"% {tex(table.title)}", f"\\begin{{tabular}}{{{alignment}}}", "\\toprule"]
        lines.append(_tex_line(tex(column.title) for column in table.columns))
        lines.append("\\midrule")
        lines += [_tex_line(_tex_cell(cell) for cell in row.cells) for row in table.rows]
        lines += ["\\bottomrule", "\\end{tabular}"]
        parts.append("\n".join(lines))
        parts += [rf"\noindent{{\footnotesize {tex(note)}\par}}" for note in table.notes]
    return "\n\n".join(parts) + "\n"


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
    rows = (*filled, *(row for row in table.rows if empty(row)))
    return Table(table.id, table.title, table.columns, rows, table.notes)


def _rich(cell: Cell) -> Text:
    return Text(cell.text or DASH, style=_STYLES[cell.status if cell.text else "missing"])


def _markdown(cell: Cell) -> str:
    if not cell.text:
        return DASH
    text = _escaped(cell.text)
    return f"*{text}*" if cell.status == "published" else text


@lru_cache(maxsize=2**16)
def _escaped(text: str) -> str:
    # Cached: what a column says is the same in most of its rows.
    return " ".join(text.split()).translate(_MARKDOWN)


def _csv_name(column: Column) -> str:
    unit = {"%": "percent"}.get(column.unit, column.unit)
    return f"{column.key}_{unit}" if unit and unit not in ("no.", "p") else column.key


def _csv_cells(cell: Cell, column: Column, with_spread: bool, with_origin: bool) -> list[object]:
    line: list[object] = [cell.number if column.is_number and cell.text else cell.text]
    if line[0] is None:
        line = [""]
    if with_spread:
        summary = cell.summary
        ends = ("", "") if summary is None or summary.low is None else (summary.low, summary.high)
        line += [*ends, "" if summary is None else summary.count]
    if with_spread or with_origin:
        line += [cell.status if cell.text else "missing", cell.source]
    return line


def _tex_line(cells: Iterable[str]) -> str:
    line = " & ".join(cells)
    # After the end of a row or a rule, TeX takes a bracket for a length and a star for a command's.
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"


def _tex_cell(cell: Cell) -> str:
    if not cell.text:
        return "--"
    text = tex(cell.text)
    if cell.number is not None and text.startswith("-"):
        # A minus is longer than a hyphen.
        text = f"$-${text[1:]}"
    return rf"\emph{{{text}}}" if cell.status == "published" else text
