"""What charts have in common before they are drawn: which row has which colour, and how many charts there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from functools import partial

from rexdet.report.page.drawing import Chart, Series
from rexdet.report.records.groups import Group
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.summary import Summary

# A chart with its data, to be drawn by a call.
Plan = partial[Chart]
# More charts of one kind than that nobody looks at; the tables have every setting.
MOST_SETTINGS = 8


class Palette:
    """One place in the order of colours for each row of the tables, the same in every chart of a page."""

    def __init__(self, summary: Summary) -> None:
        self._places: dict[str, int] = {row.key: place for place, row in enumerate(summary.networks.rows)}

    def series(self, named: Iterable[tuple[str, str]], *, by_colour: bool = False) -> list[Series]:
        """The series of one chart. named: (key of the row, name for people), several of one row told apart.

        by_colour: by colours of their own, where a chart has no marks to tell them by.
        """
        variants: dict[str, int] = {}
        found = []
        for row, name in named:
            variant = variants.setdefault(row, 0)
            key = f"{row}, {name}" if by_colour and variant else row
            place = self._places.setdefault(key, len(self._places))
            found.append(Series(row, name, place, 0 if by_colour else variant))
            variants[row] += 1
        return found


def largest(settings: Mapping[str, Sized]) -> list[str]:
    """The settings that most rows have, in their own order; all where they are few."""
    kept = set(sorted(settings, key=lambda name: -len(settings[name]))[:MOST_SETTINGS])
    return [name for name in settings if name in kept]


def left_out(settings: Sized) -> str:
    """What the first chart of a kind says of settings that have none; empty where all have one."""
    if len(settings) <= MOST_SETTINGS:
        return ""
    return f" Drawn are the {MOST_SETTINGS} settings that most rows have; the tables have all {len(settings)}."


def whole_name(group: Group) -> str:
    """The name of a row in a transfer setting, told apart by what a search chose as well."""
    mark = group.setting.choice_mark
    return f"{entry_name(group)} ({mark})" if mark else entry_name(group)
