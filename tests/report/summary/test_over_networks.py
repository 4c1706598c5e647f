"""Ranks over settings, and correlations over networks, from the table of networks."""

from __future__ import annotations

import pytest

from rexdet.report.groups import group
from rexdet.report.networks_table import Known, networks_table
from rexdet.report.over_networks import correlations_table, overall_table, ranks_table
from rexdet.report.reading import Found


@pytest.fixture
def networks(transfer):
    scores = {"resnet18": (0.6, 0.5), "resnet34": (0.7, 0.6), "resnet50": (0.8, 0.75), "resnet101": (0.9, 0.7)}
    records = [
        transfer(score, network=name, dataset=dataset)
        for name, values in scores.items()
        for dataset, score in zip(("dtd", "cars"), values, strict=True)
    ]
    return networks_table(group([Found(record, record.name) for record in records]), Known())


def test_rows_are_ranked_over_the_settings_that_all_have(networks) -> None:
    table = ranks_table(networks)
    ranks = {row.key.partition("@")[0]: row.cells[1].number for row in table.rows}
    assert ranks == {"resnet101": 1.5, "resnet50": 1.5, "resnet34": 3.0, "resnet18": 4.0}
    assert any("Friedman" in note for note in table.notes)


def test_a_row_that_lacks_a_setting_is_not_ranked(transfer, networks) -> None:
    lone = transfer(0.99, network="resnet152", dataset="dtd")
    records = [
        Found(lone, "x"),
        *(Found(transfer(0.5, network=n, dataset=d), f"{n}{d}") for n in "ab" for d in ("dtd", "cars")),
    ]
    table = ranks_table(networks_table(group(records), Known()))
    assert [row.key[0] for row in table.rows] == ["a", "b"]


def test_correlations_are_over_networks_that_have_both(networks) -> None:
    (row,) = correlations_table(networks).rows
    assert row.cells[2].number == 4
    # Spearman's rho of (1, 2, 3, 4) and (1, 2, 4, 3).
    assert next(cell.number for cell in row.cells if cell.text == "0.80") == pytest.approx(0.8)


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
