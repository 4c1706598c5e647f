"""LaTeX of names in any script: it compiles, and can be read."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from rexdet.report.tables.table import Column, Table, TableBuilder, words
from rexdet.report.tables.tex_letters import tex
from rexdet.report.tables.writers import latex

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


def test_every_name_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine")
    # Every letter that has a command of its own, and the scripts that are written with accents.
    letters = [chr(number) for number in (*range(0xA0, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2300))]
    rows = ["".join(letters[begin : begin + 40]) for begin in range(0, len(letters), 40)]
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(head + latex([table_of(*ODD), table_of(*rows)]) + "\\end{document}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
