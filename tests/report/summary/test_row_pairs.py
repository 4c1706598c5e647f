"""Any two rows: paired over seeds within a setting, and over settings."""

from __future__ import annotations

import pytest

from rexdet.report.groups import group
from rexdet.report.networks_table import Known, networks_table
from rexdet.report.reading import Found
from rexdet.report.row_pairs import overall_table, pairs_table

KNOWN = Known(metrics={"dtd": "top1"})


def pairs_of(*records):
    return pairs_table(group([Found(record, f"{place}") for place, record in enumerate(records)]), KNOWN)


def cells(table):
    """column -> cell of the only row."""
    (row,) = table.rows
    return dict(zip((column.key for column in table.columns), row.cells, strict=True))


def test_any_two_rows_say_what_they_could_have_shown(transfer) -> None:
    ours = [transfer(0.90 + 0.01 * seed, seed=seed) for seed in range(3)]
    theirs = [transfer(0.88 + 0.01 * seed + 0.002 * (seed == 1), seed=seed, sha="b" * 64) for seed in range(3)]
    row = cells(pairs_of(*ours, *theirs))
    assert row["difference"].number == pytest.approx(1.9333, abs=1e-3)
    assert row["pairs"].number == 3
    assert row["shown"].text == "yes"
    assert row["smallest"].number > 0
    assert row["needed"].number <= 3
    single = cells(pairs_of(ours[0], theirs[0]))
    # Columns in which nothing stands are not there.
    assert "shown" not in single
    assert "p" not in single
    assert single["difference"].summary.low is None


def test_what_is_left_out_of_many_pairs_is_said(transfer) -> None:
    table = pairs_of(*(transfer(0.5, network=f"network{place}") for place in range(26)))
    assert len(table.rows) == 300
    assert "25 further pairs are left out" in table.notes[-1]


def test_two_rows_are_paired_over_the_settings_that_both_have(networks) -> None:
    table = overall_table(networks)
    assert len(table.rows) == 6
    places = {column.key: place for place, column in enumerate(table.columns)}
    row = next(row for row in table.rows if "resnet101" in row.key and "resnet50" in row.key)
    told = {key: row.cells[place] for key, place in places.items()}
    # 90 - 80 and 70 - 75 points: one higher, one lower; 2.5 ± t(0.975, 1) * 10.607 / sqrt(2).
    assert told["difference"].text == "2.50 ± 95.30"
    assert (told["pairs"].number, told["higher"].number, told["lower"].number) == (2, 1, 1)
    assert told["shown"].text == "no"
    assert told["setting"].text == "data sets"


def test_a_single_setting_in_common_tells_nothing_over_settings(transfer) -> None:
    records = [transfer(0.5, network="a", dataset="dtd"), transfer(0.6, network="b", dataset="dtd")]
    table = networks_table(group([Found(record, record.name) for record in records]), Known())
    assert overall_table(table).rows == ()
