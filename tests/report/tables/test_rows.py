"""Which runs meet in a row, which stay out, and what stands beside them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.beside import detection_beside
from rexdet.report.tables.detection import comparison_table, detection_table, transfer_table
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.runs import runs_table
from rexdet.report.tables.writers import comma_separated, markdown_table, sorted_rows
from rexdet.runs import COCO_KEYS, Data, DataSplit, Event, Recipe, WeightsFile
from rexdet.runs.parts import utc_now
from rexdet.transfer.optimise import recipe
from rexdet.transfer.protocols import read_protocol
from rexdet.transfer.sweep import config_text, run_config

KNOWN = Known(metrics={"dtd": "top1", "flowers102": "mean_per_class"})


def tables(*records, **options):
    return group([Found(record, f"{place}") for place, record in enumerate(records)], **options)


def cells(table, key=""):
    """column -> cell of the first row whose key begins so."""
    row = next(row for row in table.rows if row.key.startswith(key) and row.origin == "ours")
    return dict(zip((column.key for column in table.columns), row.cells, strict=True))


def test_one_checkpoint_is_one_row_and_another_file_never_joins_it(detection, transfer) -> None:
    groups = tables(detection(), transfer(), transfer(sha="b" * 64, top1=0.5), detection(sha=None, ap=0.3))
    table = networks_table(groups, KNOWN)
    assert [row.key for row in table.rows] == [
        "resnet50@aaaaaaaaaaaa",
        "resnet50@bbbbbbbbbbbb",
        "resnet50@random",
    ]
    both, other, control = (dict(zip((c.key for c in table.columns), row.cells, strict=True)) for row in table.rows)
    assert both["ap0"].text == "40.00"
    assert both["transfer0"].text == "90.00"
    assert other["ap0"].text == ""
    assert other["ap0"].status == "missing"
    assert control["ap0"].number == pytest.approx(30)


def test_full_frozen_and_random_are_columns_and_the_gain_is_paired(detection) -> None:
    full = [detection(0.40, seed=0), detection(0.44, seed=1)]
    control = [detection(0.30, seed=0, sha=None), detection(0.32, seed=1, sha=None)]
    groups = tables(*full, *control, detection(0.2, seed=0, freeze_at=5))
    row = cells(detection_table(groups, KNOWN), "resnet50@a")
    assert row["AP"].number == pytest.approx(42)
    assert row["frozen"].number == pytest.approx(20)
    assert row["random"].number == pytest.approx(31)
    # 10 and 12 points: 11 ± t(0.975, 1) * sqrt(2) / sqrt(2).
    assert row["gain"].text == "11.00 ± 12.71"


def test_a_whole_detector_is_told_where_all_runs_of_the_row_agree(detection) -> None:
    cost = {"parameters": 41_750_000, "macs": 207_000_000_000, "height": 800, "width": 1280}
    runs = [detection(seed=seed, detector_complexity=cost) for seed in (0, 1)]
    row = cells(detection_table(tables(*runs), KNOWN))
    assert (row["detector_parameters"].text, row["detector_macs"].text) == ("41.75", "207.0")
    uncounted = detection(seed=1, detector_complexity={**cost, "macs": None})
    table = detection_table(tables(runs[0], uncounted), KNOWN)
    assert "detector_parameters" not in [column.key for column in table.columns]
    both_uncounted = detection(seed=0, detector_complexity={**cost, "macs": None})
    row = cells(detection_table(tables(both_uncounted, uncounted), KNOWN))
    assert row["detector_parameters"].text == "41.75"
    assert "detector_macs" not in row


def test_an_empty_number_is_no_number_and_in_no_mean(detection) -> None:
    table = detection_table(tables(detection()), KNOWN)
    assert "APs" not in [column.key for column in table.columns]
    holed = dict.fromkeys(COCO_KEYS, 0.5)
    table = detection_table(tables(detection(seed=0), detection(seed=1, metrics={"bbox": holed})), KNOWN)
    # One of two runs has small objects: a mean of the other alone would stand for both.
    assert "APs" not in [column.key for column in table.columns]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "running"}, "still runs"),
        ({"status": "failed"}, "failed"),
        ({"partial": ["a.jpg cannot be read"]}, "only a part (a.jpg cannot be read)"),
        ({"evaluated_weights": WeightsFile(holds="raw", selection="best")}, "selection is by validation"),
        ({"network": None}, "names no network"),
        (
            {"events": [Event(time=utc_now(), code="trained_worse", message="ended at 0.0%, the search's at 90.0%")]},
            "learnt far less than its search's run",
        ),
    ],
)
def test_what_is_no_result_stays_out_with_its_reason(detection, changes, reason) -> None:
    record = detection().model_copy(update=changes)
    groups = tables(record)
    assert not groups.detection
    assert reason in groups.left_out[0][1]
    table = runs_table([Found(record, "0")], groups.left_out)
    assert reason in cells(table)["out"].text


def test_a_part_of_the_data_is_shown_only_when_asked_for(detection) -> None:
    record = detection()
    record.data.train = DataSplit(**{**record.data.train.model_dump(), "limited": True})
    assert "on purpose" in tables(record).left_out[0][1]
    assert len(tables(record, with_partial=True).detection) == 1


def test_a_number_of_validation_never_stands_in_a_test_column(transfer) -> None:
    groups = tables(transfer(group="val"))
    assert not groups.transfer
    assert "validation" in groups.left_out[0][1]


def test_a_seed_that_ran_twice_counts_once(transfer) -> None:
    groups = tables(transfer(0.9, seed=0), transfer(0.8, seed=1), transfer(0.8, seed=1, name="again"))
    (found,) = groups.transfer.values()
    assert len(found.runs) == 3
    assert found.by_seed("top1") == {0: 0.9, 1: pytest.approx(0.8)}
    row = cells(transfer_table(groups, KNOWN))
    assert row["value"].summary.count == 2
    assert row["seeds"].number == 2
    assert row["seeds"].source.startswith("3 runs, seeds 0, 1: ")


def test_seeds_are_counted_in_every_table_and_a_run_without_one_is_one(detection) -> None:
    groups = tables(*(detection(0.4, seed, name=f"{place}") for place, seed in enumerate((0, 0, 1, None, None))))
    table = detection_table(groups, KNOWN)
    assert cells(table)["AP"].summary.count == cells(table)["seeds"].number == 4
    assert {column.key: column.title for column in table.columns}["seeds"] == "seeds"
    both = tables(
        *(detection(0.4, seed, name=f"{seed}") for seed in (0, 1)),
        detection(0.4, 0, name="again"),
        detection(0.3, 0, sha=None),
    )
    assert cells(answers_table(both, KNOWN))["seeds"].number == 2


def test_a_seed_is_shown_with_every_digit_in_every_format(transfer) -> None:
    records = [transfer(name=f"{seed}").model_copy(update={"seed": seed}) for seed in (2**53 + 1, 10_000, 9)]
    table = runs_table([Found(record, record.name) for record in records], [])
    assert [row.cells[3].text for row in table.rows] == ["9007199254740993", "10000", "9"]
    assert "9007199254740993" in markdown_table(table)
    lines = csv.DictReader(io.StringIO(comma_separated(table)))
    assert [line["seed"] for line in lines] == ["9007199254740993", "10000", "9"]
    assert [row["cells"]["seed"] for row in json.loads(json.dumps(table.as_json()))["rows"]] == [2**53 + 1, 10_000, 9]
    ascending = sorted_rows(table, "seed", descending=False)
    assert [row.cells[3].text for row in ascending.rows] == ["9", "10000", "9007199254740993"]


def test_one_run_has_no_interval(transfer) -> None:
    cell = cells(transfer_table(tables(transfer()), KNOWN))["value"]
    assert cell.text == "90.00"
    assert cell.summary.low is None


def test_the_data_sets_own_metric_is_its_accuracy(transfer) -> None:
    row = cells(transfer_table(tables(transfer(dataset="flowers102")), KNOWN))
    assert row["value"].number == pytest.approx(80)
    assert row["top1"].number == pytest.approx(90)


def test_other_images_or_recipes_are_other_settings(detection, transfer) -> None:
    longer = detection(seed=1, recipe=Recipe(effective_batch=16, iterations=270000))
    assert len(tables(detection(), longer).detection) == 2
    elsewhere = transfer(seed=1)
    elsewhere.data.val = DataSplit(path="dtd", images=100, fingerprint="e" * 64)
    assert len(tables(transfer(), elsewhere).transfer) == 2
    # Where a search chose other numbers, its runs are not averaged with those of another choice.
    chosen = transfer(seed=1, config=transfer(seed=1).config + "learning_rate: 0.2\n")
    assert len(tables(transfer(), chosen).transfer) == 2


def test_a_difference_stands_only_where_every_field_is_equal(detection) -> None:
    same = detection(0.385)
    table = comparison_table(tables(same), KNOWN)
    by_protocol = {}
    for row in table.rows:
        told = dict(zip((column.key for column in table.columns), row.cells, strict=True))
        by_protocol[told["protocol"].text] = told
    # detectron2's model zoo, Faster R-CNN R50-FPN 1x: 37.9.
    assert by_protocol["detectron2_1x"]["difference"].text == "+0.60"
    assert by_protocol["detectron2_1x"]["differs"].text == ""
    longer = by_protocol["detectron2_3x"]
    assert longer["difference"].text == ""
    assert "iterations: 90000 here, 270000 there" in longer["differs"].text
    # What differs stands first with both values, then once each what one side does not tell.
    told = by_protocol["rexnet_coco"]["differs"].text
    assert told.count("not told there: ") == 1
    assert told.count("not recorded here: ") <= 1
    differing, _, silent = told.partition("not told there: ")
    assert " here, " in differing
    assert "epochs" in silent
    assert " here, " not in silent
    (found,) = tables(same).detection.values()
    assert found.setting.protocol == "detectron2_1x"


def published_lines(*records):
    table = comparison_table(tables(*records), KNOWN)
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, (cell.text for cell in row.cells), strict=True)) for row in table.rows]


def test_a_published_number_stands_beside_a_row_that_is_named(detection, transfer) -> None:
    records = [detection(0.385), detection(0.30, sha=None), detection(0.37, norm="BN", freeze_at=0)]
    lines = [line for line in published_lines(*records) if line["protocol"] == "detectron2_1x"]
    named = {(line["checkpoint"], line["norm"]): line for line in lines}
    assert len(lines) == len(named) == 3
    assert {line["network"] for line in lines} == {"resnet50"}
    assert {line["setting"] for line in lines} == {"faster_rcnn coco-val2017 detectron2_1x"}
    whole = named["@d2_msra_in1k aaaaaaaaaaaa", "FrozenBN, first 2 frozen"]
    assert (whole["ours"], whole["difference"], whole["differs"]) == ("38.50", "+0.60", "")
    # From random weights, or with less frozen, it is another recipe, and that is said.
    control = named["random weights", "BN, nothing frozen"]
    assert (control["ours"], control["difference"]) == ("30.00", "")
    assert "initial weights: none here, MSRA's ResNets (Caffe)" in control["differs"]
    assert "freeze at: 0 here, 2 there" in control["differs"]
    learnt = named["@d2_msra_in1k aaaaaaaaaaaa", "BN, nothing frozen"]
    assert (learnt["ours"], learnt["difference"]) == ("37.00", "")
    assert "initial weights" not in learnt["differs"]
    assert "norm: BN here, FrozenBN there; freeze at: 0 here, 2 there" in learnt["differs"]


def test_a_classifier_from_random_weights_is_named_so_beside_a_published_one(transfer) -> None:
    records = [transfer(0.7), transfer(0.6, sha=None, protocol="from_scratch")]
    lines = published_lines(*records)
    pretrained = [line for line in lines if "supervised" in line["where"]]
    assert {(line["checkpoint"], line["ours"]) for line in pretrained} == {
        ("@d2_msra_in1k aaaaaaaaaaaa", "70.00"),
        ("random weights", "60.00"),
    }
    for line in pretrained:
        # Not one of them may be subtracted.
        assert "difference" not in line
        start = "none" if line["checkpoint"] == "random weights" else "resnet50@d2_msra_in1k"
        assert f"initial weights: {start} here, ResNet-50 pretrained on ImageNet there" in line["differs"]


def test_two_choices_of_one_row_stand_beside_a_published_number_by_their_names(transfer) -> None:
    records = []
    for seed, rate in enumerate((0.01, 0.1)):
        record = transfer(0.7 + rate, seed)
        records.append(record.model_copy(update={"config": f"{record.config}learning_rate: {rate}\n"}))
    settings = {line["setting"] for line in published_lines(*records)}
    assert settings == {"dtd fine_tune (learning_rate 0.01)", "dtd fine_tune (learning_rate 0.1)"}


def from_scratch_on_cifar(transfer, **changes):
    """A record of the shipped protocol `cifar`, with the words that a run writes."""
    network = "resnext29_8x64d_cifar"
    protocol = read_protocol("cifar").changed(**changes)
    told = run_config(protocol, {"network": network}, "d" * 64, seed=0, dataset="cifar10")
    framing = {"time": "2026-01-01T00:00:00Z", "code": "framing", "message": "test images: whole to 32 px, bilinear"}
    return transfer(
        0.96,
        network=network,
        sha=None,
        dataset="cifar10",
        config=config_text(told, "cifar"),
        recipe=recipe(protocol, protocol.total_steps(50_000)),
        data=Data(train=DataSplit(images=50_000), val=DataSplit(images=10_000)),
        events=[framing],
    )


def test_a_classifiers_difference_stands_where_its_recipe_is_the_printed_one(transfer) -> None:
    known = Known(metrics={"cifar10": "top1"})
    row = cells(comparison_table(tables(from_scratch_on_cifar(transfer)), known))
    # 3.65% error after 300 epochs, Table 7 of the ResNeXt paper.
    assert (row["printed"].text, row["difference"].text) == ("96.35", "-0.35")
    assert "differs" not in row  # A column without a value is left out.
    row = cells(comparison_table(tables(from_scratch_on_cifar(transfer, nesterov=False, epochs=200)), known))
    assert "difference" not in row
    told = row["differs"].text
    assert "optimizer: SGD momentum 0.9 weight decay 0.0005 here, SGD Nesterov momentum 0.9" in told
    assert "epochs: 200 here, 300 there" in told
    assert "schedule: x0.1 at epochs 100, 150 here" in told
    assert "augmentation" not in told


def test_the_same_recipe_from_other_weights_is_not_comparable(detection) -> None:
    (found,) = tables(detection(source="resnet50@a1_in1k")).detection.values()
    assert not any(beside.is_comparable for beside in detection_beside(found, "AP"))
    # It is the recipe of 1x all the same, and the column that runs from random weights stand beside.
    assert found.setting.protocol == "detectron2_1x"
    (found,) = tables(detection(config="INPUT:\n  MAX_SIZE_TEST: 640\n")).detection.values()
    assert found.setting.protocol.startswith("ours-")


def test_published_rows_stand_below_ours_with_their_source(detection) -> None:
    table = detection_table(tables(detection()), KNOWN)
    published = [row for row in table.rows if row.origin == "published"]
    assert published
    for row in published:
        told = dict(zip((column.key for column in table.columns), row.cells, strict=True))
        assert told["from"].text.startswith("published: ")
        assert told["AP"].status == "published"
        assert told["AP"].source
        assert told["protocol"].text


def test_numbers_of_other_images_have_nothing_published_beside_them(detection) -> None:
    record = detection()
    record.data.val = DataSplit(path="mine/annotations/instances_val2017.json", images=79, fingerprint="e" * 64)
    assert all(row.origin == "ours" for row in detection_table(tables(record), KNOWN).rows)


def test_changed_hyper_parameters_are_another_network(transfer) -> None:
    changed = transfer(seed=1)
    changed.network.overrides = {"depth": 0.5}
    keys = [row.key for row in networks_table(tables(transfer(), changed), KNOWN).rows]
    assert sorted(keys) == ["resnet50 (depth=0.5)@aaaaaaaaaaaa", "resnet50@aaaaaaaaaaaa"]
