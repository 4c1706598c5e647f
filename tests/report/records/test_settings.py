"""What is one setting and what is another: runs of different settings are never averaged, and their titles differ."""

from __future__ import annotations

import pytest

from rexdet.report.records.facts import published_name
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.beside import detection_beside, transfer_beside
from rexdet.report.tables.detection import comparison_table, detection_table, transfer_table
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.row_pairs import pairs_table
from rexdet.runs import DataSplit

KNOWN = Known(metrics={"dtd": "top1"})
# What stands below `MODEL:`, with which the configuration of the fixture ends.
FPN = "  FPN:\n    OUT_CHANNELS: {}\n"


def tables(*records, **options):
    return group([Found(record, f"{place}") for place, record in enumerate(records)], **options)


def told(table):
    """The rows of ours, each as column -> text."""
    keys = [column.key for column in table.columns]
    return [
        dict(zip(keys, (cell.text for cell in row.cells), strict=True)) for row in table.rows if row.origin == "ours"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("horizontal", "none"),
        ("MODEL:\n", "MODEL:\n" + FPN.format(64)),
        ("MODEL:\n", "SOLVER:\n  CLIP_GRADIENTS:\n    ENABLED: true\nMODEL:\n"),
    ],
)
def test_other_configurations_are_never_averaged(detection, old, new) -> None:
    config = detection().config.replace(old, new)
    groups = tables(detection(0.48), detection(0.20, 1, config=config))
    rows = told(detection_table(groups, KNOWN))
    assert [(row["AP"], row["seeds"]) for row in rows] == [("48.00", "1"), ("20.00", "1")]
    assert rows[0]["protocol"] == "detectron2_1x"
    assert rows[1]["protocol"].startswith("ours-")
    # A column of its own in the table of networks, too, with a title of its own.
    titles = [column.title for column in networks_table(groups, KNOWN).columns if column.key.startswith("ap")]
    assert len(set(titles)) == 2


def test_two_configurations_under_one_published_protocol_are_told_apart(detection) -> None:
    other = detection().config + "  PROPOSAL_GENERATOR:\n    MIN_SIZE: 8\n"
    rows = told(detection_table(tables(detection(0.4), detection(0.5, 1, config=other)), KNOWN))
    protocols = [row["protocol"] for row in rows]
    assert len(set(protocols)) == 2
    assert all(protocol.startswith("detectron2_1x (config ") for protocol in protocols)
    # Where there is one, nothing has to be told apart.
    (row,) = told(detection_table(tables(detection(0.4)), KNOWN))
    assert row["protocol"] == "detectron2_1x"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SEED: 3\nOUTPUT_DIR: somewhere/else\n", "SEED: 4\nOUTPUT_DIR: elsewhere\n"),
        ("  DEVICE: cuda\n  WEIGHTS: a.pth\n  PIXEL_MEAN:\n  - 1.0\n", "  DEVICE: cpu\n  PIXEL_MEAN:\n  - 2.0\n"),
        ("DATALOADER:\n  NUM_WORKERS: 4\nVIS_PERIOD: 20\n", "DATALOADER:\n  NUM_WORKERS: 0\n"),
        (
            "  BACKBONE:\n    FREEZE_AT: 0\n  REXDET:\n    NAME: a\n    NORM: BN\n",
            "  BACKBONE:\n    FREEZE_AT: 2\n  REXDET:\n    NAME: b\n",
        ),
        ("SOLVER:\n  IMS_PER_BATCH: 8\n  CHECKPOINT_PERIOD: 7\n", "SOLVER:\n  IMS_PER_BATCH: 16\n"),
        ("TEST:\n  EVAL_PERIOD: 50\n", "TEST:\n  EVAL_PERIOD: 0\n"),
        ("  RETINANET:\n    NUM_CLASSES: 80\n    NUM_CONVS: 4\n", "  RETINANET:\n    NUM_CONVS: 4.0\n"),
    ],
)
def test_what_shapes_no_number_parts_nobody(detection, one, other) -> None:
    config = detection().config
    assert len(tables(detection(config=config + one), detection(seed=1, config=config + other)).detection) == 1


def test_how_a_batch_is_divided_parts_nobody(detection) -> None:
    recipe = detection().recipe
    divided = [
        recipe.model_copy(update={"per_process_batch": 16 // processes, "world_size": processes, "accumulation": 1})
        for processes in (1, 2)
    ]
    groups = tables(*(detection(seed=seed, recipe=one) for seed, one in enumerate(divided)))
    (row,) = told(detection_table(groups, KNOWN))
    assert row["seeds"] == "2"
    smaller = recipe.model_copy(update={"effective_batch": 8})
    assert len(tables(detection(), detection(seed=1, recipe=smaller)).detection) == 2


def test_norm_and_freezing_are_rows_that_share_what_stands_beside(detection) -> None:
    groups = tables(
        detection(0.40, 0),
        detection(0.42, 1),
        detection(0.30, 0, norm="BN", freeze_at=0),
        detection(0.20, 0, freeze_at=5),
        detection(0.10, 0, sha=None),
        detection(0.12, 1, sha=None),
    )
    first, second, control = told(detection_table(groups, KNOWN))
    assert (first["norm"], first["AP"], first["seeds"]) == ("BN, nothing frozen", "30.00", "1")
    assert (second["norm"], second["AP"][:5], second["seeds"]) == ("FrozenBN, first 2 frozen", "41.00", "2")
    assert control["checkpoint"] == "random weights"
    for row in (first, second):
        assert row["frozen"] == "20.00"
        assert row["random"].startswith("11.00")
    assert first["gain"] == "20.00"
    # The table of networks has the one of most runs, and says that there are more.
    table = networks_table(groups, KNOWN)
    assert told(table)[0]["ap0"].startswith("41.00")
    assert any("several norms or freezings" in note for note in table.notes)


def test_a_rows_name_tells_its_variant_where_it_has_more_than_one(detection) -> None:
    records = [detection(0.4 + seed / 100, seed) for seed in (0, 1)]
    records += [detection(0.3, seed, norm="BN", freeze_at=0) for seed in (0, 1)]
    records += [detection(0.35, seed, network="resnet18") for seed in (0, 1)]
    groups = tables(*records)
    (answer,) = told(answers_table(groups, KNOWN))
    assert answer["best"] == "resnet50@aaaaaaaaaaaa (FrozenBN, first 2 frozen)"
    assert answer["compared"] == "3"
    names = {name for row in told(pairs_table(groups, KNOWN)) for name in (row["one"], row["other"])}
    assert names == {
        "resnet50@aaaaaaaaaaaa (FrozenBN, first 2 frozen)",
        "resnet50@aaaaaaaaaaaa (BN, nothing frozen)",
        "resnet18@aaaaaaaaaaaa",
    }


def test_frozen_runs_alone_are_rows_without_an_ap_of_their_own(detection) -> None:
    groups = tables(detection(0.2, freeze_at=5), detection(0.3, norm="BN", freeze_at=5), detection(0.1, sha=None))
    *frozen, control = told(detection_table(groups, KNOWN))
    assert [(row["norm"], row["AP"], row["frozen"], row["random"]) for row in frozen] == [
        ("BN, all frozen", "", "30.00", "10.00"),
        ("FrozenBN, all frozen", "", "20.00", "10.00"),
    ]
    assert control["AP"] == "10.00"


def test_the_table_of_networks_never_shows_a_backbone_that_stood_still(detection) -> None:
    groups = tables(detection(0.48), detection(0.10, 0, freeze_at=5), detection(0.12, 1, freeze_at=5))
    (row,) = told(networks_table(groups, KNOWN))
    assert row["ap0"] == "48.00"
    (row,) = told(networks_table(tables(detection(0.1, freeze_at=5)), KNOWN))
    assert "ap0" not in row


def test_other_images_are_other_columns_whose_titles_differ(detection, transfer) -> None:
    records = []
    for network, digit in (("resnet50", "1"), ("resnet18", "2")):
        record = detection(0.5, network=network)
        record.data.val = DataSplit(path="mine/annotations/val.json", images=9, fingerprint=digit * 64)
        records.append(record)
    groups = tables(*records)
    table = networks_table(groups, KNOWN)
    titles = {column.key: column.title for column in table.columns if column.key.startswith("ap")}
    assert "mine/val (images 111111)" in titles["ap0"]
    assert "mine/val (images 222222)" in titles["ap1"]
    assert {(row["network"], row["ap0"], row["ap1"]) for row in told(table)} == {
        ("resnet50", "50.00", ""),
        ("resnet18", "", "50.00"),
    }
    assert not told(answers_table(groups, KNOWN))
    elsewhere = transfer(network="resnet18")
    elsewhere.data.train = DataSplit(path="dtd", images=100, fingerprint="e" * 64)
    rows = told(transfer_table(tables(transfer(), elsewhere), KNOWN))
    assert {row["dataset"] for row in rows} == {"dtd (trained on dddddd)", "dtd (trained on eeeeee)"}


def part_of(record, count=500):
    """The record as one of a run with --limit-train."""
    split = DataSplit(**{**record.data.train.model_dump(), "limited": True, "images": count})
    return record.model_copy(update={"data": record.data.model_copy(update={"train": split})})


def test_a_part_of_the_data_is_a_setting_of_its_own(detection, transfer) -> None:
    groups = tables(detection(0.48), part_of(detection(0.10, 1)), with_partial=True)
    rows = told(detection_table(groups, KNOWN))
    assert {(row["dataset"], row["AP"]) for row in rows} == {
        ("coco-val2017", "48.00"),
        ("coco-val2017 (500 training images)", "10.00"),
    }
    assert not told(pairs_table(groups, KNOWN))
    groups = tables(transfer(), part_of(transfer(0.5, 1)), part_of(transfer(0.4, 2), 50), with_partial=True)
    assert {row["dataset"] for row in told(transfer_table(groups, KNOWN))} == {
        "dtd",
        "dtd (500 training images)",
        "dtd (50 training images)",
    }


def test_evaluations_that_miss_different_images_are_never_averaged(detection) -> None:
    missing = [detection(0.3, seed, partial=[f"{name}.jpg cannot be read"]) for seed, name in enumerate("aab")]
    rows = told(detection_table(tables(detection(0.4, 3), *missing, with_partial=True), KNOWN))
    assert sorted((row["seeds"], "part of the evaluation" in row["dataset"]) for row in rows) == [
        ("1", False),
        ("1", True),
        ("2", True),
    ]
    assert len({row["dataset"] for row in rows}) == 3


def test_nothing_published_stands_beside_a_part(detection, transfer) -> None:
    (whole,) = tables(transfer(dataset="flowers102")).transfer.values()
    assert transfer_beside(whole, "mean_per_class")
    groups = tables(part_of(detection()), part_of(transfer(dataset="flowers102")), with_partial=True)
    (part,) = groups.transfer.values()
    assert not transfer_beside(part, "mean_per_class")
    (part,) = groups.detection.values()
    assert not detection_beside(part, "AP")
    assert not comparison_table(groups, KNOWN).rows


def test_a_difference_needs_the_protocol_of_every_run(detection) -> None:
    (same,) = tables(detection(0, 0), detection(0, 1)).detection.values()
    assert any(beside.is_comparable for beside in detection_beside(same, "AP"))
    # One of the runs began from a file that is not known to be MSRA's, although it has the same content.
    (mixed,) = tables(detection(0, 0), detection(0, 1, source="a/file.pth")).detection.values()
    assert len(mixed.runs) == 2
    besides = detection_beside(mixed, "AP")
    assert not any(beside.is_comparable for beside in besides)
    assert any("a/file.pth here" in beside.told() for beside in besides)


@pytest.mark.parametrize(
    ("channels", "recipe", "told_there"),
    [
        (64, {}, "FPN.OUT_CHANNELS: 64 here, 256 there"),
        (256, {"ema": 0.999}, "ema: 0.999 here, none there"),
        (256, {"amp": "bf16"}, "precision: bf16 here, float32 there"),
    ],
)
def test_another_detector_is_not_the_published_one(detection, channels, recipe, told_there) -> None:
    stock = detection()
    config = stock.config + FPN.format(channels)
    changed = detection(config=config, recipe=stock.recipe.model_copy(update=recipe))
    (found,) = tables(changed).detection.values()
    assert found.setting.protocol.startswith("ours-")
    besides = detection_beside(found, "AP")
    assert besides
    assert all(told_there in beside.told() for beside in besides)


def test_what_is_as_published_keeps_the_published_protocol(detection) -> None:
    (found,) = tables(detection(config=detection().config + FPN.format(256))).detection.values()
    assert found.setting.protocol == "detectron2_1x"


def test_the_tag_of_a_checkpoint_is_found_in_any_run_of_its_row(detection, transfer) -> None:
    first = detection(0.4, source="x/file.pth")
    later = transfer(0.9, 1)
    later.network.source = "resnet50@tv_in1k"
    groups = tables(first, later)
    (row,) = told(networks_table(groups, KNOWN))
    assert row["checkpoint"].startswith("@tv_in1k ")
    assert row["imagenet"] == "76.13"
    (row,) = told(detection_table(groups, KNOWN))
    assert row["checkpoint"].startswith("@tv_in1k ")


def fold_of_a_folder(transfer, number, top1, count=3, key="e", network="resnet50", seed=0):
    """A run of transfer/run.py --kfold, on one of its folds."""
    record = transfer(top1, seed, dataset="folder", network=network)
    config = f"{record.config}fold: {number}\nfolds: {count}\nall_images: {key * 64}\ntraining_images: {number}\n"
    splits = {
        name: DataSplit(path="mine", images=20, fingerprint=f"{number}{place}" * 32)
        for place, name in enumerate(("train", "val"))
    }
    return record.model_copy(update={"config": config, "data": record.data.model_copy(update=splits)})


def test_folds_of_one_folder_are_averaged_and_paired_by_fold(transfer) -> None:
    scores = {"resnet50": (0.9, 0.8, 0.7), "resnet18": (0.85, 0.74, 0.66)}
    records = [
        fold_of_a_folder(transfer, number, value, network=network)
        for network, values in scores.items()
        for number, value in enumerate(values)
    ]
    groups = tables(*records)
    rows = told(transfer_table(groups, KNOWN))
    # Student's t for three: 4.303 * 0.1 / sqrt(3).
    assert {(row["network"], row["dataset"], row["value"]) for row in rows} == {
        ("resnet50", "mine (3 folds)", "80.00 ± 24.84"),
        ("resnet18", "mine (3 folds)", "75.00 ± 23.70"),
    }
    assert groups.transfer[next(iter(groups.transfer))].source.startswith("3 runs, folds 0, 1, 2:")
    (pair,) = told(pairs_table(groups, KNOWN))
    # Over the folds, in which the two differ by 5, 6 and 4: 4.303 * 1 / sqrt(3).
    assert (pair["difference"].lstrip("-"), pair["pairs"]) == ("5.00 ± 2.48", "3")


def test_another_seed_of_a_fold_is_no_other_fold(transfer) -> None:
    records = [fold_of_a_folder(transfer, fold, 0.8, seed=seed) for fold in range(3) for seed in range(2)]
    records[0] = fold_of_a_folder(transfer, 0, 0.9)
    (one,) = tables(*records).transfer.values()
    assert one.by_seed("top1") == pytest.approx({0: 0.85, 1: 0.8, 2: 0.8})
    assert one.seeds == [0, 1, 2]


def test_folds_of_other_folders_and_other_counts_are_apart(transfer) -> None:
    records = [fold_of_a_folder(transfer, 0, 0.8, **changes) for changes in ({}, {"count": 5}, {"key": "f"})]
    groups = tables(*records, transfer(0.7))
    titles = sorted(setting.data for _, setting in groups.transfer)
    assert titles == ["dtd", "mine (3 folds, images eeeeee)", "mine (3 folds, images ffffff)", "mine (5 folds)"]


def test_rows_of_one_title_say_in_what_they_differ(transfer) -> None:
    def trained(seed, *lines):
        record = transfer(0.9, seed)
        protocol = "".join(f"  {line}\n" for line in lines)
        return record.model_copy(update={"config": f"{record.config}protocol:\n{protocol}"})

    rates = [trained(0, "learning_rate: 0.1"), trained(1, "learning_rate: 0.1"), trained(2, "learning_rate: 0.01")]
    marks = {setting.choice_mark: one for (_, setting), one in tables(*rates).transfer.items()}
    assert {mark: len(one.runs) for mark, one in marks.items()} == {"learning_rate 0.1": 2, "learning_rate 0.01": 1}
    many = [trained(0), trained(1, *(f"field_{number}: {number}" for number in range(9)))]
    marks = [setting.choice_mark for _, setting in tables(*many).transfer]
    assert len(set(marks)) == 2
    assert all(mark.startswith("config ") for mark in marks)
    (setting,) = (setting for _, setting in tables(*rates[:2]).transfer)
    assert setting.choice_mark == ""


def test_an_annotation_file_called_as_cocos_is_cocos_only_if_it_holds_as_much(detection) -> None:
    def on(**changes):
        record = detection(0.5)
        val = record.data.val.model_copy(update=changes)
        return record.model_copy(update={"data": record.data.model_copy(update={"val": val})})

    for changes in ({}, {"annotations": 36_781}):
        (key,) = tables(on(**changes)).detection
        assert key[1].dataset == "coco-val2017"
    for changes in ({"annotations": 7}, {"annotations": 10_777}, {"images": 4_999}):
        groups = tables(on(**changes))
        ((_, setting, _),) = groups.detection
        assert setting.dataset == "coco/val2017"
        assert not [
            one for one in groups.detection.values() for one in detection_beside(one, "AP") if one.is_comparable
        ]


def test_weights_of_which_no_hash_was_recorded_are_no_random_weights(detection) -> None:
    record = detection(0.4, network="resnet50")
    network = record.network.model_copy(update={"sha256": None, "source": "https://there/R-50.pkl"})
    unhashed = record.model_copy(update={"network": network})
    groups = tables(unhashed, detection(0.2, network="resnet50", sha=None))
    assert {(row.checkpoint, start) for row, _, start in groups.detection} == {
        ("R-50.pkl", "full"),
        ("random", "random"),
    }
    # Random weights are its control, and it is none of theirs.
    assert {(row["checkpoint"], row["AP"], row["random"]) for row in told(detection_table(groups, KNOWN))} == {
        ("R-50.pkl", "40.00", "20.00"),
        ("random weights", "20.00", "20.00"),
    }


def test_where_a_resnet_has_its_stride_is_no_other_network_to_the_published_tables(detection) -> None:
    record = detection(0.4, network="resnet50")
    strided = record.model_copy(
        update={"network": record.network.model_copy(update={"overrides": {"stride_in": "1x1"}})}
    )
    deeper = record.model_copy(update={"network": record.network.model_copy(update={"overrides": {"depth": 2.0}})})
    assert published_name(strided) == published_name(record) == "resnet50"
    assert published_name(deeper) == "resnet50 (depth=2.0)"
    (one,) = tables(strided).detection.values()
    assert [beside.cell.network for beside in detection_beside(one, "AP")] == [
        beside.cell.network for beside in detection_beside(next(iter(tables(record).detection.values())), "AP")
    ]
    assert detection_beside(one, "AP")
