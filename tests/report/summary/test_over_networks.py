"""Ranks over settings, and correlations over networks, from the table of networks."""

from __future__ import annotations

import pytest

from rexdet.report.groups import group
from rexdet.report.networks_table import Known, networks_table
from rexdet.report.over_networks import correlations_table, ranks_table
from rexdet.report.reading import Found


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
