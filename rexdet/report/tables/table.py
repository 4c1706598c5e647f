"""A table as every writer gets it: columns, rows, and cells that say where their number comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rexdet.report.records.visible import visible
from rexdet.report.statistics.intervals import Summary, describe, summarise

Status = Literal["ours", "published", "missing", "fact"]
DASH = "–"


@dataclass(frozen=True)
class Column:
    """key: of files. title: for people. unit: of the numbers, "" for words. help: what it is, in a line.

    family, dataset: of numbers of ours, what was done and on which data; "" of other columns. Columns of one family may
    be looked at over data sets.
    """

    key: str
    title: str
    unit: str = ""
    help: str = ""
    family: str = ""
    dataset: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it is aligned and sorted as numbers."""
        return bool(self.unit)


@dataclass(frozen=True)
class Cell:
    """One value.

    text: as shown; "" where there is none (a dash in text, nothing in CSV). number: to sort by and for files, in the
    column's unit; None sorts last. status: ours, published, missing, or a fact that needs no origin (a name, a count).
    summary: of the runs behind it, in the column's unit. source: where it comes from. runs: ids of the runs behind it.
    """

    text: str = ""
    number: float | None = None
    status: Status = "fact"
    summary: Summary | None = None
    source: str = ""
    runs: tuple[str, ...] = ()


MISSING = Cell(status="missing")


@dataclass(frozen=True)
class Row:
    """key: what it is, for files. cells: one a column. origin: whose row it is. of: the network and checkpoint, so that
    what tables and charts say of the same one is found.
    """

    key: str
    cells: tuple[Cell, ...]
    origin: Literal["ours", "published"] = "ours"
    of: str = ""


@dataclass(frozen=True)
class Table:
    """id: short, for files and links. notes: what a reader must know. empty: columns in which nothing stands: left out,
    and there for whoever names them.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    empty: tuple[Column, ...] = ()

    def numbers(self, key: str) -> dict[str, float]:
        """The numbers of a column by the key of their row, in the column's unit; empty cells are left out."""
        place = [column.key for column in self.columns].index(key)
        return {row.key: number for row in self.rows if (number := row.cells[place].number) is not None}

    def as_json(self) -> dict[str, Any]:
        """The table as plain JSON values: empty cells are null, numbers as they are, in the column's unit."""
        return {
            "id": self.id,
            "title": self.title,
            "columns": [vars(column) for column in self.columns],
            "rows": [
                {
                    "key": row.key,
                    "origin": row.origin,
                    "cells": {
                        column.key: _cell_json(cell, column)
                        for column, cell in zip(self.columns, row.cells, strict=True)
                    },
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


@dataclass
class TableBuilder:
    """Collects rows by column key; what a row does not say is missing."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, key: str, cells: dict[str, Cell], origin: Literal["ours", "published"] = "ours", of: str = ""
    ) -> None:
        """Add a row. Raises KeyError for a cell of a column that there is not."""
        known = {column.key for column in self.columns}
        if unknown := set(cells) - known:
            raise KeyError(f"{self.id} has no column {sorted(unknown)[0]!r}")
        found = tuple(_visible(cells.get(column.key, MISSING)) for column in self.columns)
        self.rows.append(Row(visible(key), found, origin, visible(of or key)))

    def build(self) -> Table:
        """The table; columns in which nothing stands are left out of it, and named beside."""
        kept = [place for place in range(len(self.columns)) if any(row.cells[place].text for row in self.rows)]
        rows = tuple(Row(row.key, tuple(row.cells[place] for place in kept), row.origin, row.of) for row in self.rows)
        columns = tuple(replace(self.columns[place], title=visible(self.columns[place].title)) for place in kept)
        empty = tuple(column for place, column in enumerate(self.columns) if place not in kept)
        return Table(self.id, self.title, columns, rows, tuple(map(visible, self.notes)), empty)


def words(text: str | None) -> Cell:
    """A cell of words; none where there are none."""
    return Cell(text) if text else MISSING


def fact(value: float | None, digits: int = 0) -> Cell:
    """A number that needs no origin, such as a count; a whole one stays whole in files."""
    return MISSING if value is None else Cell(f"{value:,.{digits}f}", value)


def number_in_order(value: int | None) -> Cell:
    """A number that counts nothing, such as a seed: every digit, and nothing between them."""
    return MISSING if value is None else Cell(str(value), value)


def scaled(value: float | None, scale: float, digits: int) -> Cell:
    """A number that needs no origin, in the column's unit; missing where there is none that a file can hold."""
    if value is None or not math.isfinite(scale * value):
        return MISSING
    return Cell(f"{scale * value:.{digits}f}", scale * value)


def measured(
    values: Sequence[float], *, scale: float = 1.0, digits: int = 2, source: str = "", runs: Sequence[str] = ()
) -> Cell:
    """Mean and interval of numbers of ours, one of each seed; missing where there are none."""
    if not values:
        return MISSING
    summary = summarise([scale * value for value in values])
    return Cell(describe(summary, digits=digits), summary.mean, "ours", summary, source, tuple(runs))


def printed(value: float, text: str, source: str) -> Cell:
    """A published number, as printed."""
    return Cell(text, float(value), "published", None, source)


def _visible(cell: Cell) -> Cell:
    text, source = visible(cell.text), visible(cell.source)
    return cell if (text, source) == (cell.text, cell.source) else replace(cell, text=text, source=source)


def _cell_json(cell: Cell, column: Column) -> Any:
    if not cell.text:
        return None
    value: Any = cell.number if column.is_number else cell.text
    if cell.status == "fact":
        return value
    plain: dict[str, Any] = {"value": value, "status": cell.status, "source": cell.source or None}
    if cell.summary is not None:
        summary = cell.summary
        interval = None if summary.low is None else [summary.low, summary.high]
        plain |= {"n": summary.count, "deviation": summary.deviation, "interval": interval}
    return plain
