"""Records that the tests of the tables are made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from rexdet.report.groups import group
from rexdet.report.networks_table import Known, networks_table
from rexdet.report.reading import Found
from rexdet.report.tables import Table
from rexdet.runs import COCO_KEYS, Data, DataSplit, Network, Recipe, RunRecord, WeightsFile, write_record
from rexdet.runs.environment import Hardware

SHA = "a" * 64
OTHER_SHA = "b" * 64
CONFIG_1X = """\
INPUT:
  CROP:
    ENABLED: false
  MAX_SIZE_TEST: 1333
  MAX_SIZE_TRAIN: 1333
  MIN_SIZE_TEST: 800
  MIN_SIZE_TRAIN:
  - 640
  - 672
  - 704
  - 736
  - 768
  - 800
  RANDOM_FLIP: horizontal
MODEL:
  MASK_ON: false
  META_ARCHITECTURE: GeneralizedRCNN
"""
RECIPE_1X = Recipe(
    effective_batch=16,
    optimizer="SGD momentum 0.9 weight decay 0.0001",
    base_lr=0.02,
    warm_up="linear, 1000 steps from 0.001",
    schedule="x0.1 at 60000, 80000",
    iterations=90000,
)


def started(second: int = 0) -> datetime:
    return datetime(2026, 1, 1, 0, second // 60, second % 60, tzinfo=timezone.utc)


@pytest.fixture(scope="session")
def detection() -> Callable[..., RunRecord]:
    """A detection run over COCO: detection(ap=0.4, seed=1, sha=..., freeze_at=..., norm=..., ...)."""

    def make(ap: float | None = 0.4, seed: int | None = 0, sha: str | None = SHA, **changes: Any) -> RunRecord:
        name = changes.pop("network", "resnet50")
        network = Network(
            name=name,
            sha256=sha,
            source=changes.pop("source", f"{name}@d2_msra_in1k") if sha else None,
            norm=changes.pop("norm", "FrozenBN" if sha else "BN"),
            freeze_at=changes.pop("freeze_at", 2 if sha else 0),
        )
        split = {"annotations": 7, "classes": ["cat", "dog"], "fingerprint": "c" * 64}
        numbers: dict[str, float | None] = dict.fromkeys(COCO_KEYS, ap)
        numbers["APs"] = None
        values: dict[str, Any] = {
            "kind": "detection",
            "name": f"{name}-{'sha' if sha else 'random'}-{seed}",
            "status": "done",
            "created": started(seed or 0),
            "updated": started(seed or 0),
            "command": ["tools/train_det.py", "--config", "faster_rcnn", "--seed", str(seed)],
            "engine": "detectron2",
            "config": CONFIG_1X,
            "seed": seed,
            "network": network,
            "data": Data(
                train=DataSplit(path="coco/annotations/instances_train2017.json", images=117_266, **split),
                val=DataSplit(path="coco/annotations/instances_val2017.json", images=5_000, **split),
            ),
            "recipe": RECIPE_1X,
            "metrics": {"bbox": numbers},
            "per_class": {"bbox": {"cat": {"AP": ap, "AP50": ap}, "dog": {"AP": None, "AP50": None}}},
            "evaluated_weights": WeightsFile(holds="raw", selection="last", iteration=90000),
            "wall_time_s": 7200.0,
            "versions": {"torch": "2.11.0", "rexdet": "0.1.0"},
        }
        return RunRecord.model_validate({**values, **changes})

    return make


@pytest.fixture(scope="session")
def transfer() -> Callable[..., RunRecord]:
    """A transfer run: transfer(top1=0.9, seed=1, sha=..., dataset=..., protocol=..., group="test", ...)."""

    def make(top1: float = 0.9, seed: int | None = 0, sha: str | None = SHA, **changes: Any) -> RunRecord:
        name = changes.pop("network", "resnet50")
        dataset = changes.pop("dataset", "dtd")
        group = changes.pop("group", "test")
        protocol = changes.pop("protocol", "fine_tune")
        split = {"images": 100, "fingerprint": "d" * 64, "path": dataset}
        values: dict[str, Any] = {
            "kind": "transfer",
            "name": f"{dataset}-{name}-{'sha' if sha else 'random'}-{seed}",
            "status": "done",
            "created": started(seed or 0),
            "updated": started(seed or 0),
            "command": ["transfer/run.py", "--dataset", dataset],
            "config": f"# protocol {protocol}\nnetwork: {name}\ncheckpoint: {sha}\ndataset: {dataset}\nseed: {seed}\n",
            "seed": seed,
            "network": Network(name=name, sha256=sha, source=f"{name}@d2_msra_in1k" if sha else None),
            "data": Data(train=DataSplit(**split), val=DataSplit(**split)),
            "recipe": Recipe(effective_batch=32, iterations=100, base_lr=0.1),
            "metrics": {group: {"top1": top1, "mean_per_class": top1 - 0.1}},
            "evaluations": [
                {"iteration": step, "holds": "raw", "metrics": {"train": {"loss": 1.0 / step}}} for step in (1, 2, 3)
            ],
        }
        return RunRecord.model_validate({**values, **changes})

    return make


@pytest.fixture(scope="session")
def latency_run() -> Callable[..., RunRecord]:
    """A benchmark: latency_run("resnet50", {"eager float32 batch 1": 20.0}, device="a CPU", ...)."""

    def make(network: str, milliseconds: dict[str, float], device: str = "a CPU", **changes: Any) -> RunRecord:
        values: dict[str, Any] = {
            "kind": "benchmark",
            "name": f"bench-{network}-{device}",
            "status": "done",
            "network": Network(name=network, overrides=changes.pop("overrides", {})),
            "metrics": {f"latency {words}": {"ms": value} for words, value in milliseconds.items()},
            "hardware": Hardware(platform="linux", processor=device),
        }
        return RunRecord.model_validate({**values, **changes})

    return make


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes records as run folders below a folder, and returns that folder."""

    def write(*records: RunRecord, below: str = "runs") -> Path:
        folder = tmp_path / below
        for place, record in enumerate(records):
            (folder / str(place)).mkdir(parents=True)
            write_record(folder / str(place), record)
        return folder

    return write


@pytest.fixture
def networks(transfer) -> Table:
    """The networks' table of four rows over two data sets."""
    scores = {"resnet18": (0.6, 0.5), "resnet34": (0.7, 0.6), "resnet50": (0.8, 0.75), "resnet101": (0.9, 0.7)}
    records = [
        transfer(score, network=name, dataset=dataset)
        for name, values in scores.items()
        for dataset, score in zip(("dtd", "cars"), values, strict=True)
    ]
    return networks_table(group([Found(record, record.name) for record in records]), Known())
