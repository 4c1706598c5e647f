"""Tables as LaTeX, laid out for a page of the class article: nothing runs over its edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rexdet.report.tables.blocks import LaidColumn, Layout, Page, folded, laid_out, pieces, without_wide
from rexdet.report.tables.table import Cell, Table
from rexdet.report.tables.tex_letters import tex

# Of its text, in points and in lines. A paragraph is indented: a table that stands as it is has less.
_TEXT_WIDTH, _INDENT, _MOST_LINES = 345.0, 15.0, 40
# What letters take in \footnotesize, upright or slanted, in points (cmr8, cmti8).
_POINTS = {
    letter: points
    for points, letters in (
        (2.7, "!',.:;[]`filj|"),
        (3.2, " -_"),
        (3.6, "I()tsr"),
        (4.0, "cez"),
        (4.5, '"*/\\0123456789^agokqvxyJ?{}~–'),
        (4.9, "bdhnpuS"),
        (5.9, "ZLFEP"),
        (6.7, "<>$BCTwRAHNUVXYDK&+=@OQG±"),
        (7.8, "#%mM"),
        (8.8, "W"),
    )
    for letter in letters
}
# No letter that has a command is wider.
_OTHER_LETTER = 12.0
# What only a command is written with.
_COMMANDS = {*"\\$"}
# \normalsize beside \footnotesize.
_NORMAL = 1.18


def latex(tables: Sequence[Table], *, with_wide: bool = False) -> str:
    """Tables as LaTeX that fits a page; the first line names the packages that it needs.

    A table that fits as it is is a `tabular` after a comment that names it. What does not is set smaller, its words
    folded and its columns in blocks; rows that fill more than a page are a `longtable`. Notes are paragraphs below.

    with_wide: also the columns of long words, which are otherwise named below the table.
    """
    parts = []
    for table in tables:
        shown, left_out = (table, ()) if with_wide else without_wide(table)
        layout = laid_out(shown, Page(_TEXT_WIDTH - _INDENT, 12, 0, lambda text: _NORMAL * _points(text)))
        if layout.is_whole and len(table.rows) < _MOST_LINES:
            parts.append(f"% {tex(table.title)}\n{_tabular(layout, layout.blocks[0])}")
        else:
            layout = laid_out(shown, Page(_TEXT_WIDTH, 6, 0, _points))
            for number, block in enumerate(layout.blocks):
                parts.append(f"% {tex(layout.title(number))}\n{_small(layout, block)}")
        notes = (*layout.told, *table.notes, *left_out)
        parts += [rf"\noindent{{\footnotesize\raggedright {_foldable(note, _TEXT_WIDTH / 4)}\par}}" for note in notes]
    is_long = any(r"{longtable}" in part or r"\arraybackslash" in part for part in parts)
    packages = "booktabs,longtable,array" if is_long else "booktabs"
    return "\n\n".join((f"% \\usepackage{{{packages}}}", *parts)) + "\n"


def _small(layout: Layout, block: Sequence[LaidColumn]) -> str:
    """A block in small letters: a `tabular` where its rows fit on a page."""
    begin = r"\footnotesize\setlength{\tabcolsep}{3pt}%"
    if max(len(laid.title) for laid in block) + _lines(layout, block) <= _MOST_LINES:
        return f"{{\\noindent{begin}\n{_tabular(layout, block)}\\par\\medskip}}"
    head, rows = _head(layout, block), _rows(layout, block)
    lines = (
        f"{{{begin}",
        rf"\begin{{longtable}}{{{_alignment(layout, block)}}}",
        r"\toprule",
        head,
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *rows,
        r"\end{longtable}}",
    )
    return "\n".join(lines)


def _tabular(layout: Layout, block: Sequence[LaidColumn]) -> str:
    lines = (
        rf"\begin{{tabular}}{{{_alignment(layout, block)}}}",
        r"\toprule",
        _head(layout, block),
        r"\midrule",
        *_rows(layout, block),
        r"\bottomrule",
        r"\end{tabular}",
    )
    return "\n".join(lines)


def _alignment(layout: Layout, block: Sequence[LaidColumn]) -> str:
    return "".join(
        rf">{{\raggedright\arraybackslash}}p{{{laid.width:.1f}pt}}"
        if laid.is_folded
        else "r"
        if layout.table.columns[laid.place].is_number
        else "l"
        for laid in block
    )


def _head(layout: Layout, block: Sequence[LaidColumn]) -> str:
    titles = []
    for laid in block:
        lines = r" \\ ".join(_guarded(tex(line)) for line in laid.title)
        side = "r" if layout.table.columns[laid.place].is_number else "l"
        # A table within the table: no other package folds a title.
        titles.append(rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}" if laid.title[1:] else lines)
    return _line(titles)


def _rows(layout: Layout, block: Sequence[LaidColumn]) -> list[str]:
    return [_line(_cell(row.cells[laid.place], laid) for laid in block) for row in layout.table.rows]


def _lines(layout: Layout, block: Sequence[LaidColumn]) -> int:
    """How many lines the rows of a block take."""
    words = [laid for laid in block if laid.is_folded]
    return sum(
        max((len(folded(row.cells[laid.place].text, laid.width, _points)) for laid in words), default=1)
        for row in layout.table.rows
    )


def _line(cells: Iterable[str]) -> str:
    return _guarded(" & ".join(cells)) + r" \\"


def _guarded(line: str) -> str:
    # After the end of a row or a rule, TeX takes a bracket for a length and a star for a command's.
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _cell(cell: Cell, laid: LaidColumn) -> str:
    if not cell.text:
        return "--"
    text = _foldable(cell.text, laid.width) if laid.is_folded else tex(cell.text)
    if cell.number is not None and text.startswith("-"):
        # A minus is longer than a hyphen.
        text = f"$-${text[1:]}"
    return rf"\emph{{{text}}}" if cell.status == "published" else text


def _foldable(text: str, width: float) -> str:
    """The text as LaTeX, which may be folded within words that are wider than the width."""
    found = pieces(text, width, _points)
    ends = (" " if piece.endswith(" ") else r"\allowbreak{}" for piece in found)
    return "".join(tex(piece) + end for piece, end in zip(found, ends, strict=True)).removesuffix(r"\allowbreak{}")


@lru_cache(maxsize=2**16)
def _points(text: str) -> float:
    """The width of a text in \\footnotesize, in points, or somewhat more."""
    return sum(_POINTS[letter] if letter in _POINTS else _width_of(letter) for letter in text)


def _width_of(letter: str) -> float:
    written = tex(letter)
    # Letters of other scripts stand there by their number, fractions as their digits.
    return _OTHER_LETTER if _COMMANDS & {*written} else sum(_POINTS[plain] for plain in written)
