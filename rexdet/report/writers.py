"""A table as text for a terminal, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from rexdet.report.tables import DASH, Cell, Column, Row, Table

_STYLES = {"published": "italic cyan", "ours": "", "missing": "dim", "fact": ""}
# Words that no narrow terminal has room for; the files and the page have them.
_WIDE = ("command", "versions", "machine", "events", "where", "differs")
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "–": "--",
        "×": r"$\times$",
        "…": r"\dots{}",
    }
)
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
    alignment = ["right" if column.is_number else "left" for column in table.columns]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True, colalign=alignment)


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
    """Tables as LaTeX that needs the package booktabs; each is a `tabular` with a comment that names it."""
    parts = ["% \\usepackage{booktabs}"]
    for table in tables:
        alignment = "".join("r" if column.is_number else "l" for column in table.columns)
        lines = [f"% {table.title}", f"\\begin{{tabular}}{{{alignment}}}", "\\toprule"]
        lines.append(" & ".join(_tex(column.title) for column in table.columns) + r" \\")
        lines.append("\\midrule")
        lines += [" & ".join(_tex_cell(cell) for cell in row.cells) + r" \\" for row in table.rows]
        lines += ["\\bottomrule", "\\end{tabular}"]
        parts.append("\n".join(lines))
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


def _escaped(text: str) -> str:
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


def _tex(text: str) -> str:
    return " ".join(text.split()).translate(_TEX)


def _tex_cell(cell: Cell) -> str:
    if not cell.text:
        return "--"
    text = _tex(cell.text)
    # A minus of a number is longer than a hyphen; two hyphens of a command line are no dash.
    text = f"$-${text[1:]}" if cell.number is not None and text.startswith("-") else text.replace("--", "-{}-")
    return rf"\emph{{{text}}}" if cell.status == "published" else text
