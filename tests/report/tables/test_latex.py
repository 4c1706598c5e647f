"""LaTeX of names in any script: it compiles, can be read, and stays on its page."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from rexdet.report.tables.latex import latex
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, words
from rexdet.report.tables.tex_letters import tex

ODD = (
    "[1] x",
    "*x",
    "漢字",
    "x ≥ y ≤ z",
    "α to Ω",
    "−1",
    "µ × ± →",
    "a\x1bb",
    r"a_b & 50% \ {x} ~ ^ $ # < > |",
    "naïve Łódź Dvořák ő ą ß",
    "--seed 1 -- x",
    "🎉",
    "x\u0301 \u200b é",
    "“quoted” – ‘so’ … ½ ﬁ",
)


def table_of(*cells: str) -> Table:
    builder = TableBuilder("some", "[Some] 50%\ntitle", [Column("first", "[first] ≥ 1"), Column("second", "second")])
    builder.notes += ["Notes have [brackets], 5% and ≥ signs.", "A second one."]
    for cell in cells:
        builder.add(cell, {"first": words(cell), "second": words(cell)})
    return builder.build()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("x ≥ 1", r"x $\geq$ 1"),
        ("≤ α − µ →", r"$\leq$ $\alpha$ $-$ $\mu$ $\rightarrow$"),
        ("Dvořák", r"Dvo\v{r}\'{a}k"),
        ("naïve", r"na\"{\i}ve"),
        ("漢字 x", "[U+6F22 U+5B57] x"),
        ("a\x1bb", "a[U+001B]b"),
        ("½", "1/2"),
        ("a--b", "a-{}-b"),
        ("a–b", "a--b"),
        ("plain (1.5)", "plain (1.5)"),
    ],
)
def test_letters_are_written_as_tex_knows_them(text, written) -> None:
    assert tex(text) == written


def test_what_is_written_is_ascii_and_everything_is_told() -> None:
    for number in (*range(0x20, 0x3000), 0x4E00, 0x1F600):
        letter = chr(number)
        written = tex(f"x{letter}x")
        assert written.isascii()
        category = unicodedata.category(letter)
        if category[0] in "LNS" and letter != "\u00a8":
            # No letter, number or symbol is lost without a trace.
            assert written != "xx", hex(number)


def test_a_row_that_begins_with_a_bracket_is_no_length() -> None:
    lines = latex([table_of("[1] x", "*x", "plain")]).splitlines()
    assert r"{}[1] x & [1] x \\" in lines
    assert r"{}*x & *x \\" in lines
    assert r"{}[first] $\geq$ 1 & second \\" in lines
    assert r"plain & plain \\" in lines


def test_notes_stand_below_their_table() -> None:
    text = latex([table_of("a")])
    after = text[text.index(r"\end{tabular}") :]
    assert after.index("5\\% and $\\geq$ signs.") < after.index("A second one.")
    assert "% [Some] 50\\% title\n" in text


def test_a_small_table_is_a_tabular_that_needs_booktabs_alone() -> None:
    text = latex([table_of("a", "b")])
    assert text.splitlines()[0] == r"% \usepackage{booktabs}"
    assert "% [Some] 50\\% title\n\\begin{tabular}{ll}\n\\toprule\n" in text
    for word in ("longtable", "footnotesize\\set", "p{", r"\allowbreak"):
        assert word not in text


def test_many_rows_go_over_pages_and_repeat_their_head() -> None:
    text = latex([table_of(*(f"row {number}" for number in range(60)))])
    assert text.splitlines()[0] == r"% \usepackage{booktabs,longtable,array}"
    assert text.count(r"\begin{longtable}{ll}") == 1
    assert text.index(r"{}[first] $\geq$ 1 & second \\") < text.index(r"\endhead") < text.index("row 0 & row 0")


def test_a_wide_table_is_blocks_of_columns_that_repeat_its_names(study: Summary) -> None:
    text = latex([study.networks])
    blocks = text.split("% Networks (")[1:]
    assert len(blocks) > 2
    names = [row.cells[0].text.replace("_", r"\_") for row in study.networks.rows]
    for block in blocks:
        rows = [line for line in block.splitlines() if line.endswith(r"\\") and " & " in line]
        assert [row.partition(" & ")[0] for row in rows] == ["network", *names]
    numbers = [cell.text for row in study.networks.rows for cell in row.cells if " ± " in cell.text]
    assert text.count(r" $\pm$ ") == len(numbers)
    assert r"latency (ms): batch 1, float32, openvino" in text


def test_columns_of_long_words_are_left_out_and_named(study: Summary) -> None:
    runs = study.table("runs")
    assert "Too wide for here: command, versions, machine, where." in " ".join(latex([runs]).split())
    assert "torch 2.11.0" not in latex([runs])
    wide = latex([runs], with_wide=True)
    assert "Too wide" not in wide
    assert "torch 2.11.0" in wide


HEAD = r"""\documentclass{article}
\usepackage{booktabs,longtable,array}
\begin{document}
"""


def log_of(text: str, folder: Path) -> str:
    """What pdflatex says; it has to compile."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine")
    (folder / "a.tex").write_text(HEAD + text + "\\end{document}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_every_name_compiles(tmp_path: Path) -> None:
    # Every letter that has a command of its own, and the scripts that are written with accents.
    letters = [chr(number) for number in (*range(0xA0, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2300))]
    rows = ["".join(letters[begin : begin + 40]) for begin in range(0, len(letters), 40)]
    log = log_of(latex([table_of(*ODD), table_of(*rows)]), tmp_path)
    assert "Overfull" not in log, log


@pytest.mark.parametrize("with_wide", [False, True])
def test_no_table_of_a_study_runs_off_its_page(study: Summary, tmp_path: Path, with_wide: bool) -> None:
    log = log_of(latex(study.filled(), with_wide=with_wide), tmp_path)
    assert "Overfull" not in log, log


def test_wide_letters_are_measured_so(tmp_path: Path) -> None:
    builder = TableBuilder("some", "Some", [Column(f"c{place}", f"WWW MMM {place}", "%") for place in range(12)])
    for letter in ("W", "M", "@", "%", "i", "_", "<", "|", "\\", "漢", "½", "≥"):
        builder.add(letter, {f"c{place}": Cell(8 * letter, 1.0, "published") for place in range(12)})
    log = log_of(latex([builder.build()]), tmp_path)
    assert "Overfull" not in log, log
