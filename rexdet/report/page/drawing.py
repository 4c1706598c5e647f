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
# Inches: letters of 8 points, a line of them, one of the legend, the usual number at an axis, room around.
_EM, _LINE, _LEGEND_LINE, _NUMBER, _GAP = 0.111, 0.18, 0.16, 0.3, 0.1
_NARROW, _WIDE = "fijlrtI.,:;'|![]() ", "mwMW@%"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
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
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Chart:
    """svg: to stand in a page. title, caption: for people. rows: keys of the table rows that it shows."""

    title: str
    caption: str
    svg: str
    rows: tuple[str, ...] = ()


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Any]:
    """(figure, axes) of one chart, in the house's style. Raises UserError where matplotlib is not installed."""
    matplotlib = import_optional("matplotlib", "matplotlib")
    figures = import_optional("matplotlib.figure", "matplotlib")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(width, height))
        return figure, figure.subplots()


def mark(artist: Any, row: str, told: str) -> None:
    """Tie a drawn mark to a row of the tables; `told` is shown when it is pointed at."""
    # In digits, so that no name is taken for a colour or for markup on its way into the page.
    artist.set_gid(f"mark:{json.dumps([row, told]).encode().hex()}")


def point(
    axes: Any, x: float, y: float, half: float | None, *, along: str, marker: str, colour: str, name: str = ""
) -> Any:
    """Draw a point, and a bar of `half` to both sides of it along "x" or "y", None for none; returns the point's mark.

    name: for the legend.
    """
    if half is not None:
        ends = ((x - half, x + half), (y, y)) if along == "x" else ((x, x), (y - half, y + half))
        axes.plot(*ends, color=colour, linewidth=1.4, marker="|" if along == "x" else "_", markersize=6)
    (drawn,) = axes.plot((x,), (y,), marker, color=colour, markersize=6, label=label(name) if name else None)
    return drawn


def logarithmic(axes: Any) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2 and 5."""
    ticker = import_optional("matplotlib.ticker", "matplotlib")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def label(text: str) -> str:
    """A name as matplotlib draws it: dollars are no formula, lines are one, and no legend leaves it out."""
    words = " ".join(text.split()).replace("$", r"\$")
    # matplotlib keeps what begins with an underscore out of legends; a page shows no blank before a word.
    return f" {words}" if words.startswith("_") else words


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


def series_colour(place: int) -> str:
    """The colour of the n-th series; they repeat, with another marker."""
    return SERIES[place % len(SERIES)]


def series_marker(place: int) -> str:
    """The marker of the n-th series."""
    return MARKERS[(place + place // len(SERIES)) % len(MARKERS)]


def legend(figure: Any, axes: Any, entries: int, most: int = 8) -> None:
    """A legend below the axes where there are a few series; more than that are told by pointing at them."""
    if 1 < entries <= most:
        figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * entries)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", frameon=False, fontsize=7.0, labelcolor=INK, borderaxespad=0.0)


def names_along_y(axes: Any, names: Sequence[str], most: int = 28) -> None:
    """Name the places 0, 1, 2 ... of the y axis, upwards, with as many letters as fit beside it."""
    ticker = import_optional("matplotlib.ticker", "matplotlib")
    labels = [label(name if len(name) <= most else f"{name[: most - 1]}…") for name in names]
    axes.yaxis.set_major_locator(ticker.FixedLocator(range(len(names))))
    axes.yaxis.set_major_formatter(ticker.FixedFormatter(labels))
    axes.set_ylim(-0.7, len(names) - 0.3)


def _lay_out(figure: Any) -> None:
    """Give the axes the room that their labels and the legend below leave.

    Reckoned, not measured: the browser's letters are not those that matplotlib would measure, which takes as long as
    drawing them.
    """
    (axes,) = figure.axes
    width, height = figure.get_size_inches()
    # Names that were set as labels; numbers are short.
    names = getattr(axes.yaxis.get_major_formatter(), "seq", ())
    left = 2 * _GAP + max(map(_inches, names), default=_NUMBER) + (_LINE if axes.get_ylabel() else 0.0)
    left = min(left, 0.7 * width)
    bottom = _GAP + _LINE + (_LINE if axes.get_xlabel() else 0.0)
    for drawn in figure.legends:
        bottom += _LEGEND_LINE * len(drawn.get_texts())
    box = (left / width, bottom / height, 1 - (left + 2 * _GAP) / width, 1 - (bottom + _GAP) / height)
    axes.set_position(box)


def _inches(text: str) -> float:
    """About how wide a label is."""
    ems = sum(0.3 if letter in _NARROW else 1.0 if letter in _WIDE or ord(letter) > 0x2E80 else 0.62 for letter in text)
    return ems * _EM


def _themed(tag: str, prefix: str) -> str:
    """A tag with its own ids and the page's colours and letters. What stands between tags are names, and stays."""
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", tag)
    for place, colour in enumerate(SERIES):
        tag = tag.replace(colour, f"var(--series-{place})")
    tag = tag.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", tag)


def _marked(match: re.Match[str]) -> str:
    row, told = json.loads(bytes.fromhex(match[1]))
    return f'<g class="mark" data-row="{html.escape(row)}" tabindex="0"><title>{html.escape(told)}</title>'
