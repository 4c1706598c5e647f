"""Tables in terminals of any width, and in a pipe: numbers stand whole, and every block says what its rows are of."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from rexdet.cli import execute
from rexdet.report.records.reading import Found, write_ledger
from rexdet.report.tables.blocks import Page, folded, laid_out
from rexdet.report.tables.kept import chosen_columns
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, words
from rexdet.report.tables.terminal import print_tables

WIDTHS = (60, 80, 120, 200)


def printed(table: Table, width: int, *, with_wide: bool = False) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_tables([table], console, with_wide=with_wide)
    return console.export_text()


def cells_of(text: str) -> Counter[str]:
    """What stands between two bars, line by line."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return Counter(cell.strip() for line in lines for cell in line.strip("│").split("│"))


def numbers_of(table: Table) -> Counter[str]:
    places = [place for place, column in enumerate(table.columns) if column.is_number]
    return Counter(row.cells[place].text for row in table.rows for place in places if row.cells[place].text)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_stands_whole_under_a_low_heading(study: Summary, width: int) -> None:
    tables = study.filled()
    assert {"answers", "networks", "detection", "transfer", "published", "pairs", "runs"} <= {one.id for one in tables}
    for table in tables:
        text = printed(table, width)
        assert max(map(cell_len, text.splitlines())) <= width, table.id
        missing = numbers_of(table) - cells_of(text)
        assert not missing, (table.id, missing)
        # A rule, at most four lines of titles, and a rule.
        headings = re.findall(r"^┏.*?^┡", text, re.MULTILINE | re.DOTALL)
        assert headings
        assert max(heading.count("\n") for heading in headings) <= 5, table.id


@pytest.mark.parametrize("width", WIDTHS)
def test_every_block_begins_with_what_its_rows_are_known_by(study: Summary, width: int) -> None:
    names = {"networks": ["network", "checkpoint"], "detection": ["number", "network", "checkpoint"]}
    for name, keys in names.items():
        layout = laid_out(study.table(name), Page(width, 3, 1, cell_len))
        assert len(layout.blocks) > 1
        for block in layout.blocks:
            assert [layout.table.columns[laid.place].key for laid in block][: len(keys)] == keys
        # Each column stands once, but for these.
        shown = Counter(laid.place for block in layout.blocks for laid in block)
        assert sorted(shown) == list(range(len(layout.table.columns)))
        assert all(count == 1 for place, count in shown.items() if place >= len(keys))
    if width >= 80:
        # No name is folded within a word.
        named = cells_of(printed(study.networks, width))
        blocks = len(laid_out(study.networks, Page(width, 3, 1, cell_len)).blocks)
        assert named["resnext50_32x4d"] == 2 * blocks


def test_rows_that_no_name_tells_apart_are_numbered_where_blocks_need_it(study: Summary) -> None:
    text = printed(study.table("pairs"), 80)
    assert "no." not in text
    assert "Any two rows (1 of " in text
    text = printed(study.table("detection"), 80)
    assert text.count("┃ no. ┃") == len(re.findall(r"Detection \(\d+ of \d+\)", text)) > 1
    assert "no." not in printed(study.table("detection"), 1000)


def test_the_conditions_of_a_latency_stand_below_the_table(study: Summary) -> None:
    conditions = "batch 1, float32, openvino, Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz"
    narrow, wide = printed(study.networks, 80), printed(study.networks, 1000)
    assert f"latency (ms): {conditions}." in " ".join(narrow.split())
    assert f"latency (ms), {conditions} ┃" in wide
    assert "latency (ms): " not in wide


@pytest.mark.parametrize("width", [8, 20, 40])
def test_a_page_as_narrow_as_nobody_has_costs_no_column(study: Summary, width: int) -> None:
    for table in study.filled(["answers", "networks", "detection", "ranks", "pairs"]):
        layout = laid_out(table, Page(width, 3, 1, cell_len))
        shown = {layout.table.columns[laid.place].key for block in layout.blocks for laid in block}
        assert shown >= {column.key for column in table.columns}
        assert printed(table, width, with_wide=True).count("┡") == len(layout.blocks)
        if width > 20:
            assert not numbers_of(table) - cells_of(printed(table, width, with_wide=True))


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("AP faster_rcnn coco-val2017", 14, ["AP faster_rcnn", "coco-val2017"]),
        ("resnext50_32x4d@0336fe11b6ec frozen", 16, ["resnext50_32x4d", "@0336fe11b6ec", "frozen"]),
        ("@tv_in1k 0336", 8, ["@tv_in1k", "0336"]),
        ("resnext50_32x4d", 10, ["resnext50_", "32x4d"]),
        ("docs/a/record.json", 12, ["docs/a/", "record.json"]),
        ("-0.29 to 1.00", 8, ["-0.29 to", "1.00"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("漢字漢字", 4, ["漢字", "漢字"]),
        ("  a \n b ", 9, ["a b"]),
        ("", 5, [""]),
    ],
)
def test_words_are_folded_between_words_first(text: str, width: int, lines: list[str]) -> None:
    assert folded(text, width, cell_len) == lines


def test_rows_whose_names_are_folded_are_parted_by_rules() -> None:
    columns = [Column("setting", "setting"), *(Column(f"n{place}", f"n{place}", "%") for place in range(3))]
    builder = TableBuilder("some", "Some", columns)
    for row in ("faster_rcnn coco-val2017 detectron2_1x", "short"):
        builder.add(row, {"setting": words(row), **{f"n{place}": Cell("39.21 ± 0.64", 39.21) for place in range(3)}})
    table = builder.build()
    assert "├" in printed(table, 70)
    assert "├" not in printed(table, 100)


def piped(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert execute("summarize", [*words, "--no-costs"]) == 0
    return capsys.readouterr().out


def test_a_pipe_has_no_width(
    study: Summary, study_runs: list[Found], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "all.jsonl"
    write_ledger(study_runs, ledger)
    out = piped([str(ledger), "--table", "networks"], capsys)
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == len(study.networks.rows)
    assert max(map(len, rows)) > 400
    assert sum("resnext50_32x4d" in line for line in rows) == 2
    # Notes are lines, too.
    assert all(note in lines for note in study.networks.notes)
    columns = ["--table", "published", "--columns", "network,where,differs"]
    out = piped([str(ledger), *columns], capsys)
    expected = chosen_columns(study.table("published"), ["network", "where", "differs"])
    assert len([line for line in out.splitlines() if line.startswith("│")]) == len(expected.rows)
