"""Names that look like formulas, colours or markup: the page stands, and its marks lead to their rows."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from rexdet.report.page.charts import class_charts, transfer_charts
from rexdet.report.page.document import page
from rexdet.report.page.drawing import SERIES
from rexdet.report.records.reading import read
from rexdet.report.tables.summary import summarise_runs

ODD_NAMES = (
    "$_$ note",
    "a$b$c",
    r"a\$b",
    "$",
    "_hidden",
    "two\n  lines",
    "漢字",
    '"q" <b> & \'',
    "#4477aa",
    "#010203",
    "a--b",
    'id="x" url(#y) font: 8px z;',
)


class Marks(HTMLParser):
    """The rows of the tables, and those that the marks of the charts name, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: set[str] = set()
        self.marks: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "tr" and "data-row" in told:
            self.rows.add(told["data-row"] or "")
        if told.get("class") == "mark":
            self.marks.append(told["data-row"] or "")


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.filterwarnings("error")
def test_odd_names_of_networks_are_drawn_and_lead_to_their_rows(name, detection, transfer, written) -> None:
    records = [transfer(0.9, seed, network=name) for seed in range(2)]
    records += [transfer(0.8, network="other"), detection(0.4, network=name), detection(0.3, network="other")]
    summary = summarise_runs(read([written(*records)]), with_costs=False)
    found = Marks(page(summary, summary.filled()))
    ours = [mark for mark in found.marks if not mark.startswith("other@")]
    assert {mark.rpartition("@")[0] for mark in ours} == {name}
    assert set(ours) <= found.rows
    # Of accuracy, of the transfer loss while training, of the classes.
    assert len(ours) >= 4


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_classes_are_drawn_as_they_are(name, detection, written, drawn) -> None:
    record = detection(0.4, per_class={"bbox": {name: {"AP": 0.4}, "cat": {"AP": 0.5}}})
    summary = summarise_runs(read([written(record)]), with_costs=False)
    (chart,) = drawn(class_charts, summary)
    labels = [unescape(label).strip() for label in re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg)]
    shown = " ".join(name.split())
    assert (shown if len(shown) <= 22 else f"{shown[:11]}…{shown[-10:]}") in labels


def test_a_legend_names_every_row(detection, written, drawn) -> None:
    names = ("_hidden", "#4477aa", "plain", "$x$ <b>")
    summary = summarise_runs(read([written(*[detection(0.4, network=name) for name in names])]), with_costs=False)
    (chart,) = drawn(class_charts, summary)
    assert [entry.text.rpartition("@")[0] for entry in chart.legend] == sorted(names)
    text = page(summary, summary.filled())
    (listed,) = re.findall(r'<ul class="legend">(.*?)</ul>', text)
    words = [unescape(re.sub(r"<[^>]*>", "", item)) for item in re.findall(r"<li.*?</li>", listed)]
    assert [entry.rpartition("@")[0].partition(" ")[2] for entry in words] == sorted(names)
    assert len({entry.partition(" ")[0] for entry in words}) == len(names)


def test_colours_are_the_pages_and_no_placeholder_is_left(transfer, written, drawn) -> None:
    summary = summarise_runs(read([written(transfer(0.9), transfer(0.8, network="#4477aa"))]), with_costs=False)
    (chart,) = drawn(transfer_charts, summary)
    tags = "".join(re.findall(r"<[^>]*>", re.sub(r'data-row="[^"]*"', "", chart.svg)))
    assert "var(--series-0)" in tags
    assert not any(colour in tags for colour in SERIES)
