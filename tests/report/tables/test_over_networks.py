"""Ranks over data sets, and correlations over networks, from the table of networks."""

from __future__ import annotations

import pytest

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.over_networks import correlations_table, largest_block, ranks_table


def networks_of(*records):
    return networks_table(group([Found(record, f"{place}") for place, record in enumerate(records)]), Known())


def ranks_of(table):
    """family -> network -> mean rank."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    found: dict[str, dict[str, float]] = {}
    for row in table.rows:
        family, name = (row.cells[places[key]].text for key in ("family", "row"))
        found.setdefault(family, {})[name.partition("@")[0]] = row.cells[places["rank"]].number
    return found


def test_rows_are_ranked_over_the_data_sets_that_all_have(networks) -> None:
    table = ranks_table(networks)
    assert ranks_of(table) == {"fine_tune": {"resnet101": 1.5, "resnet50": 1.5, "resnet34": 3.0, "resnet18": 4.0}}
    assert any("Friedman" in note for note in table.notes)
    assert {row.of for row in table.rows} >= {"resnet101@aaaaaaaaaaaa"}


def test_a_row_that_lacks_a_data_set_is_not_ranked_and_that_is_said(transfer) -> None:
    lone = transfer(0.99, network="resnet152", dataset="dtd")
    table = ranks_table(
        networks_of(lone, *(transfer(0.5, network=n, dataset=d) for n in "ab" for d in ("dtd", "cars")))
    )
    assert set(ranks_of(table)["fine_tune"]) == {"a", "b"}
    assert any("Left out" in note and "rows resnet152@aaaaaaaaaaaa" in note for note in table.notes)


def test_a_data_set_that_one_row_alone_has_costs_nobody_its_rank(transfer) -> None:
    scores = {"a": 0.9, "b": 0.8, "c": 0.7}
    records = [transfer(score, network=n, dataset=d) for n, score in scores.items() for d in ("dtd", "cars", "pets")]
    table = ranks_table(networks_of(*records, transfer(0.9, network="a", dataset="food101")))
    assert ranks_of(table) == {"fine_tune": {"a": 1.0, "b": 2.0, "c": 3.0}}
    assert any("data sets food101" in note for note in table.notes)


def test_a_row_with_many_data_sets_of_its_own_costs_nobody_the_ranking(transfer) -> None:
    scores = {"many": 0.5, "b": 0.6, "c": 0.4}
    records = [
        transfer(score, network=name, dataset=f"d{place}")
        for name, score in scores.items()
        for place in range(10 if name == "many" else 3)
    ]
    table = ranks_table(networks_of(*records))
    assert ranks_of(table) == {"fine_tune": {"b": 1.0, "many": 2.0, "c": 3.0}}
    assert any("over d0, d1, d2." in note and "Left out" in note and "data sets d3, d4" in note for note in table.notes)
    assert largest_block({"a": dict.fromkeys("wxyz", 1.0), "b": {"w": 1.0}}) == ([], [])


def test_the_block_with_most_numbers_is_ranked() -> None:
    scores = {
        "a": dict.fromkeys("wxyz", 1.0),
        "b": dict.fromkeys("wxy", 1.0),
        "c": dict.fromkeys("xy", 1.0),
        "d": dict.fromkeys("w", 1.0),
    }
    # a, b, c share x and y: six numbers, as have a and b over w, x, y; the more data sets the better.
    assert largest_block(scores) == (["a", "b"], ["w", "x", "y"])
    assert largest_block({**scores, "e": dict.fromkeys("xy", 1.0)}) == (["a", "b", "c", "e"], ["x", "y"])
    assert largest_block({"a": {"x": 1.0}, "b": {"x": 2.0}}) == ([], [])


def test_each_protocol_has_ranks_of_its_own(transfer) -> None:
    scores = {("a", "fine_tune"): 0.9, ("b", "fine_tune"): 0.8, ("a", "knn"): 0.5, ("b", "knn"): 0.6}
    records = [
        transfer(score, network=network, protocol=protocol, dataset=dataset)
        for (network, protocol), score in scores.items()
        for dataset in ("dtd", "cars")
    ]
    assert ranks_of(ranks_table(networks_of(*records))) == {
        "fine_tune": {"a": 1.0, "b": 2.0},
        "knn": {"b": 1.0, "a": 2.0},
    }


def test_correlations_are_over_networks_that_have_both(networks) -> None:
    (row,) = correlations_table(networks).rows
    assert row.cells[2].number == 4
    # Spearman's rho of (1, 2, 3, 4) and (1, 2, 4, 3).
    assert next(cell.number for cell in row.cells if cell.text == "0.80") == pytest.approx(0.8)


def test_rows_from_random_weights_are_in_no_correlation(transfer) -> None:
    scores = {"a": (0.90, 0.50), "b": (0.91, 0.49), "c": (0.92, 0.51)}
    pretrained = [
        transfer(score, network=name, dataset=dataset)
        for name, values in scores.items()
        for dataset, score in zip(("dtd", "cars"), values, strict=True)
    ]
    random = [
        transfer(score / 2, network=name, dataset=dataset, sha=None)
        for name, values in scores.items()
        for dataset, score in zip(("dtd", "cars"), values, strict=True)
    ]
    (row,) = correlations_table(networks_of(*pretrained, *random)).rows
    assert row.cells[2].number == 3
    assert row.cells == correlations_table(networks_of(*pretrained)).rows[0].cells
