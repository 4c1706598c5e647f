"""The published numbers: held against a second transcription, against torchvision, and against their own rules."""

from __future__ import annotations

import dataclasses
import fnmatch
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torchvision
from torchvision.models import get_model_weights

from rexdet import published
from rexdet.errors import UserError
from rexdet.published import reader
from rexdet.published.schema import Cell

COPY = Path(__file__).with_name("checked_copy.txt")
Numbers = Counter[tuple[str, ...]]


def read_copy(text: str) -> Numbers:
    """(table, row, column, number as a float's text) of the checked copy, each as often as it stands there."""
    found: Numbers = Counter()
    table, columns = "", []
    for line in text.splitlines():
        if line.startswith("=="):
            table, _, listed = line[2:].partition(":")
            table, columns = table.strip(), listed.split()
        elif line and not line.startswith("#"):
            row, _, numbers = line.partition("|")
            for column, number in zip(columns, numbers.split(), strict=True):
                if number != "-":
                    found[(table, " ".join(row.split()), column, repr(float(number)))] += 1
    return found


def as_in_the_copy(cells: Iterable[Cell]) -> Numbers:
    """The same of the files. A row names its protocol where its table has more than one, or where that is not cited."""
    cells = list(cells)
    protocols: dict[str, set[str]] = {}
    for cell in cells:
        protocols.setdefault(cell.table, set()).add(cell.protocol.id if cell.protocol else "")
    found: Numbers = Counter()
    for cell in cells:
        table = next(table for table in published.tables() if table.id == cell.table)
        parts = [f"{cell.network}@{cell.tag}" if cell.tag else cell.network]
        if cell.size is not None:
            parts.append(str(cell.size))
        silent = ("imagenet_as_cited", "cifar_as_cited", "rexnet_imagenet", "resnext_cifar")
        if cell.protocol and len(protocols[cell.table]) > 1 and cell.protocol.id not in silent:
            parts.append(
                cell.protocol.id if table.detector or not cell.detector else f"{cell.detector}/{cell.protocol.id}"
            )
        elif cell.protocol and table.id.startswith("ssl_transfer"):
            parts.append(cell.protocol.id)
        column = cell.dataset if table.datasets else cell.metric
        found[(cell.table, " ".join(parts), column, repr(float(cell.value)))] += 1
    return found


def test_every_number_is_that_of_the_checked_copy() -> None:
    files, copy = as_in_the_copy(published.cells()), read_copy(COPY.read_text(encoding="utf-8"))
    assert files - copy == Counter(), "in rexdet/published and not in the checked copy"
    assert copy - files == Counter(), "in the checked copy and not in rexdet/published"


def test_one_altered_cell_is_found() -> None:
    """Case C91, asym-siam#4: a repository printed 67.6 for the paper's 67.3, and a user found it."""
    copy = read_copy(COPY.read_text(encoding="utf-8"))
    cells = list(published.cells())
    chosen = random.Random(0)
    for index in chosen.sample(range(len(cells)), 20):
        altered = [*cells]
        altered[index] = dataclasses.replace(cells[index], value=cells[index].value + 0.1)
        different = as_in_the_copy(altered) - copy
        assert [key[0] for key in different] == [cells[index].table]


def torchvision_metadata() -> dict[tuple[str, str], dict[str, float]]:
    """(torchvision's name, name of the weights) -> metrics and sizes by our names."""
    ours = {"acc@1": "top1", "acc@5": "top5", "box_map": "AP", "mask_map": "mask_AP"}
    found = {}
    for name in torchvision.models.list_models():
        for weights in get_model_weights(name):
            metrics = {key: value for group in weights.meta["_metrics"].values() for key, value in group.items()}
            numbers = {ours[key]: value for key, value in metrics.items() if key in ours}
            found[name, weights.name] = {
                **numbers,
                "parameters": weights.meta["num_params"],
                "macs_billions": weights.meta["_ops"],
            }
    return found


@pytest.mark.parametrize("table", ["torchvision_v1", "torchvision_v2"])
def test_torchvision_says_the_same_of_its_classifiers(table: str) -> None:
    metadata = torchvision_metadata()
    version = f"IMAGENET1K_{table[-2:].upper()}"
    for cell in published.cells(table=table):
        (name,) = (
            name.partition(":")[2]
            for name in published.networks()[cell.network].names
            if name.startswith("torchvision:")
        )
        assert metadata[name, version][cell.metric] == cell.value, (name, version)


def test_torchvision_says_the_same_of_its_detectors() -> None:
    metadata = torchvision_metadata()
    for cell in published.cells(table="torchvision_detection"):
        assert cell.protocol is not None
        network = {"resnet50": "*resnet50_fpn", "mobilenet_v3_large": "*mobilenet_v3_large"}[cell.network]
        if cell.network == "mobilenet_v3_large" and cell.detector == "faster_rcnn":
            network += "_320_fpn" if cell.size == 320 else "_fpn"
        pattern = cell.detector.replace("_", "") + network + ("_v2" if "_v2" in cell.protocol.id else "")
        (name,) = (name for name, weights in metadata if weights == "COCO_V1" and fnmatch.fnmatch(name, pattern))
        assert metadata[name, "COCO_V1"][cell.metric] == cell.value, name


def test_every_cell_says_where_it_stands_and_how_far_that_was_checked() -> None:
    for cell in published.cells():
        assert cell.place
        assert cell.source.address.startswith("https://")
        assert cell.source.read_in
        assert cell.verified in ("verified", "secondary", "inferred")
        assert cell.metric in published.METRICS
        assert cell.protocol is not None or cell.task == "complexity", cell
    assert {cell.verified for cell in published.cells()} == {"verified", "secondary", "inferred"}
    # Counts are ours; every accuracy was read somewhere.
    inferred = {cell.metric for cell in published.cells() if cell.verified == "inferred"}
    assert inferred == {"parameters", "parameters_millions", "macs_billions"}


def test_no_accuracy_of_lw_dna_or_of_the_nm_rule_is_claimed() -> None:
    """None of their tables could be read: numbers from memory stay out."""
    assert {cell.metric for cell in published.cells("resnet50_lwdna")} == {"macs_billions"}
    assert not any(
        "1709.06247" in source.address or "2006.16242" in source.address for source in published.sources().values()
    )


def test_nothing_is_named_that_is_not_used() -> None:
    cells = published.cells()
    assert {cell.network for cell in cells} == set(published.networks())
    assert {cell.protocol.id for cell in cells if cell.protocol} == set(published.protocols())
    used = {cell.source.id for cell in cells} | {protocol.source for protocol in published.protocols().values()}
    assert used == set(published.sources())


@pytest.mark.parametrize(
    ("name", "value", "cited"),
    [
        ("rexnet_1.0", 77.9, "ReXNet paper (arXiv 2007.00992v3, CVPR 2021), Table 5"),
        ("timm:rexnet_100", 77.9, "ReXNet paper (arXiv 2007.00992v3, CVPR 2021), Table 5"),
        ("rexnet_0.6", 74.6, "sotaverified.org, ReXNet, ImageNet results (secondary)"),
        ("resnext50_32x4d@tv2_in1k", 81.198, "torchvision, metadata of IMAGENET1K_V2"),
        ("resnext50_4x24d", 22.6, "ResNeXt paper (arXiv 1611.05431, CVPR 2017), Table 3"),
    ],
)
def test_one_number_speaks_for_a_network(name: str, value: float, cited: str) -> None:
    cell = published.accuracy(name)
    assert cell is not None
    assert (cell.value, cell.cited()) == (value, cited)
    assert cell.as_json()["value"] == value


@pytest.mark.parametrize("name", ["nonsense", "resnet50_lwdna", "rexnet_1.0@no_such_tag", "rexnet_4.1"])
def test_a_network_without_numbers_has_none(name: str) -> None:
    assert published.accuracy(name) is None
    assert published.cells(name, task="imagenet") == ()


def test_questions_narrow_the_answer() -> None:
    rows = published.cells("resnet50", task="detection", metric="AP", detector="retinanet", source="detectron2")
    assert [(cell.protocol.id if cell.protocol else "", cell.value) for cell in rows] == [
        ("detectron2_1x_retinanet", 37.4),
        ("detectron2_3x_retinanet", 38.7),
    ]
    assert {cell.dataset for cell in published.cells("rexnet_1.0", task="transfer")} == {
        "food101", "cars", "aircraft", "flowers102",
    }  # fmt: skip
    assert published.cells(protocol="resnext_cifar", dataset="cifar100", metric="top1_error")[-1].value == 17.31


def test_only_what_is_known_to_be_equal_is_equal() -> None:
    known, unknown = published.protocol("detectron2_1x"), published.protocol("rexnet_coco")
    assert published.differences(known, known) == {}
    assert set(published.differences(known, published.protocol("detectron2_1x_retinanet"))) == {"base_lr"}
    # Nobody can say that two unknown schedules are one.
    assert "schedule" in published.differences(unknown, unknown)
    assert published.differences(known, published.protocol("mmdetection_1x"))["norm"] == (
        "FrozenBN",
        "batch norm in evaluation mode, affine trained",
    )


def test_an_unknown_protocol_is_one_line() -> None:
    with pytest.raises(UserError, match="no published protocol 'detectron2_2x'; there are "):
        published.protocol("detectron2_2x")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "nowhere"}, "no source 'nowhere'"),
        ({"protocol": "none"}, "no protocol 'none'"),
        ({"verified": "recalled"}, "verified"),
        ({"rows": ({"network": "resnet5000", "top1": 1.0},)}, "no network 'resnet5000'"),
        ({"rows": ({"network": "resnet50", "top_1": 1.0},)}, "no column 'top_1'"),
        ({"rows": ({"network": "resnet50", "top1": "76.1"},)}, "top1|valid number|value"),
        ({"rows": ({"top1": 76.1},)}, "names no network"),
        ({"rows": ({"network": "resnet50", "tag": "a"},)}, "no number"),
        ({"detector": "retinanet"}, "detection tables, and no others"),
        ({"id": "rexnet_paper_a1"}, "two tables"),
    ],
)
def test_a_file_that_is_wrong_is_refused(change: dict[str, object], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, object] = {
        "id": "mine",
        "task": "imagenet",
        "source": "timm",
        "place": "somewhere",
        "verified": "verified",
        "protocol": "timm_zoo",
        "dataset": "imagenet-1k",
        "rows": [{"network": "resnet50", "top1": 76.1}],
    }
    read = reader._read
    monkeypatch.setattr(
        reader, "_read", lambda file: [*read(file), {**table, **change}] if file == "cifar" else read(file)
    )
    reader.tables.cache_clear()
    try:
        with pytest.raises(ValueError, match=told):
            reader.tables()
    finally:
        reader.tables.cache_clear()


def test_the_schedules_are_those_of_the_shipped_configs(repository: Path) -> None:
    """A run's record and a protocol say the same of detectron2's 1x and 3x."""
    pytest.importorskip("detectron2")
    from detectron2.config import get_cfg

    from rexdet.detectron2 import merge_config
    from rexdet.detectron2.plan_yaml import _optimizer_words, _schedule_words, _warm_up_words

    for config, identifier in {
        "faster_rcnn_r50": "detectron2_1x",
        "mask_rcnn_r50_3x": "detectron2_3x",
        "retinanet_r50": "detectron2_1x_retinanet",
        "retinanet_r50_3x": "detectron2_3x_retinanet",
    }.items():
        cfg = get_cfg()
        merge_config(cfg, repository / f"configs/{config}.yaml", [])
        told = published.protocol(identifier)
        assert told.optimizer == _optimizer_words(cfg)
        assert told.schedule == _schedule_words(cfg)
        assert told.warm_up == _warm_up_words(cfg)
        assert (told.base_lr, told.effective_batch) == (cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH)
        assert told.iterations == cfg.SOLVER.MAX_ITER
        assert told.freeze_at == cfg.MODEL.BACKBONE.FREEZE_AT
