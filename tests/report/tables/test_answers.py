"""Which row is best, and which others may be as good for all that the runs tell."""

from __future__ import annotations

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.costs import Cost, Rule
from rexdet.report.tables.networks import Known

MACS = {"big": 3 * 10**9, "small": 10**9, "bad": 10**8}
KNOWN = Known(costs={name: Cost(1, macs, Rule(224), "counted") for name, macs in MACS.items()})


def answer(*records):
    table = answers_table(group([Found(record, str(place)) for place, record in enumerate(records)]), KNOWN)
    return (
        {column.key: cell for column, cell in zip(table.columns, table.rows[0].cells, strict=True)}
        if table.rows
        else {}
    )


def test_what_is_not_shown_to_be_worse_stands_beside_the_best_with_the_cheapest(transfer) -> None:
    scores = {"big": (0.90, 0.92, 0.91), "small": (0.905, 0.905, 0.91), "bad": (0.70, 0.725, 0.71)}
    records = [
        transfer(score, seed=seed, network=name) for name, found in scores.items() for seed, score in enumerate(found)
    ]
    told = answer(*records)
    assert told["best"].text == "big@aaaaaaaaaaaa"
    assert told["value"].text.startswith("91.00 ± ")
    assert told["others"].text == "small@aaaaaaaaaaaa"
    assert told["cheapest"].text == "small@aaaaaaaaaaaa"
    assert told["cheapest_macs"].number == 1.0
    assert told["compared"].number == 3


def test_a_single_seed_shows_nothing(transfer) -> None:
    told = answer(transfer(0.9, network="big"), transfer(0.1, network="bad"))
    assert told["others"].text == "bad@aaaaaaaaaaaa"


def test_one_row_alone_has_no_answer(transfer) -> None:
    assert answer(transfer(0.9), transfer(0.8, seed=1)) == {}


def test_a_row_of_unknown_cost_names_no_cheapest(transfer) -> None:
    assert "cheapest" not in answer(transfer(0.9, network="big"), transfer(0.9, network="unknown"))


def test_what_is_better_over_the_shared_seeds_is_not_worse(transfer) -> None:
    # The best by its mean, which its third seed lifts; over the two seeds that both have it is the lower one.
    best = [transfer(score, seed, network="big") for seed, score in enumerate((0.80, 0.80, 1.0))]
    other = [transfer(score, seed, network="small") for seed, score in enumerate((0.85, 0.851))]
    told = answer(*best, *other)
    assert told["best"].text == "big@aaaaaaaaaaaa"
    assert told["others"].text == "small@aaaaaaaaaaaa"


def test_a_row_stands_once_in_a_setting_whatever_a_search_chose(transfer) -> None:
    config = transfer(network="big").config
    records = [transfer(0.7, 0, network="big"), transfer(0.72, 1, network="big")]
    records.append(transfer(0.9, 2, network="big", config=config + "learning_rate: 2\n"))
    assert answer(*records) == {}
    told = answer(*records, transfer(0.8, 0, network="small"))
    assert (told["best"].text, told["others"].text) == ("small@aaaaaaaaaaaa", "big@aaaaaaaaaaaa")
    assert told["compared"].number == 2


def test_equal_differences_show_nobody_to_be_worse(transfer) -> None:
    records = [transfer(score, seed, network=name) for name, score in (("big", 0.9), ("bad", 0.5)) for seed in range(3)]
    assert answer(*records)["others"].text == "bad@aaaaaaaaaaaa"
