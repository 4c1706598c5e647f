"""Where a run departs from detectron2's published detectors in what no protocol tells: its detector, EMA, precision."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rexdet.report.records.recorded_config import read_config, value_at, without_one_run
from rexdet.runs.record import RunRecord

# configs/Base-RCNN-FPN.yaml, configs/Base-RetinaNet.yaml and detectron2/config/defaults.py of detectron2.
_EVERY = {
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.FPN.NORM": "",
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.REXDET.DROP_PATH": 0.0,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.NESTEROV": False,
    "TEST.AUG.ENABLED": False,
    "TEST.PRECISE_BN.ENABLED": False,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
_RETINANET = {
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.RETINANET.NUM_CONVS": 4,
    "MODEL.RETINANET.NORM": "",
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.05,
    "MODEL.RETINANET.NMS_THRESH_TEST": 0.5,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 1000,
}
_TWO_STAGES = {
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 256,
    "MODEL.ROI_MASK_HEAD.NORM": "",
}


def departures(record: RunRecord) -> dict[str, tuple[object, object]]:
    """Key -> (here, there) of what is not as published numbers were made; what a record does not tell is no departure.

    EMA and a precision other than float32 count in either engine, the detector's own numbers in detectron2's YAML.
    """
    recipe = record.recipe
    asked = {"ema": recipe.ema, "precision": recipe.amp} if recipe else {}
    found: dict[str, tuple[object, object]] = {
        name: (value, "float32" if name == "precision" else "none") for name, value in asked.items() if value
    }
    is_yaml = record.engine == "detectron2" and record.config
    return {**found, **_of_detector(without_one_run(record.config or ""))} if is_yaml else found


@lru_cache(maxsize=4096)
def _of_detector(text: str) -> dict[str, tuple[object, object]]:
    config = read_config(text, "detectron2")
    is_retinanet = value_at(config, "MODEL.META_ARCHITECTURE") == "RetinaNet"
    has_masks = bool(value_at(config, "MODEL.MASK_ON"))
    found: dict[str, tuple[object, object]] = {}
    for path, there in {**_EVERY, **(_RETINANET if is_retinanet else _TWO_STAGES)}.items():
        here: Any = value_at(config, path)
        is_idle = ".ROI_MASK_HEAD." in path and not has_masks
        if here is not None and here != there and not is_idle:
            found[path.removeprefix("MODEL.")] = (here, there)
    return found
