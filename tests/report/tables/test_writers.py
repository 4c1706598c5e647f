"""The same table as text, Markdown, CSV and LaTeX; and the tables that a page of the repository keeps."""

from __future__ import annotations

import csv
import io
import math
import random
import shutil
import subprocess

import pytest
from rich.console import Console
from tabulate import tabulate

from rexdet.cli import execute
from rexdet.errors import UserError
from rexdet.report.records.reading import Found, Reading
from rexdet.report.statistics.intervals import Summary
from rexdet.report.tables.kept import check, chosen_columns, differences, update
from rexdet.report.tables.latex import latex
from rexdet.report.tables.summary import summarise_runs
from rexdet.report.tables.table import MISSING, Cell, Column, TableBuilder, scaled, words
from rexdet.report.tables.terminal import print_tables
from rexdet.report.tables.writers import comma_separated, markdown, markdown_table, sorted_rows


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
    assert lines[0]["AP_percent"] == "41.234567"
    assert (lines[0]["AP_low"], lines[0]["AP_high"], lines[0]["AP_n"]) == ("40.0", "42.5", "2")
    assert (lines[0]["AP_status"], lines[0]["AP_source"]) == ("ours", "2 runs")
    assert (lines[1]["AP_percent"], lines[1]["AP_low"], lines[1]["AP_status"]) == ("", "", "missing")
    assert (lines[2]["AP_percent"], lines[2]["AP_low"], lines[2]["AP_status"]) == ("37.9", "", "published")
    assert "–" not in comma_separated(table)


def csv_of(builder):
    return list(csv.DictReader(io.StringIO(comma_separated(builder.build()), newline="")))


def test_csv_columns_say_what_they_are_and_a_further_setting_renames_none(transfer, latency_run) -> None:
    def heads(*datasets):
        records = [transfer(dataset=dataset, network="resnet50") for dataset in datasets]
        latency = latency_run("resnet50", {"eager float32 batch 1": 20.0})
        read = Reading(tuple(Found(record, record.name) for record in (*records, latency)))
        return comma_separated(summarise_runs(read).networks).splitlines()[0].split(",")

    one = heads("dtd")
    assert {"top_1_dtd_fine_tune_percent", "top_1_dtd_fine_tune_source"} <= set(one)
    # Of what a number is, and where it comes from, stands in the file.
    assert {"latency_batch_1_float32_eager_a_CPU_ms", "latency_batch_1_float32_eager_a_CPU_source"} <= set(one)
    assert {"parameters_M", "parameters_source", "MACs_224_px_G", "MACs_224_px_source"} <= set(one)
    assert {"checkpoint", "checkpoint_source"} <= set(one)
    # aircraft sorts before dtd.
    assert [name for name in heads("dtd", "aircraft") if name in one] == one


def test_csv_columns_of_one_title_have_different_names() -> None:
    columns = [Column("a", "its MACs (G)", "G"), Column("b", "Its macs (G)", "G"), Column("row", "row")]
    columns += [Column("c", "seeds needed", "seeds"), Column("d", "Pearson's r", "r"), Column("e", "漢 (%)", "%")]
    builder = TableBuilder("some", "Some", columns)
    builder.add("x", {column.key: Cell("1", 1.0) for column in columns})
    (line,) = csv_of(builder)
    assert list(line) == ["row", "its_MACs_G", "Its_macs_2_G", "row_2", "seeds_needed", "Pearsons_r", "漢_percent"]


@pytest.mark.parametrize(
    ("title", "unit", "name"),
    [
        ("data sets needed", "data sets", "data_sets_needed"),
        ("higher on data sets", "data sets", "higher_on_data_sets"),
        ("data sets", "data sets", "data_sets"),
        ("higher on", "data sets", "higher_on_data_sets"),
        ("training images", "images", "training_images"),
        # A word that only begins so is another one.
        ("rows", "r", "rows_r"),
        ("imagesets", "images", "imagesets_images"),
    ],
)
def test_a_unit_that_the_title_names_stands_in_a_csv_name_once(title, unit, name) -> None:
    builder = TableBuilder("some", "Some", [Column("a", title, unit)])
    builder.add("x", {"a": Cell("1", 1.0)})
    assert list(csv_of(builder)[0]) == ["row", name]


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_csv_keeps_the_ends_of_lines_within_a_value(ending) -> None:
    builder = TableBuilder("some", "Some", [Column("name", "name"), Column("other", "other")])
    builder.add("x", {"name": words(f"a{ending}b"), "other": words("c")})
    assert csv_of(builder) == [{"row": "x", "name": f"a{ending}b", "other": "c"}]


TOO_WIDE = "Too wide for here: command, where. --columns shows them; Markdown, CSV and the page have them."


def printed(table, **options):
    console = Console(width=200, record=True, file=io.StringIO())
    print_tables([table], console, **options)
    return console.export_text()


def test_a_terminal_says_which_columns_it_leaves_out_and_shows_those_that_were_asked_for() -> None:
    builder = TableBuilder(
        "runs", "Runs", [Column("run", "run"), Column("command", "command"), Column("where", "record")]
    )
    builder.add("x", {"run": words("one"), "command": words("a command"), "where": words("a folder")})
    table = builder.build()
    assert "a command" not in printed(table)
    assert TOO_WIDE in printed(table)
    asked = printed(chosen_columns(table, ["command", "where"]), with_wide=True)
    assert "a command" in asked
    assert "a folder" in asked
    assert "Too wide" not in asked


def test_named_columns_are_printed_by_the_command_however_wide_or_empty(transfer, written, capsys) -> None:
    runs = written(transfer())
    words = [str(runs), "--no-costs", "--table", "runs", "--columns", "command,out", "--sort", "out"]
    assert execute("summarize", words) == 0
    said = capsys.readouterr().out
    assert "transfer/run.py --dataset dtd" in said
    assert "in no table, for" in said


def test_a_column_in_which_nothing_stands_is_given_empty_and_an_unknown_one_refused(table) -> None:
    chosen = chosen_columns(table, ["no", "name"])
    assert [column.key for column in chosen.columns] == ["no", "name"]
    assert [row.cells[0] for row in chosen.rows] == [MISSING] * 3
    # What is left out then is nobody's.
    assert chosen.empty == ()
    assert [row.cells[0].text for row in chosen_columns(sorted_rows(table, "ap"), ["no", "name"]).rows] == [""] * 3
    with pytest.raises(UserError, match="has no column 'nothing'; it has name, ap, no"):
        chosen_columns(table, ["nothing"])


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


@pytest.mark.parametrize("value", [None, 1e308, -1e308, math.inf, math.nan])
def test_what_no_file_can_hold_is_no_number(value) -> None:
    assert scaled(value, 100, 1) == MISSING
    assert scaled(2.5, 100, 1).number == 250
