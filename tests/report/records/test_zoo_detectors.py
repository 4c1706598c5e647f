"""The numbers that published detectors are known by are those of detectron2's own configurations."""

from __future__ import annotations

import pytest

from rexdet.report.records.zoo_detectors import departures
from rexdet.runs import RunRecord

ZOO = (
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "COCO-Detection/retinanet_R_50_FPN_3x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
)


def run_of(config: str) -> RunRecord:
    return RunRecord(kind="detection", name="run", engine="detectron2", config=config)


@pytest.mark.parametrize("name", ZOO)
def test_detectron2s_own_configurations_depart_in_nothing(name: str) -> None:
    model_zoo = pytest.importorskip("detectron2.model_zoo")
    cfg = model_zoo.get_config(name)
    assert departures(run_of(cfg.dump())) == {}
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.TEST.DETECTIONS_PER_IMAGE = 300
    assert departures(run_of(cfg.dump())) == {"FPN.OUT_CHANNELS": (64, 256), "TEST.DETECTIONS_PER_IMAGE": (300, 100)}


def test_a_mask_head_counts_where_there_are_masks() -> None:
    head = "  META_ARCHITECTURE: GeneralizedRCNN\n  ROI_MASK_HEAD:\n    NUM_CONV: 0\n"
    assert departures(run_of(f"MODEL:\n  MASK_ON: false\n{head}")) == {}
    assert departures(run_of(f"MODEL:\n  MASK_ON: true\n{head}")) == {"ROI_MASK_HEAD.NUM_CONV": (0, 4)}


@pytest.mark.parametrize("config", [None, "", "MODEL: [", "MODEL: 3\n"])
def test_what_is_not_told_is_no_departure(config: str | None) -> None:
    assert departures(RunRecord(kind="detection", name="run", engine="detectron2", config=config)) == {}
