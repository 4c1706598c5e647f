"""Parameters and MACs in the tables: one image size and one kind of classifier a column, else a dash that says why."""

from __future__ import annotations

import pytest

from rexdet.report.records.facts import RowKey
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.costs import Rule, count_costs
from rexdet.report.tables.detection import detection_table
from rexdet.report.tables.networks import Known, networks_of_rows, networks_table
from rexdet.runs import Network

SMALL = {"macs": 0.12e9, "parameters": 3.4e6}


def tables(*records, counted=True):
    groups = group([Found(record, f"{place}") for place, record in enumerate(records)])
    known = Known(costs=count_costs(networks_of_rows(groups)) if counted else {})
    return networks_table(groups, known), answers_table(groups, known), detection_table(groups, known)


def column(table, key):
    """Title of a column, and its cells by network; nothing where the table has no such column."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    if key not in places:
        return "", {}
    cells = {row.cells[0].text: row.cells[places[key]] for row in table.rows if row.origin == "ours"}
    return table.columns[places[key]].title, cells


def texts(table, key):
    title, cells = column(table, key)
    return title, {name: cell.text for name, cell in cells.items()}


@pytest.fixture
def changed(transfer):
    """A run of a network with overrides, which has counted its network itself: changed({"use_se": False}, size=128)."""

    def make(overrides, size=None, classes=None, name="rexnet_1.0", **changes):
        record = transfer(0.89, network=name, name=f"{name} {sorted(overrides)} {size}", **changes)
        record.network.overrides = overrides
        record.metrics = {**record.metrics, "network": SMALL}
        if size:
            record.config += f"protocol:\n  image_size: {size}\n"
        record.data.train.classes = [str(place) for place in range(classes)] if classes else None
        return record

    return make


def test_a_count_of_another_image_is_a_dash_and_wins_nothing(transfer, changed) -> None:
    others = [transfer(0.9, network="rexnet_1.0"), transfer(0.89, network="rexnet_0.9")]
    networks, answers, _ = tables(*others, changed({"use_se": False}, size=128, classes=47))
    title, macs = column(networks, "macs")
    assert title == "MACs (G), 224 px"
    assert {name: cell.text for name, cell in macs.items()} == {
        "rexnet_0.9": "0.348",
        "rexnet_1.0": "0.398",
        "rexnet_1.0 (use_se=false)": "",
    }
    told = macs["rexnet_1.0 (use_se=false)"].source
    assert "0.120 G MACs, 3.40 M parameters, at 128 px, with a classifier of 47 classes, counted by 1 run" in told
    assert column(networks, "parameters")[1]["rexnet_1.0 (use_se=false)"].text == ""
    assert any("No MACs stand here for 1 row:" in note for note in networks.notes)
    # Three rows may be the best, and of one nobody knows the cost: none of them is the cheapest.
    assert "cheapest" not in [one.key for one in answers.columns]
    _, two, _ = tables(*others)
    assert texts(two, "cheapest")[1] == {"dtd fine_tune": "rexnet_0.9@aaaaaaaaaaaa"}


def test_a_record_that_tells_no_size_is_not_believed(transfer, changed) -> None:
    networks, _, _ = tables(transfer(network="rexnet_1.0"), changed({"use_se": False}))
    cell = column(networks, "macs")[1]["rexnet_1.0 (use_se=false)"]
    assert cell.text == ""
    assert "of an image or a classifier that is not told" in cell.source


def test_a_network_with_overrides_is_counted_by_the_rule_of_the_others(transfer, changed, detection) -> None:
    thin = changed({"squeeze_excitation": False}, size=128, classes=47)
    networks, answers, _ = tables(transfer(0.9, network="rexnet_1.0"), thin)
    assert texts(networks, "macs")[1] == {
        "rexnet_1.0": "0.398",
        # 1 million of squeeze-excitation, at 224 px, is all that is missing.
        "rexnet_1.0 (squeeze_excitation=false)": "0.397",
    }
    cheapest = "rexnet_1.0 (squeeze_excitation=false)@aaaaaaaaaaaa"
    assert texts(answers, "cheapest")[1] == {"dtd fine_tune": cheapest}
    assert column(answers, "cheapest_macs")[0] == "MACs of the cheapest (G), 224 px"
    record = detection(network="rexnet_1.0")
    record.network.overrides = {"squeeze_excitation": False}
    _, _, table = tables(record)
    assert texts(table, "macs") == ("MACs (G), 224 px", {"rexnet_1.0 (squeeze_excitation=false)": "0.397"})


def test_a_count_by_a_run_stands_beside_ours_where_size_and_classifier_are_the_same(transfer, changed) -> None:
    alike = changed({"use_se": False}, size=224, classes=1000)
    _, macs = texts(tables(transfer(network="rexnet_1.0"), alike)[0], "macs")
    assert macs == {"rexnet_1.0": "0.398", "rexnet_1.0 (use_se=false)": "0.120"}
    # The classifier of a data set is not the network's own.
    networks, _, _ = tables(transfer(network="rexnet_1.0"), changed({"use_se": False}, size=224, classes=47))
    assert texts(networks, "macs")[1]["rexnet_1.0 (use_se=false)"] == ""
    assert texts(networks, "parameters")[1]["rexnet_1.0 (use_se=false)"] == ""


def test_counts_of_runs_alone_have_their_size_and_classifier_in_the_title(changed) -> None:
    records = [changed({}, size=128, classes=17, name=name) for name in ("a", "b")]
    networks, _, _ = tables(*records, counted=False)
    assert texts(networks, "macs") == ("MACs (G), 128 px, classifier of 17 classes", {"a": "0.120", "b": "0.120"})
    assert column(networks, "parameters")[0] == "parameters (M), classifier of 17 classes"
    assert any("one image of 128 x 128 pixels" in note for note in networks.notes)
    networks, _, _ = tables(*records, changed({}, size=224, classes=17, name="c"), counted=False)
    title, macs = texts(networks, "macs")
    assert title == "MACs (G), 128 px, classifier of 17 classes"
    assert macs == {"a": "0.120", "b": "0.120", "c": ""}
    # To the parameters the image is nothing.
    assert texts(networks, "parameters")[1] == {"a": "3.40", "b": "3.40", "c": "3.40"}


def test_networks_made_for_small_images_stand_in_no_column_of_large_ones(transfer) -> None:
    large = [transfer(network=name) for name in ("resnet50", "resnet18", "resnet34")]
    small = [transfer(0.9, network=name, dataset="cifar10") for name in ("resnet20_cifar", "resnet56_cifar")]
    networks, answers, _ = tables(*large, *small)
    _, macs = column(networks, "macs")
    assert macs["resnet20_cifar"].text == ""
    assert "at 32 px" in macs["resnet20_cifar"].source
    assert column(networks, "parameters")[1]["resnet20_cifar"].text == "0.27"
    # All of this setting are counted for the same small image: one of them is the cheapest.
    _, cheapest = texts(answers, "cheapest")
    assert cheapest["cifar10 fine_tune"] == "resnet20_cifar@aaaaaaaaaaaa"
    assert texts(answers, "cheapest_macs")[1]["cifar10 fine_tune"] == ""


def test_a_row_of_a_study_has_the_largest_of_its_networks(transfer) -> None:
    records = []
    for seed, width in enumerate((8, 24)):
        record = transfer(0.5, seed, network="resnet8b_cifar", sha=None)
        record.network.overrides = {"channels": {"stages.0.0.unit1": width}}
        record.config = f"study: widths\nsetting: found\n{record.config}"
        records.append(record)
    found = count_costs(networks_of_rows(group([Found(record, record.name) for record in records])))
    row = "resnet8b_cifar [found]"
    alone = count_costs({RowKey(row): [records[1].network]})
    assert (found[row].macs, found[row].rule) == (alone[row].macs, Rule(32))
    assert found[row].macs > count_costs({RowKey(row): [records[0].network]})[row].macs
    assert found[row].how.endswith("the largest of 2 networks, counted for this table")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("rexnet_1.0", {"depth": 1e9}),
        ("rexnet_1.0", {"depth": "x"}),
        ("rexnet_1.0", {"in_channels": 4}),
        ("rexnet_1.0", {"stem_channels": -3}),
        ("rexnet_1.0", {"channel_growth": 1e300}),
        ("rexnet_1.0", {"channels": {"stem": "x"}}),
        # What a record says is no argument of another package's constructor.
        ("timm:resnet18", {"pretrained_cfg_overlay": {"file": "/etc/hostname"}}),
        ("nothing", {"width": 2}),
    ],
)
def test_overrides_that_make_no_network_cost_nobody_the_table(name, overrides) -> None:
    assert count_costs({RowKey(f"{name} (changed)"): [Network(name=name, overrides=overrides)]}) == {}
