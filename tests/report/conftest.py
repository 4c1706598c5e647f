"""Two runs on the disk: twelve pictures, three classes of which one has no object, records and detections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rexdet.coco.detections import Detections, encode_masks
from rexdet.coco.evaluate import evaluate
from rexdet.runs import Data, DataSplit, Network, Recipe, RunRecord, WeightsFile, write_record

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
