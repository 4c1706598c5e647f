"""Marks in a page: what is not a whole one is refused before a line of the page is lost."""

from __future__ import annotations

import pytest

from rexdet.errors import UserError
from rexdet.report.tables.kept import check, update

MARK = "<!-- begin: tools/summarize.py runs --table transfer --columns network,value --no-costs -->"
END = "<!-- end -->"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([MARK, "", "Prose.", "", MARK, END], "page.md:5: a mark begins inside that of line 1"),
        ([MARK, "", "Prose."], "page.md:1: a mark begins here that nowhere ends"),
        ([MARK, END, "Prose.", MARK], "page.md:4: a mark begins here that nowhere ends"),
        ([MARK, END, "Prose.", END], "page.md:4: a mark ends here that nowhere begins"),
        ([MARK, "<!-- begin: tools/show_run.py -->", END], "page.md:2: a mark begins inside that of line 1"),
        (["<!-- begin: tools/summarize.py runs", "-->", END], "page.md:1: a mark stands on one line"),
        ([MARK, f"x {END}"], "page.md:2: the end of a mark stands at the beginning of a line"),
        ([MARK.replace("transfer", "'transfer"), END], "page.md:1: a mark cannot be followed: No closing quotation"),
        (
            [MARK.replace(" runs", ""), END],
            "page.md:1: a mark cannot be followed: the following arguments are required",
        ),
        ([MARK.replace("transfer", "nonsense"), END], "page.md:1: a mark cannot be followed: argument --table"),
        ([MARK.replace("--no-costs", "--nonsense"), END], "page.md:1: a mark cannot be followed: unrecognized"),
        ([MARK.replace("runs", "x" * 300), END], "page.md:1: the records of a mark are not here"),
    ],
)
def test_a_mark_that_is_no_whole_one_is_refused_and_the_page_stays(
    transfer, written, tmp_path, lines, complaint
) -> None:
    written(transfer())
    page = tmp_path / "page.md"
    page.write_text("\n".join(lines) + "\n")
    before = page.read_bytes()
    for follow in (check, update):
        with pytest.raises(UserError) as caught:
            follow(page)
        assert complaint in str(caught.value)
        assert page.read_bytes() == before


def test_prose_and_marks_of_others_stay_as_they_are(transfer, written, tmp_path) -> None:
    written(transfer(0.9))
    page = tmp_path / "page.md"
    others = [
        "<!-- begin: tools/show_run.py --schema -->",
        "| theirs |",
        END,
        "<!-- begin mine -->",
        "<!-- end mine -->",
    ]
    around = ["# Title", "    " + MARK, "    " + END, *others, "Line with \u2028 a separator."]
    page.write_text("\n".join([*around, MARK, "| old |", END, "Last.", MARK, END]) + "\n")
    assert update(page) == 2
    lines = page.read_text().split("\n")
    assert lines[: len(around)] == around
    assert "Last." in lines
    assert "| old |" not in lines
    assert check(page) == []
    page.write_text(page.read_text().replace("90.00", "91.00", 1))
    (line,) = check(page)
    # The separator is no end of a line for an editor: the table begins in line 11.
    assert f"{page}:11: row" in line
