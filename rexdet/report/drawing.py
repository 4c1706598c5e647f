"""Small charts as SVG that takes its colours from the page: light, dark and print alike, and every mark can be found.

Drawn by matplotlib (docs/decisions/0007). Text stays text. The colours that are drawn with are placeholders, which the
page's style fills in.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rexdet.optional import import_optional

WIDTH, HEIGHT = 4.0, 3.0  # inches; a page shows 96 px an inch
INK, FAINT = "#010203", "#040506"
# Told apart by people who see colours differently, too (Paul Tol's bright scheme); the page has a second set for dark.
SERIES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5500", "#777777")
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
    "figure.constrained_layout.use": True,
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
    artist.set_gid(f"mark:{row}\n{told}")


def as_svg(figure: Any, prefix: str, described: str) -> str:
    """The figure as an <svg> element whose ids begin with `prefix`, with its colours as the page's variables."""
    matplotlib = import_optional("matplotlib", "matplotlib")
    written = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="mark:([^"\n]*)\s([^"]*)">', _marked, text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for place, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{place})")
    text = text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text)
    text = re.sub(r"\n\s*", "\n", text)
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
        figure.set_figheight(figure.get_figheight() + 0.16 * entries)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=7.0, labelcolor=INK)


def shortened(words: Sequence[str], most: int = 28) -> list[str]:
    """Labels that fit beside an axis."""
    return [word if len(word) <= most else f"{word[: most - 1]}…" for word in words]


def _marked(match: re.Match[str]) -> str:
    # matplotlib has escaped both already.
    return f'<g class="mark" data-row="{match[1]}" tabindex="0"><title>{match[2]}</title>'
