"""The page: every table, chart and example picture of a summary in one file that opens from the disk."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from rexdet import __version__
from rexdet.report.page.charts import class_charts, cost_charts, learning_charts, transfer_charts
from rexdet.report.page.drawing import Chart, LegendEntry
from rexdet.report.page.pictures import KINDS, SCORE, Example, examples
from rexdet.report.page.plans import Palette
from rexdet.report.page.saved_charts import calibration_charts, recall_charts
from rexdet.report.tables.blocks import WIDE
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import DASH, Cell, Column, Row, Table

_LONG = (*WIDE, "out", "others")
# The columns that say whose row it is, where the first alone does not: they stay in sight, and are printed again beside
# columns that do not fit on a sheet.
_WHOSE = {
    "networks": ("network", "checkpoint"),
    "detection": ("network", "checkpoint", "detector", "protocol"),
    "transfer": ("network", "checkpoint", "dataset", "protocol"),
    "published": ("network", "checkpoint", "setting"),
    "protocols": ("protocol", "what", "toolbox"),
    "ranks": ("family", "row"),
    "correlations": ("one", "other"),
    "pairs": ("setting", "one", "other"),
    "overall": ("setting", "one", "other"),
    "intervals": ("network", "checkpoint", "setting"),
    "errors": ("network", "checkpoint", "setting"),
    "thresholds": ("network", "checkpoint", "setting", "class"),
    "searches": ("network", "data", "seed"),
    "latency": ("network", "device"),
}
_FEWEST_TO_FILTER = 5
# Letters in a line of words; in one of words that stay in sight where three or more columns do; and in what a long cell
# shows before it is opened (see page.css).
_LONGEST_LINE = 46
_LONGEST_LINE_OF_MANY = 28
_LONGEST_SHOWN = 120
# Columns that may not fit on a sheet side by side, and rows that are printed (the script has the same number).
_MOST_ACROSS = 10
_MOST_PRINTED = 100
_LONG_TITLE = 40
_LONGEST_LEGEND = 8
# More than a browser sorts at once, or anybody reads.
MOST_ROWS = 2000
# Nothing is fetched: the page is whole, and a browser is told so.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(summary: Summary, tables: Sequence[Table], *, picture_bytes: int = 4 * 2**20) -> str:
    """The page as HTML. picture_bytes: most that the example pictures take; 0: none.

    Raises UserError where matplotlib is not installed.
    """
    saved, notes = summary.saved
    shown, more = examples(saved, picture_bytes) if picture_bytes else ([], [])
    sections = {table.id: _table_section(table) for table in tables}
    palette = Palette(summary)
    plans = {
        "cost": ("AP and accuracy against cost", cost_charts(summary, palette)),
        "accuracy": ("Accuracy on each data set", transfer_charts(summary, palette)),
        "learning": ("Learning curves", learning_charts(summary, palette)),
        "classes": ("AP of every class", class_charts(summary, palette)),
        "recall": ("Precision and recall", recall_charts(saved, palette)),
        "calibration": ("What a score means", calibration_charts(saved, palette)),
    }
    graphs = {
        key: _charts_section(key, title, [plan() for plan in found]) for key, (title, found) in plans.items() if found
    }
    if shown:
        graphs["examples"] = _pictures_section(shown)
    # The answer first, then its costs, then what it rests on.
    first = [key for key in ("answers", "networks") if key in sections]
    rest = [key for key in sections if key not in first]
    order = [
        *first,
        *(key for key in ("cost",) if key in graphs),
        *rest[:-1],
        *(key for key in graphs if key != "cost"),
    ]
    order += rest[-1:]
    parts = {**sections, **graphs}
    titles = {table.id: table.title for table in tables} | {key: title for key, (title, _) in plans.items()}
    titles["examples"] = "Example pictures"
    return _document(
        [parts[key] for key in order],
        "".join(f'<a href="#{key}">{html.escape(titles[key])}</a>' for key in order),
        [*summary.notes, *notes, *more],
        "".join(map(_labels, tables)),
    )


def _document(sections: Iterable[str], navigation: str, notes: Sequence[str], labels: str) -> str:
    style, script = _part("page.css"), _part("page.js")
    told = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>Runs</title>
<style>
{style}@media print {{
{labels}}}
</style>
</head>
<body>
<header>
<h1>Runs</h1>
<p class="soft">Ours in upright letters, <i>published</i> in italics, missing a dash. A number's source shows when it is
pointed at. A row that is clicked is marked in every table and chart.</p>
<nav>{navigation}</nav>
<div class="bar"><button type="button" id="theme" hidden>light / dark</button></div>
</header>
<main>
{"".join(sections)}
</main>
<footer class="notes">
{told}
<p>Made by tools/summarize.py of rexdet {html.escape(__version__)}.</p>
</footer>
<script>
{script}</script>
</body>
</html>
"""


def _table_section(table: Table) -> str:
    whose = _whose(table)
    head = "".join(_head(column, whose) for column in table.columns)
    rows = "\n".join(_row(row, table.columns, whose) for row in table.rows[:MOST_ROWS])
    left_out = len(table.rows) - MOST_ROWS
    told = (
        [*table.notes, f"{left_out:,} further rows are left out here; --csv has them."] if left_out > 0 else table.notes
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in told)
    hidden = " hidden" if len(table.rows) < _FEWEST_TO_FILTER else ""
    title = html.escape(table.title)
    return f"""<section class="table{" broad" if len(table.columns) > _MOST_ACROSS else ""}" id="{table.id}">
<h2>{title}</h2>
<div class="bar"{hidden}><label>Filter <input type="search" placeholder="words"></label>
<span class="soft count"></span></div>
<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
{_printed_part(table)}<div class="notes">{notes}</div>
</section>
"""


def _printed_part(table: Table) -> str:
    """What the paper says of rows that are not on it; without a script, which says it itself."""
    if len(table.rows) <= _MOST_PRINTED:
        return ""
    return f'<p class="on-paper">Printed are the first {_MOST_PRINTED} of {len(table.rows):,} rows.</p>\n'


def _labels(table: Table) -> str:
    """Rules that put a broad table's titles before its cells, where its rows are printed as text: without a script."""
    return "".join(
        f"#{table.id} .scroll td:nth-child({place})::before {{ content: {_css_string(column.title + ': ')}; }}\n"
        for place, column in enumerate(table.columns, start=1)
        if len(table.columns) > _MOST_ACROSS
    )


def _css_string(text: str) -> str:
    """A name as a string of a style sheet, with nothing in it that could end string or sheet."""
    plain = (letter if letter.isalnum() or letter == " " else f"\\{ord(letter):x} " for letter in text)
    return f'"{"".join(plain)}"'


def _whose(table: Table) -> dict[str, str]:
    """The classes of the columns that say whose row it is, by key: in their order."""
    first = table.columns[0].key
    keys = _WHOSE.get(table.id, (first,))
    kept = [column.key for column in table.columns if column.key in keys] or [first]
    return {key: f"whose whose-{place}" for place, key in enumerate(kept)}


def _head(column: Column, whose: Mapping[str, str]) -> str:
    classes = ["number"] if column.is_number else []
    # The conditions of a measurement would stand there in a tower of single words.
    classes += ["wide"] if len(column.title) > _LONG_TITLE else []
    classes += [whose[column.key]] if column.key in whose else []
    styled = f' class="{" ".join(classes)}"' if classes else ""
    told = f' title="{html.escape(column.help)}"' if column.help else ""
    return f'<th scope="col"{styled}{told}><button type="button">{html.escape(column.title)}</button></th>'


def _row(row: Row, columns: Sequence[Column], whose: Mapping[str, str]) -> str:
    cells = "".join(_cell(cell, column, whose) for cell, column in zip(row.cells, columns, strict=True))
    return f'<tr data-row="{html.escape(row.of or row.key)}">{cells}</tr>'


def _cell(cell: Cell, column: Column, whose: Mapping[str, str]) -> str:
    classes = ["number"] if column.is_number else ["long"] if column.key in _LONG else ["key"]
    longest = _LONGEST_LINE_OF_MANY if column.key in whose and len(whose) > 2 else _LONGEST_LINE
    classes += ["lines"] if classes == ["key"] and len(cell.text) > longest else []
    classes += ["command"] if column.key == "command" else []
    classes += [cell.status] if cell.status in ("published", "missing") else []
    classes += [whose[column.key]] if column.key in whose else []
    text = html.escape(cell.text) if cell.text else DASH
    told = [cell.source] if cell.source else []
    if "long" in classes and len(cell.text) > _LONGEST_SHOWN:
        # Opened by a click, a finger or the keyboard: without a script, too.
        text = f'<div class="folded" tabindex="0">{text}</div>'
        told = [cell.text, *told]
    title = f' title="{html.escape(chr(10).join(told))}"' if told else ""
    return f'<td class="{" ".join(classes)}"{_value(cell, column)}{title}>{text}</td>'


def _value(cell: Cell, column: Column) -> str:
    """What a cell is sorted by, where that is not its text."""
    if cell.text and not column.is_number:
        return ""
    value = repr(cell.number) if cell.text and cell.number is not None else ""
    return f' data-value="{html.escape(value)}"'


def _charts_section(key: str, title: str, found: Sequence[Chart]) -> str:
    figures = "\n".join(
        f"<figure><h3>{html.escape(chart.title)}</h3>\n{chart.svg}\n{_legend(chart.legend)}"
        f"<figcaption>{html.escape(chart.caption)}</figcaption></figure>"
        for chart in found
    )
    return f'<section id="{key}"><h2>{html.escape(title)}</h2>\n<div class="charts">{figures}</div></section>\n'


def _legend(entries: Sequence[LegendEntry]) -> str:
    """The names of what is drawn, where they do not stand in the chart; a long legend is folded."""
    if not entries:
        return ""
    items = "".join(
        f'<li class="mark" data-row="{html.escape(entry.row)}" tabindex="0">'
        f'<span style="color: var(--series-{entry.colour})">{entry.sign}</span> {html.escape(entry.text)}</li>'
        for entry in entries
    )
    listed = f'<ul class="legend">{items}</ul>'
    if len(entries) <= _LONGEST_LEGEND:
        return listed
    return f"<details><summary>what is what ({len(entries)})</summary>{listed}</details>"


def _pictures_section(shown: Sequence[Example]) -> str:
    rows = dict.fromkeys(example.row for example in shown)
    names = sorted({name for example in shown for name in example.classes})
    figures = "\n".join(
        f'<figure data-of="{html.escape(example.row)}" data-marks="{html.escape(json.dumps(example.marks))}">'
        f'<img src="{example.data}" width="{example.size[0]}" height="{example.size[1]}" decoding="async" '
        f'alt="{html.escape(f"{example.title}: {example.told}")}">'
        f"<figcaption>{html.escape(example.row)}, {html.escape(example.title)}: {html.escape(example.told)}"
        "</figcaption></figure>"
        for example in shown
    )
    return f"""<section class="examples" id="examples">
<h2>Example pictures</h2>
<p class="soft"><span class="key-right">right</span>, <span class="key-false">false</span> (a detection of at least
{SCORE:g} that matches no object of its class at IoU 0.5), <span class="key-missed">missed</span> (an object
without one).</p>
<div class="bar">
<label>Row {_select(rows)}</label> <label>Class {_select(names)}</label> <label>With {_select(KINDS)}</label>
<span class="soft count"></span></div>
<div class="pictures">{figures}</div>
</section>
"""


def _select(values: Iterable[str]) -> str:
    options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
    return f'<select><option value="">any</option>{options}</select>'


def _part(name: str) -> str:
    return resources.files("rexdet.report.page").joinpath(name).read_text(encoding="utf-8")
