"""Small charts as SVG that takes its colours from the page: light, dark and print alike, and every mark can be found.

Drawn by matplotlib (docs/decisions/0007). Text stays text. The colours that are drawn with are placeholders, which the
page's style fills in.
"""

from __future__ import annotations

import html
import io
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rexdet.optional import import_optional

WIDTH, HEIGHT = 4.0, 3.0  # inches; a page shows 96 px an inch
INK, FAINT = "#010203", "#040506"
# Told apart by people who see colours differently, too (Paul Tol's bright scheme); the page has a second set for dark.
SERIES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5500", "#777777")
# The page's variables for the placeholders.
_OF_THE_PAGE = {colour: f"var(--series-{place})" for place, colour in enumerate(SERIES)}
_OF_THE_PAGE |= {INK: "var(--ink)", FAINT: "var(--faint)"}
# Inches: letters of 8 points, a line of them, the usual number at an axis, room around.
_EM, _LINE, _NUMBER, _GAP = 0.111, 0.18, 0.3, 0.1
_NARROW, _WIDE = "fijlrtI.,:;'|![]() ", "mwMW@%"
# Points between an axis and its names.
_PAD = 3.5
# As matplotlib calls them, and the signs that show them in a legend.
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
LINES = {"-": "—", "--": "╌", ":": "┈", "-.": "–·", "o-": "—"}
# At an axis of a chart as small as these.
_MOST_NUMBERS = 6
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    # The grid says where the numbers stand; a tick more would be drawn for each of them.
    "xtick.bottom": False,
    "ytick.left": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Series:
    """What is drawn of one row. row: its key in the tables. name: for people. place: of its colour and marker.

    variant: which of several of the row in one chart; they have one colour and markers of their own.
    """

    row: str
    name: str
    place: int
    variant: int = 0

    @property
    def colour(self) -> str:
        """Its colour, which others share where there are many."""
        return SERIES[self.place % len(SERIES)]

    @property
    def marker(self) -> str:
        """Its marker, as matplotlib calls it: another one where the colour comes round again."""
        return tuple(MARKERS)[(self.place + self.place // len(SERIES) + self.variant) % len(MARKERS)]


@dataclass(frozen=True)
class LegendEntry:
    """sign: the letter that shows the marker or line. colour: of the page's series."""

    row: str
    text: str
    colour: int
    sign: str


@dataclass(frozen=True)
class Chart:
    """svg: to stand in a page. title, caption: for people. rows: keys of the table rows that it shows."""

    title: str
    caption: str
    svg: str
    rows: tuple[str, ...] = ()
    legend: tuple[LegendEntry, ...] = ()


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Any]:
    """(figure, axes) of one chart, in the house's style. Raises UserError where matplotlib is not installed."""
    matplotlib = import_optional("matplotlib", "matplotlib")
    figures = import_optional("matplotlib.figure", "matplotlib")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(width, height))
        axes = figure.subplots()
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(nbins=_MOST_NUMBERS)
        return figure, axes


def mark(artist: Any, row: str, told: str) -> None:
    """Tie a drawn mark to a row of the tables; `told` is shown when it is pointed at."""
    # In digits, so that no name is taken for a colour or for markup on its way into the page.
    artist.set_gid(f"mark:{json.dumps([row, told]).encode().hex()}")


def point(axes: Any, x: float, y: float, half: float | None, *, along: str, marker: str, colour: str) -> Any:
    """Draw a point, and a bar of `half` to both sides of it along "x" or "y" (None: no bar); returns the point."""
    if half is not None:
        ends = ((x - half, x + half), (y, y)) if along == "x" else ((x, x), (y - half, y + half))
        axes.plot(*ends, color=colour, linewidth=1.4, marker="|" if along == "x" else "_", markersize=6)
    (drawn,) = axes.plot((x,), (y,), marker, color=colour, markersize=6)
    return drawn


def logarithmic(axes: Any) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2 and 5."""
    ticker = import_optional("matplotlib.ticker", "matplotlib")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def label(text: str) -> str:
    """A name as matplotlib draws it: dollars are no formula, and lines are one."""
    return " ".join(text.split()).replace("$", r"\$")


def as_svg(figure: Any, prefix: str, described: str) -> str:
    """The figure as an <svg> element whose ids begin with `prefix`, with its colours as the page's variables."""
    matplotlib = import_optional("matplotlib", "matplotlib")
    svg = import_optional("matplotlib.backends.backend_svg", "matplotlib")
    written = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}), warnings.catch_warnings():
        # Text stays text: the browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        _lay_out(figure)
        svg.FigureCanvasSVG(figure).print_svg(
            written, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _themed(tag[0], prefix), text)
    text = re.sub(r"\n\s*", "\n", text)
    text = re.sub(rf'<g id="{re.escape(prefix)}-mark:([0-9a-f]*)">', _marked, text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(described)}" ', 1).strip()


def legend_entry(series: Series, sign: str, words: str = "") -> LegendEntry:
    """A series in a legend. sign: one of MARKERS or LINES. words: what follows the name."""
    return LegendEntry(series.row, series.name + words, series.place % len(SERIES), sign)


def names_along_y(axes: Any, names: Sequence[str], most: int = 28) -> None:
    """Name the places 0, 1, 2 ... of the y axis, upwards, with as many letters as fit beside it.

    Of a longer name both ends stay: rows of one network differ in their end.
    """
    # Text alone: a tick for each name would be made with its marks and lines, and take three times as long.
    axes.set_yticks([])
    transform, vertical, horizontal = axes.get_yaxis_text1_transform(_PAD)
    look = {"transform": transform, "va": vertical, "ha": horizontal, "color": INK, "fontsize": _STYLE["font.size"]}
    for place, name in enumerate(names):
        axes.text(0, place, label(shortened(name, most)), **look)
    axes.set_ylim(-0.7, len(names) - 0.3)
    # One mark for all lines of the grid, for the same reason.
    axes.hlines(
        range(len(names)),
        0,
        1,
        transform=axes.get_yaxis_transform(),
        colors=FAINT,
        linewidth=0.5,
        alpha=0.35,
        zorder=0.5,
    )


def shortened(name: str, most: int) -> str:
    """The name in at most so many letters, without its middle."""
    head = most // 2
    return name if len(name) <= most else f"{name[:head]}…{name[head + 1 - most :]}"


def _lay_out(figure: Any) -> None:
    """Give the axes the room that their labels leave.

    Reckoned, not measured: the browser's letters are not those that matplotlib would measure, which takes as long as
    drawing them.
    """
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    # Names along the axis; numbers are short.
    left = (
        2 * _GAP
        + max((_inches(text.get_text()) for text in axes.texts), default=_NUMBER)
        + (_LINE if axes.get_ylabel() else 0.0)
    )
    left = min(left, 0.7 * width)
    bottom = _GAP + _LINE + (_LINE if axes.get_xlabel() else 0.0)
    box = (left / width, bottom / height, 1 - (left + 2 * _GAP) / width, 1 - (bottom + _GAP) / height)
    axes.set_position(box)
    # Where the room for them is, too: to find their places matplotlib would make every number once more.
    beside, below = left - _GAP / 2 - _NUMBER, _GAP / 2 + _LINE
    axes.xaxis.set_label_coords(box[0] + box[2] / 2, below / height, transform=figure.transFigure)
    axes.yaxis.set_label_coords(beside / width, box[1] + box[3] / 2, transform=figure.transFigure)


def _inches(text: str) -> float:
    """About how wide a label is."""
    ems = sum(0.3 if letter in _NARROW else 1.0 if letter in _WIDE or ord(letter) > 0x2E80 else 0.62 for letter in text)
    return ems * _EM


def _themed(tag: str, prefix: str) -> str:
    """A tag with its own ids and the page's colours and letters. What stands between tags are names, and stays."""
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", tag)
    tag = re.sub("#[0-9a-f]{6}", lambda colour: _OF_THE_PAGE.get(colour[0], colour[0]), tag)
    # As one property or as several: matplotlib's versions differ.
    tag = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", tag)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", tag)


def _marked(match: re.Match[str]) -> str:
    row, told = json.loads(bytes.fromhex(match[1]))
    return f'<g class="mark" data-row="{html.escape(row)}" tabindex="0"><title>{html.escape(told)}</title>'
