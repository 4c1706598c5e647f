"""Sizes of whole detectors against the ReXNet paper's tables (arXiv 2007.00992v3, Tables 7 and 9)."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("detectron2")

from rexdet.detectron2.counts import detector_cost
from rexdet.errors import UserError

# The paper's counts by its own rule, then what it prints.
COUNTS = [
    ("faster_rcnn", "rexnet_0.9", 20.117, 20.1),
    ("faster_rcnn", "rexnet_1.0", 20.656, 20.7),
    ("faster_rcnn", "rexnet_2.2", 32.980, 33.0),
    ("mask_rcnn", "rexnet_0.9", 22.762, 22.8),
    ("mask_rcnn", "rexnet_1.0", 23.302, 23.3),
    ("mask_rcnn", "rexnet_2.2", 35.626, 35.6),
]
# At 1280 x 800 with torchvision's heads, which have one row more for the boxes: 122.95, 124.01, 153.75.
GMACS = {"rexnet_0.9": (122.95, 123.0), "rexnet_1.0": (124.01, 124.1), "rexnet_2.2": (153.75, 153.8)}


@pytest.mark.parametrize(("kind", "name", "millions", "printed"), COUNTS)
def test_parameters_of_detectors(kind: str, name: str, millions: float, printed: float) -> None:
    """90 classes, the backbone's norms frozen, so not counted."""
    cost = detector_cost(name, kind)
    assert cost.parameters / 1e6 == pytest.approx(millions, abs=0.0005)
    assert round(cost.parameters / 1e6, 1) == printed
    assert cost.printed is not None
    assert cost.printed.parameters_millions == printed


@pytest.mark.parametrize("name", GMACS)
def test_multiply_accumulates_of_detectors(name: str) -> None:
    counted, printed = GMACS[name]
    cost = detector_cost(name, "faster_rcnn")
    assert cost.macs / 1e9 == pytest.approx(counted, abs=0.01)
    assert cost.printed is not None
    assert cost.printed.macs_billions == printed
    # The paper's Mask R-CNN rows leave the mask head out.
    assert detector_cost(name, "mask_rcnn").macs == cost.macs


def test_resnet50_is_torchvisions_detector_less_the_rows_of_the_background() -> None:
    """torchvision's Faster R-CNN over ResNet-50 has 41,755,286 parameters, its Mask R-CNN 44,401,393 (its metadata)."""
    box_rows, mask_rows = 4 * (1024 + 1), 256 + 1
    assert detector_cost("resnet50", "faster_rcnn").parameters == 41_755_286 - box_rows
    assert detector_cost("resnet50", "mask_rcnn").parameters == 44_401_393 - box_rows - mask_rows


def test_one_network_counts_alike_whoever_defines_it() -> None:
    pytest.importorskip("timm")
    ours, theirs = (detector_cost(name, "faster_rcnn") for name in ("resnet18", "timm:resnet18"))
    assert (ours.parameters, ours.macs) == (theirs.parameters, theirs.macs)


def test_counting_says_nothing_of_random_weights(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("rexdet.detectron2")
    level = logger.level
    with caplog.at_level(logging.WARNING):
        detector_cost("rexnet_1.0", "faster_rcnn")
    assert not caplog.records
    assert logger.level == level


def test_a_network_without_such_maps_is_refused() -> None:
    with pytest.raises(UserError, match="res5"):
        detector_cost("resnet20_cifar", "faster_rcnn")
    assert logging.getLogger("rexdet.detectron2").getEffectiveLevel() < logging.ERROR
