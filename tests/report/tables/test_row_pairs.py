"""Any two rows: paired over seeds within a setting, and over the data sets of one protocol."""

from __future__ import annotations

import csv
import io

import pytest

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.row_pairs import fair_quotas, overall_table, pairs_table
from rexdet.report.tables.writers import comma_separated, sorted_rows
from rexdet.runs import DataSplit

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


def test_more_seeds_than_are_looked_at_is_no_number(transfer) -> None:
    apart = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (3.0, 4.1)}
    records = [
        transfer(0.5 + 0.001 * value, seed, network=name)
        for name, values in apart.items()
        for seed, value in enumerate(values)
    ]
    table = pairs_of(*records)
    place = [column.key for column in table.columns].index("needed")
    needed = {row.key.rpartition("fine_tune ")[2].replace("@aaaaaaaaaaaa", ""): row.cells[place] for row in table.rows}
    assert (needed["a b"].text, needed["a b"].number) == ("over 10,000", None)
    (line,) = [
        line
        for line in csv.DictReader(io.StringIO(comma_separated(table)))
        if "a@" in line["one"] and "b@" in line["minus_the_other"]
    ]
    assert line["pairs_needed"] == ""
    for descending in (True, False):
        assert sorted_rows(table, "needed", descending=descending).rows[-1].cells[place].text == "over 10,000"


def test_runs_that_tell_no_seed_are_paired_with_none(detection) -> None:
    records = [
        detection(ap, None, network=network, name=f"{network}{ap}")
        for network, values in {"resnet50": (0.40, 0.41), "resnet18": (0.30, 0.311)}.items()
        for ap in values
    ]
    assert pairs_of(*records).rows == ()
    # A seed is paired where both have it; the run without one counts in the mean alone.
    table = pairs_of(*records, detection(0.5, 7), detection(0.4, 7, network="resnet18"))
    row = cells(table)
    assert row["pairs"].number == 1
    assert row["difference"].number == pytest.approx(-10)


def test_equal_differences_show_nothing_and_that_is_said(transfer) -> None:
    records = [transfer(0.9, seed, network="a") for seed in range(3)]
    records += [transfer(0.899, seed, network="b") for seed in range(3)]
    table = pairs_of(*records)
    row = cells(table)
    assert row["difference"].text == "0.10"
    assert row["pairs"].number == 3
    assert not {"p", "shown", "smallest", "needed"} & set(row)
    assert any("no spread to judge them by" in note for note in table.notes)


def test_no_setting_goes_missing_where_pairs_are_many(transfer, monkeypatch) -> None:
    monkeypatch.setattr("rexdet.report.tables.row_pairs.MOST_PAIRS", 12)
    many = [transfer(0.5 + place / 100, network=f"n{place:02}", dataset="cars") for place in range(10)]
    few = [transfer(0.5 + place / 100, network=f"n{place:02}", dataset="dtd") for place in range(3)]
    table = pairs_of(*many, *few)
    by_setting: dict[str, list[tuple[str, str]]] = {}
    for row in table.rows:
        setting, one, other = (cell.text for cell in row.cells[:3])
        by_setting.setdefault(setting, []).append((one.partition("@")[0], other.partition("@")[0]))
    assert len(by_setting["dtd fine_tune"]) == 3
    # What the small setting does not need goes to the other; its best rows come first: n09 down to n06 with each other.
    assert len(by_setting["cars fine_tune"]) == 9
    assert {("n08", "n09"), ("n06", "n09"), ("n06", "n07")} <= set(by_setting["cars fine_tune"])
    assert "36 further pairs are left out, in 1 of 2 settings" in table.notes[-1]


def test_more_settings_than_pairs_have_one_each() -> None:
    quotas = fair_quotas({"a": 5, "b": 1, "c": 0, "d": 9}, 2)
    assert quotas == {"a": 1, "b": 1, "c": 0, "d": 1}
    assert fair_quotas({"a": 3, "b": 9}, 10) == {"a": 3, "b": 7}


def test_two_rows_are_paired_over_the_data_sets_that_both_have(networks) -> None:
    table = overall_table(networks)
    assert len(table.rows) == 6
    places = {column.key: place for place, column in enumerate(table.columns)}
    row = next(row for row in table.rows if "resnet101" in row.key and "resnet50" in row.key)
    told = {key: row.cells[place] for key, place in places.items()}
    # 90 - 80 and 70 - 75 points: one higher, one lower; 2.5 ± t(0.975, 1) * 10.607 / sqrt(2).
    assert told["difference"].text == "2.50 ± 95.30"
    assert (told["pairs"].number, told["higher"].number, told["lower"].number) == (2, 1, 1)
    assert told["shown"].text == "no"
    assert told["setting"].text == "data sets, fine_tune"


def overall_of(*records):
    return overall_table(
        networks_table(group([Found(record, f"{place}") for place, record in enumerate(records)]), KNOWN)
    )


def test_a_single_data_set_in_common_tells_nothing_over_data_sets(transfer) -> None:
    assert overall_of(transfer(0.5, network="a"), transfer(0.6, network="b")).rows == ()


def test_several_protocols_of_one_data_set_are_one_data_set(transfer) -> None:
    records = [
        transfer(score + place / 100, network=network, protocol=protocol)
        for network, score in (("a", 0.9), ("b", 0.8))
        for place, protocol in enumerate(("fine_tune", "linear_probe", "knn"))
    ]
    assert overall_of(*records).rows == ()
    # A second data set under one of the protocols makes a family of two; the others stay out of it.
    more = [transfer(0.7, network=network, protocol="knn", dataset="cars") for network in "ab"]
    row = cells(overall_of(*records, *more))
    assert row["setting"].text == "data sets, knn"
    assert row["pairs"].number == 2


def test_other_images_under_one_name_are_no_second_data_set(transfer) -> None:
    records = []
    for network in "ab":
        records.append(transfer(0.5, network=network))
        other = transfer(0.6, network=network, seed=1)
        other.data.val = DataSplit(path="dtd", images=50, fingerprint="e" * 64)
        records.append(other)
    assert overall_of(*records).rows == ()


def test_detectors_are_paired_over_data_sets_with_one_recipe(detection) -> None:
    records = []
    for place, name in enumerate(("one", "two")):
        for network in ("resnet18", "resnet50"):
            record = detection(0.3 + place / 10 + 0.01 * len(records), network=network)
            record.data.val = DataSplit(path=f"{name}/annotations/val.json", images=9, fingerprint=f"{place}" * 64)
            records.append(record)
    row = cells(overall_of(*records))
    assert row["pairs"].number == 2
    assert row["setting"].text.startswith("data sets, faster_rcnn ours-")
