"""What a terminal would obey is shown as what it is."""

from __future__ import annotations

from rexdet.report.records.reading import Found, Reading, shown
from rexdet.report.records.visible import visible
from rexdet.report.tables.summary import TABLES, summarise_runs
from rexdet.report.tables.writers import comma_separated, markdown

CLEARS_THE_SCREEN = "a\x1b[2Jb\x00c\x9bd\re"


def test_control_characters_are_written_out() -> None:
    assert visible(CLEARS_THE_SCREEN) == "a\\x1b[2Jb\\x00c\\x9bd\re"
    assert visible("two\tand\nthree, 漢 é") == "two\tand\nthree, 漢 é"
    assert shown("a\x1bb") == r"a\x1bb"


def test_no_table_holds_one(detection, transfer) -> None:
    odd = CLEARS_THE_SCREEN
    records = [
        detection(name=odd, network=odd, per_class={"bbox": {odd: {"AP": 0.5}}}),
        transfer(name=odd, network=odd, dataset=odd),
        transfer(0.5, name=odd, network="other", dataset=odd),
    ]
    found = Reading(tuple(Found(record, str(place)) for place, record in enumerate(records)))
    summary = summarise_runs(found, with_costs=False)
    tables = summary.filled(TABLES)
    assert {"networks", "detection", "transfer", "answers", "runs"} <= {table.id for table in tables}
    for table in tables:
        for text in (markdown([table]), comma_separated(table)):
            assert not set("\x1b\x00\x9b") & set(text), table.id
