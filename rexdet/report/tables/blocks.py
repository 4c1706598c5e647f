"""Tables that are wider than their page: words are folded, and columns stand in blocks, one below the other.

Each block repeats what its rows are known by. Numbers are never folded. A terminal measures in characters, LaTeX in
points.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rexdet.report.tables.table import DASH, Cell, Column, Row, Table, number_in_order

# Words that no narrow page has room for; the files and the page of HTML have them.
WIDE = ("command", "versions", "machine", "events", "where", "differs")
# Columns that tell what a row is of, where they stand first.
_NAMES = ("network", "checkpoint", "setting", "family", "row", "one", "other", "run", "class")
# A title with more lines is a tower; a cell with more is no longer read along its row.
_MOST_LINES = 4
# In digits. Shorter texts are not folded; no text asks for more than the widest.
_SHORT, _WIDEST, _LEAST = 16, 32, 12
# Conditions longer than this stand below the table.
_LONGEST_CONDITIONS = 24
_AFTER_WORDS = re.compile(r"(?<=\s)|(?<=\S)(?=@)")
# Not after a point, and not after the sign of a number.
_WITHIN_WORDS = re.compile(r"(?<=[_,:=;/])|(?<=\w-)(?=\w)")


@dataclass(frozen=True)
class Page:
    """What tables are laid out on. width: of its lines. gap: what a column takes beside its text, edge: what a table
    does. measure: the width of a text.
    """

    width: float
    gap: float
    edge: float
    measure: Callable[[str], float]

    @property
    def digit(self) -> float:
        """The width of a digit."""
        return self.measure("0")

    def taken(self, columns: Iterable[LaidColumn]) -> float:
        """What columns take of a line, without the edge."""
        return sum(column.width + self.gap for column in columns)


@dataclass(frozen=True)
class LaidColumn:
    """A column of a block. place: among the columns of the layout's table. title: its lines. width: of its text.

    wanted: the width at which no cell is folded.
    """

    place: int
    title: tuple[str, ...]
    width: float
    wanted: float

    @property
    def is_folded(self) -> bool:
        """Whether a cell may take several lines."""
        return self.width < self.wanted


@dataclass(frozen=True)
class Layout:
    """table: as it is shown, with the numbers of its rows where blocks need them. told: what no title has room for.

    is_whole: all stands side by side, and nothing is folded.
    """

    table: Table
    blocks: tuple[tuple[LaidColumn, ...], ...]
    told: tuple[str, ...] = ()
    is_whole: bool = False

    def title(self, number: int) -> str:
        """The table's title over a block, counted from 0."""
        count = len(self.blocks)
        return f"{self.table.title} ({number + 1} of {count})" if count > 1 else self.table.title


def laid_out(table: Table, page: Page) -> Layout:
    """The table on a page: as it is where that fits, else with its words folded, else in blocks of columns."""
    whole = tuple(_whole(table, place, page) for place in range(len(table.columns)))
    if page.taken(whole) <= page.width - page.edge:
        return Layout(table, (whole,), is_whole=True)
    shortened, told = _without_conditions(table)
    columns = [_narrow(shortened, place, page) for place in range(len(table.columns))]
    if page.taken(columns) <= page.width - page.edge:
        return Layout(shortened, (_widened(shortened, columns, page),), told)
    return replace(_in_blocks(shortened, columns, page), told=told)


def without_wide(table: Table) -> tuple[Table, tuple[str, ...]]:
    """The table without its columns of long words, and a note that names them."""
    kept = [place for place, column in enumerate(table.columns) if column.key not in WIDE]
    named = ", ".join(column.key for column in table.columns if column.key in WIDE)
    if not named:
        return table, ()
    rows = tuple(replace(row, cells=tuple(row.cells[place] for place in kept)) for row in table.rows)
    note = f"Too wide for here: {named}. --columns shows them; Markdown, CSV and the page have them."
    return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows), (note,)


def folded(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """The text in lines: between words, else within them after a mark, and anywhere where there is no other way."""
    lines = [""]
    for piece in pieces(text, width, measure):
        if lines[-1] and measure(f"{lines[-1]}{piece}".rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def pieces(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """What a text may be folded between; a word is whole, with the space behind it, where it is not wider than that."""
    found = []
    for word in _AFTER_WORDS.split(" ".join(text.split())):
        if measure(word.rstrip()) <= width:
            found.append(word)
            continue
        for part in _WITHIN_WORDS.split(word):
            found += [part] if measure(part.rstrip()) <= width else _cut(part, width, measure)
    return found


def _cut(part: str, width: float, measure: Callable[[str], float]) -> list[str]:
    found = [""]
    for letter in part:
        if found[-1] and measure(f"{found[-1]}{letter}".rstrip()) > width:
            found.append("")
        found[-1] += letter
    return found


def _whole(table: Table, place: int, page: Page) -> LaidColumn:
    title = table.columns[place].title
    width = max(map(page.measure, (title, *_texts(table, place))))
    return LaidColumn(place, (title,), width, width)


def _narrow(table: Table, place: int, page: Page, split: re.Pattern[str] | None = None) -> LaidColumn:
    """The column as narrow as it is read with ease; split: no wider than its longest piece between such places."""
    texts = _texts(table, place)
    wanted = width = max(map(page.measure, texts))
    column = table.columns[place]
    if not column.is_number and wanted > _SHORT * page.digit:
        words = [piece.strip() for text in texts for piece in (split or _AFTER_WORDS).split(text)]
        longest = max(map(page.measure, words))
        # Lines are not filled to their end.
        lines = 0 if split else ceil(1.2 * wanted / _MOST_LINES / page.digit) * page.digit
        width = min(wanted, max(longest, lines), _WIDEST * page.digit)
    return _titled(column, LaidColumn(place, (), width, wanted), page)


def _titled(column: Column, laid: LaidColumn, page: Page) -> LaidColumn:
    """The column with its title in lines; wider where they are too many, or longer than it is."""
    width = laid.width
    while True:
        lines = folded(column.title, max(width, _longest_word(column.title, page)), page.measure)
        if len(lines) <= _MOST_LINES:
            break
        width += page.digit
    width = max(width, *map(page.measure, lines))
    return replace(laid, title=tuple(lines), width=width, wanted=max(laid.wanted, width))


def _longest_word(title: str, page: Page) -> float:
    return min(max(map(page.measure, title.split())), _WIDEST * page.digit)


def _texts(table: Table, place: int) -> set[str]:
    return {row.cells[place].text or DASH for row in table.rows} or {DASH}


def _without_conditions(table: Table) -> tuple[Table, tuple[str, ...]]:
    """The table under titles that end with their unit, where much stands behind it; and what stood there."""
    columns, told = [], []
    for column in table.columns:
        head, unit, conditions = column.title.partition(f"({column.unit}), ")
        if unit and len(conditions) > _LONGEST_CONDITIONS:
            column = replace(column, title=f"{head}({column.unit})")
            told.append(f"{column.title}: {conditions}.")
        columns.append(column)
    return replace(table, columns=tuple(columns)), tuple(told)


def _in_blocks(table: Table, columns: Sequence[LaidColumn], page: Page) -> Layout:
    """Blocks as wide as the page; each begins with what its rows are known by."""
    shown, repeated, kept = _repeated(table, columns, page)
    shift = len(shown.columns) - len(table.columns)
    room = page.width - page.edge - page.taken(repeated) - page.gap
    blocks: list[list[LaidColumn]] = [[]]
    for laid in columns[kept:]:
        column = replace(laid, place=laid.place + shift)
        if column.is_folded and column.width > room:
            column = _titled(shown.columns[column.place], replace(column, width=room), page)
        if blocks[-1] and page.taken((*repeated, *blocks[-1], column)) > page.width - page.edge:
            blocks.append([])
        blocks[-1].append(column)
    return Layout(shown, tuple(_widened(shown, [*repeated, *block], page) for block in blocks))


def _repeated(table: Table, columns: Sequence[LaidColumn], page: Page) -> tuple[Table, list[LaidColumn], int]:
    """(the table, what every block begins with, how many of the table's columns that are).

    As many of the leading names as leave room for any other column; where they do not tell all rows apart, the rows are
    numbered, and the table has that column, too.
    """
    numbered = _numbered(table)
    names = 0
    while names < len(columns) - 1 and (not names or table.columns[names].key in _NAMES):
        names += 1
    for kept in range(names, -1, -1):
        known = {tuple(cell.text for cell in row.cells[:kept]) for row in table.rows}
        shown = table if len(known) == len(table.rows) else numbered
        shift = len(shown.columns) - len(table.columns)
        least = max(_least(table, column, page) for column in columns[kept:])
        for split in (_AFTER_WORDS, _WITHIN_WORDS):
            repeated = [_narrow(shown, place, page, split) for place in range(kept + shift)]
            if page.taken(repeated) + least + page.gap + page.edge <= page.width:
                return shown, repeated, kept
    # So narrow a page has no room for the numbers of the rows either.
    return table, [], 0


def _least(table: Table, laid: LaidColumn, page: Page) -> float:
    column = table.columns[laid.place]
    return laid.width if column.is_number else min(laid.width, _LEAST * page.digit)


def _numbered(table: Table) -> Table:
    rows: list[Row] = []
    for number, row in enumerate(table.rows, 1):
        first: Cell = number_in_order(number)
        rows.append(replace(row, cells=(first, *row.cells)))
    return replace(table, columns=(Column("number", "no.", "no."), *table.columns), rows=tuple(rows))


def _widened(table: Table, columns: Sequence[LaidColumn], page: Page) -> tuple[LaidColumn, ...]:
    """The columns of a block with the room that is left: what one of words does not need, the others get."""
    left = page.width - page.edge - page.taken(columns)
    words = [column for column in columns if column.is_folded and not table.columns[column.place].is_number]
    widths = {column.place: column.width for column in columns}
    for position, column in enumerate(sorted(words, key=lambda column: column.wanted - column.width)):
        more = min(column.wanted - column.width, max(left, 0) // (len(words) - position))
        widths[column.place] += more
        left -= more
    return tuple(
        _titled(table.columns[column.place], replace(column, width=widths[column.place]), page)
        if widths[column.place] > column.width
        else column
        for column in columns
    )
