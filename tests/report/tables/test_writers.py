"""The same table as text, Markdown, CSV and LaTeX; and the tables that a page of the repository keeps."""

from __future__ import annotations

import csv
import io
import random
import shutil
import subprocess

import pytest
from rich.console import Console
from tabulate import tabulate

from rexdet.errors import UserError
from rexdet.report.statistics.intervals import Summary
from rexdet.report.tables.kept import check, differences, update
from rexdet.report.tables.table import MISSING, Cell, Column, TableBuilder, words
from rexdet.report.tables.writers import comma_separated, latex, markdown, markdown_table, print_tables, sorted_rows


@pytest.fixture
def table():
    builder = TableBuilder("some", "Some", [Column("name", "name"), Column("ap", "AP (%)", "%"), Column("no", "no")])
    summary = Summary(2, 41.234567, 1.0, 40.0, 42.5)
    builder.add("a", {"name": words("a_b & 50%"), "ap": Cell("41.23 ± 1.27", 41.234567, "ours", summary, "2 runs")})
    builder.add("b", {"name": words("b|x"), "ap": MISSING})
    builder.add("c", {"name": words("c"), "ap": Cell("37.9", 37.9, "published", None, "zoo, page 3")}, "published")
    return builder.build()


def test_columns_in_which_nothing_stands_are_left_out(table) -> None:
    assert [column.key for column in table.columns] == ["name", "ap"]


def test_csv_has_numbers_as_they_are_and_nothing_for_what_is_missing(table) -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert lines[0]["name"] == "a_b & 50%"
    assert lines[0]["ap_percent"] == "41.234567"
    assert (lines[0]["ap_low"], lines[0]["ap_high"], lines[0]["ap_runs"]) == ("40.0", "42.5", "2")
    assert (lines[0]["ap_status"], lines[0]["ap_source"]) == ("ours", "2 runs")
    assert (lines[1]["ap_percent"], lines[1]["ap_low"], lines[1]["ap_status"]) == ("", "", "missing")
    assert (lines[2]["ap_percent"], lines[2]["ap_low"], lines[2]["ap_status"]) == ("37.9", "", "published")
    assert "–" not in comma_separated(table)


def test_markdown_has_a_dash_for_what_is_missing_and_italics_for_what_is_published(table) -> None:
    text = markdown([table])
    assert "| b\\|x" in text
    assert text.splitlines()[5].split("|")[-2].strip() == "–"
    assert "*37.9*" in text


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_markdown_is_laid_out_as_the_repositorys_other_tables_are(rows) -> None:
    chance = random.Random(rows)
    columns = [
        Column("name", "name"),
        Column("a", "a title that is long", "%"),
        Column("b", "b"),
        Column("c", "c", "no."),
    ]
    builder = TableBuilder("some", "Some", columns)
    for _ in range(rows):
        cells = {column.key: words("x" * chance.randint(0, 30) + "|") for column in columns if chance.random() < 0.9}
        builder.add("x", {**cells, "b": words("é ± b"), "c": Cell("1", 1.0)})
    table = builder.build()
    head = [column.title for column in table.columns]
    lines = [[cell.text.replace("|", "\\|") or "–" for cell in row.cells] for row in table.rows]
    alignment = ["right" if column.is_number else "left" for column in table.columns]
    expected = tabulate(lines, head, tablefmt="pipe", disable_numparse=True, colalign=alignment)
    assert markdown_table(table) == expected


def test_a_terminal_shows_every_number_whole(table) -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    print_tables([table], console)
    text = console.export_text()
    assert "41.23 ± 1.27" in text
    assert "–" in text


@pytest.mark.parametrize("descending", [True, False])
def test_what_is_empty_is_sorted_last_either_way(table, descending) -> None:
    keys = [row.key for row in sorted_rows(table, "ap", descending=descending).rows]
    assert keys == (["a", "c", "b"] if descending else ["c", "a", "b"])


def test_json_has_null_for_what_is_missing(table) -> None:
    rows = table.as_json()["rows"]
    assert rows[1]["cells"]["ap"] is None
    assert rows[0]["cells"]["ap"]["interval"] == [40.0, 42.5]
    assert rows[2]["cells"]["ap"] == {"value": 37.9, "status": "published", "source": "zoo, page 3"}


def test_latex_escapes_what_tex_would_read(table) -> None:
    text = latex([table])
    assert r"a\_b \& 50\%" in text
    assert r"$\pm$" in text
    assert r"\toprule" in text
    assert r"\emph{37.9}" in text


def test_latex_tells_a_minus_from_hyphens() -> None:
    builder = TableBuilder("some", "Some", [Column("words", "words"), Column("gain", "gain", "points")])
    builder.add("a", {"words": words("run.py --seed 1"), "gain": Cell("-2.42 ± 1.01", -2.42)})
    assert r"run.py -{}-seed 1 & $-$2.42 $\pm$ 1.01" in latex([builder.build()])


def test_latex_compiles_where_there_is_tex(table, tmp_path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine")
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(head + latex([table]) + "\\end{document}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "a.pdf").stat().st_size > 1000


def page_of(tmp_path, records: str, columns: str = "network,value"):
    page = tmp_path / "page.md"
    words = f"{records} --table transfer --columns {columns} --no-costs"
    page.write_text(f"# A page\n\n<!-- begin: tools/summarize.py {words} -->\n<!-- end -->\n\nMore.\n")
    return page


def test_a_kept_table_is_written_and_then_checked_cell_by_cell(transfer, written, tmp_path) -> None:
    written(transfer(0.9), transfer(0.5, sha=None))
    page = page_of(tmp_path, "runs")
    assert update(page) == 1
    text = page.read_text()
    assert "90.00" in text
    assert text.endswith("<!-- end -->\n\nMore.\n")
    assert check(page) == []
    assert update(page) == 0
    page.write_text(text.replace("90.00", "91.00"))
    (line,) = check(page)
    assert f"{page}:4" in line
    assert "row 'resnet50', column 'accuracy (%)': '91.00' stands there, the records say '90.00'" in line


def test_a_row_that_went_and_one_that_came_are_named() -> None:
    old = "| a | b |\n|---|---|\n| x | 1 |"
    new = "| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |"
    assert differences("f:1", old, new) == [
        "f:1: row 'y', column 'a': 'nothing' stands there, the records say 'y'",
        "f:1: row 'y', column 'b': 'nothing' stands there, the records say '2'",
    ]
    assert len(differences("f:1", new, old)) == 2


def test_marks_that_cannot_be_followed_are_one_line(transfer, written, tmp_path) -> None:
    written(transfer())
    with pytest.raises(UserError, match="records of a mark are not here: nowhere"):
        check(page_of(tmp_path, "nowhere"))
    with pytest.raises(UserError, match="has no column 'nonsense'"):
        check(page_of(tmp_path, "runs", columns="nonsense"))
    (tmp_path / "plain.md").write_text("no table\n")
    with pytest.raises(UserError, match=r"no table of tools/summarize\.py"):
        check(tmp_path / "plain.md")


def test_the_kept_tables_of_the_repository_are_what_its_records_say(repository) -> None:
    everywhere = [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]
    pages = [page for page in everywhere if "\n<!-- begin: tools/summarize.py" in page.read_text(encoding="utf-8")]
    assert {page.name for page in pages} >= {"README.md", "transfer.md"}
    for page in pages:
        assert check(page) == [], page.name
