"""What the difference between the engines' pixels costs: the same detector on the pixels of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from rexdet.bench.engines import ways
from rexdet.coco.annotations import CocoDataset
from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import evaluate
from rexdet.configs import get_config
from rexdet.errors import UserError

# A whole detector of ours, in float16: `python tools/quickstart.py SOLVER.MAX_ITER 900 SOLVER.WARMUP_ITERS 112`.
WEIGHTS = Path(__file__).parents[2] / "zoo" / "files" / "quickstart_detector.safetensors"
CONFIG = "quickstart"
# Test sizes in px. The embedded pictures have 128: as they are, larger and smaller.
SIZES = (128, 160, 96)
BATCH = 20


@dataclass(frozen=True)
class Cost:
    """AP (0 to 1) of one detector on the pixels of each engine's pipeline. size: of the network's input in px.

    largest, mean: how far the pixels are apart, in grey levels.
    """

    size: int
    detectron2: float
    mmdetection: float
    largest: float
    mean: float

    @property
    def difference(self) -> float:
        """What MMDetection's pixels give more; negative: less."""
        return self.mmdetection - self.detectron2


def measure_cost(dataset: CocoDataset, sizes: tuple[int, ...] = SIZES, weights: Path = WEIGHTS) -> list[Cost]:
    """AP on a data set of square pictures, with the pixels of each engine, through one and the same network."""
    cfg, model = _detector(weights)
    return [_cost(dataset, size, cfg, model) for size in sizes]


def _cost(dataset: CocoDataset, size: int, cfg: Any, model: Any) -> Cost:
    pipelines = [way(dataset, (size, size)) for way in (ways.Detectron2Way, ways.MMDetectionWay)]
    found: list[list[Detections]] = [[], []]
    apart = []
    starts = range(0, len(dataset), BATCH)
    for start in tqdm(starts, desc=f"AP at {size} px", unit="batch", delay=2, mininterval=2, leave=False):
        rows = range(start, min(start + BATCH, len(dataset)))
        pictures = [[pipeline(row) for row in rows] for pipeline in pipelines]
        apart += [np.abs(one.astype(np.int16) - other.astype(np.int16)) for one, other in zip(*pictures, strict=True)]
        for parts, mine in zip(found, pictures, strict=True):
            parts.extend(_predict(dataset, rows, mine, cfg, model))
    scores = [evaluate(dataset, Detections.concatenate(parts)).numbers["AP"] for parts in found]
    if any(score is None for score in scores):
        raise UserError("nothing to detect is annotated", where=str(dataset.path))
    largest = max(float(difference.max()) for difference in apart)
    mean = float(np.mean([difference.mean() for difference in apart]))
    return Cost(size, float(scores[0] or 0.0), float(scores[1] or 0.0), largest, mean)


def _predict(
    dataset: CocoDataset, rows: Iterable[int], pictures: Iterable[np.ndarray], cfg: Any, model: Any
) -> Iterator[Detections]:
    """Detections on some pictures of a data set, given as uint8 (H, W, 3) BGR."""
    entries = [dataset.image(row) for row in rows]
    turn = -1 if cfg.INPUT.FORMAT == "RGB" else 1
    batch = [
        {
            "image": torch.from_numpy(np.ascontiguousarray(picture[:, :, ::turn].transpose(2, 0, 1))),
            "height": entry.height,
            "width": entry.width,
        }
        for entry, picture in zip(entries, pictures, strict=True)
    ]
    with torch.no_grad():
        results = model(batch)
    for entry, result in zip(entries, results, strict=True):
        instances = result["instances"].to("cpu")
        categories = [dataset.categories[label].id for label in instances.pred_classes.tolist()]
        yield Detections.from_image(entry.id, instances.pred_boxes.tensor, instances.scores, categories)


def _detector(weights: Path) -> tuple[Any, Any]:
    """The shipped detector, built by detectron2, in evaluation mode on the CPU."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    import rexdet.detectron2 as plugin
    from rexdet.detectron2.quiet import without_warnings
    from rexdet.weights.formats import read_file

    cfg = get_cfg()
    plugin.merge_config(cfg, get_config(CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    with without_warnings():
        model = build_model(cfg).eval()
    model.load_state_dict(read_file(weights).value, strict=True)
    return cfg, model
