"""Tables for a terminal, a file or a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rexdet.report.tables.blocks import LaidColumn, Layout, Page, folded, laid_out, without_wide
from rexdet.report.tables.table import DASH, Cell, Table

_STYLES = {"published": "italic cyan", "ours": "", "missing": "dim", "fact": ""}
# Of a file or a pipe: no table is as wide, and what folds nothing has to search.
UNBOUNDED = 1_000_000


def print_tables(tables: Sequence[Table], console: Console, *, with_wide: bool = False) -> None:
    """Print tables for a person. What does not fit into the width is folded or stands below: nothing is cut.

    with_wide: also the columns of long words, which are otherwise named below the table.
    """
    # A column has a bar and two spaces, the table one bar more.
    page = Page(console.width, 3, 1, cell_len)
    for table in tables:
        shown, left_out = (table, ()) if with_wide else without_wide(table)
        layout = laid_out(shown, page)
        for number, block in enumerate(layout.blocks):
            console.print(_drawn(layout, block, layout.title(number)))
        for note in (*layout.told, *table.notes, *left_out):
            console.print(Text(note), style="dim")
        console.print()


def _drawn(layout: Layout, block: Sequence[LaidColumn], title: str) -> RichTable:
    # Where names take several lines, only a rule says where a row begins.
    drawn = RichTable(title=title, title_justify="left", title_style="bold", show_lines=block[0].is_folded)
    for laid in block:
        is_number = layout.table.columns[laid.place].is_number
        heading = Text("\n".join(laid.title))
        drawn.add_column(heading, justify="right" if is_number else "left", overflow="fold", width=int(laid.width))
    for row in layout.table.rows:
        drawn.add_row(*(_rich(row.cells[laid.place], laid) for laid in block))
    return drawn


def _rich(cell: Cell, laid: LaidColumn) -> Text:
    text = "\n".join(folded(cell.text, laid.width, cell_len)) if laid.is_folded else cell.text
    return Text(text or DASH, style=_STYLES[cell.status if cell.text else "missing"])
