"""What the tests of the tables are made of: records; and two runs on the disk, of twelve pictures and three classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.coco.detections import Detections, encode_masks
from rexdet.coco.evaluate import evaluate
from rexdet.report.page.drawing import Chart
from rexdet.report.page.plans import Palette, Plan
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.summary import Summary
from rexdet.report.tables.table import Table
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


@pytest.fixture
def drawn() -> Callable[[Callable[[Summary, Palette], list[Plan]], Summary], list[Chart]]:
    """The charts of one kind, as a page draws them."""
    return lambda planned, summary: [plan() for plan in planned(summary, Palette(summary))]


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
        split = {"classes": ["cat", "dog"], "fingerprint": "c" * 64}
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


IMAGES = 12


class SavedRuns:
    """A validation set of pictures, and runs on it that find a share of its objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        self.content = self.make_content()
        self.annotations = self.write_annotations("val.json", self.content)

    def make_content(self) -> dict[str, Any]:
        random = np.random.default_rng(0)
        annotations: list[dict[str, Any]] = []
        for number in range(1, IMAGES + 1):
            pixels = random.integers(0, 256, (60, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.pictures / f"{number}.png")
            for place in range(0 if number == IMAGES else 3):
                box = [30.0 * place + 2, 10.0, 20.0, 30.0]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1 + (place == 2),
                        "bbox": box,
                        "area": 600.0,
                        "iscrowd": 0,
                        "segmentation": [
                            [box[0], box[1], box[0] + 20, box[1], box[0] + 20, box[1] + 30, box[0], box[1] + 30]
                        ],
                    }
                )
        return {
            "images": [
                {"id": number, "file_name": f"{number}.png", "width": 90, "height": 60}
                for number in range(1, IMAGES + 1)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "yeti"}],
            "annotations": annotations,
        }

    def write_annotations(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    def detections(self, seed: int, found: float, *, masks: bool = False) -> Detections:
        """A share of the objects, somewhat beside their places, and a false alarm a picture."""
        random = np.random.default_rng(seed)
        rows, codes = [], []
        for entry in self.content["annotations"]:
            if random.random() < found:
                shift = float(random.integers(0, 6))
                x, y, width, height = entry["bbox"]
                rows.append((entry["image_id"], entry["category_id"], (x + shift, y, width, height)))
        rows += [(number, 1, (1.0, 45.0, 12.0, 12.0)) for number in range(1, IMAGES + 1)]
        for _, _, (x, y, width, height) in rows:
            mask = np.zeros((1, 60, 90), bool)
            mask[0, int(y) : int(y + height), int(x) : int(x + width)] = True
            codes += encode_masks(mask)
        return Detections(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float64),
            random.uniform(0.3, 1.0, len(rows)),
            np.array([row[1] for row in rows], np.int64),
            codes if masks else None,
        )

    def run(
        self, name: str, detections: Detections | None, /, *, annotations: Path | None = None, **changes: Any
    ) -> Path:
        """A run's folder. changes: fields of the record."""
        path = annotations or self.annotations
        folder = self.folder / name
        files = {}
        if detections is not None:
            detections.save(folder / "detections.json")
            files["detections"] = "detections.json"
        split = DataSplit(
            path=str(path),
            images_path=str(self.pictures),
            fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
            images=IMAGES,
            classes=["cat", "dog", "yeti"],
        )
        metrics = {} if detections is None else {"bbox": evaluate(path, detections).numbers}
        fields: dict[str, Any] = {
            "kind": "detection",
            "name": name,
            "status": "done",
            "engine": "detectron2",
            "config": "MODEL:\n  DEPTH: 18\nOUTPUT_DIR: " + name,
            "seed": 0,
            "network": Network(name="rexnet_1.0", sha256="a" * 64, norm="BN"),
            "data": Data(val=split),
            "recipe": Recipe(base_lr=0.01, iterations=100),
            "metrics": metrics,
            "evaluated_weights": WeightsFile(holds="raw", iteration=100),
            "files": files,
            "versions": {"rexdet": "1", "torch": "2.0"},
        }
        write_record(folder, RunRecord(**{**fields, **changes}))
        return folder


@pytest.fixture
def saved_runs(tmp_path: Path) -> SavedRuns:
    """The validation set; a test makes its runs."""
    return SavedRuns(tmp_path)


@pytest.fixture
def two_runs(saved_runs: SavedRuns) -> tuple[Path, Path]:
    """A run that finds half of the objects, and one that finds nearly all from other weights."""
    one = saved_runs.run("weak", saved_runs.detections(1, 0.5))
    other = saved_runs.run(
        "strong",
        saved_runs.detections(2, 0.95),
        config="MODEL:\n  DEPTH: 50\nOUTPUT_DIR: strong",
        seed=3,
        network=Network(name="rexnet_1.0", sha256="b" * 64, norm="FrozenBN"),
        versions={"rexdet": "1", "torch": "2.1"},
    )
    return one, other


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `tools/compare.py` with few resamples and pictures; returns the exit status and what it printed."""
    from rexdet.cli import execute

    def run(*arguments: object) -> tuple[int, str, str]:
        words = [str(word) for word in arguments]
        few = {"--resamples": "200", "--pictures": "1", "--output": str(tmp_path / "sheets")}
        for option, value in few.items():
            words += [] if option in words else [option, value]
        status = execute("compare", words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
