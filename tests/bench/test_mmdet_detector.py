"""RetinaNet in MMDetection over our network and over timm's: one detector, the same weights, timed in turn."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("mmdet", reason="MMDetection is not installed: make setup-mmdet")
pytest.importorskip("timm", reason="timm is not installed")

from rexdet.bench import mmdet_detector
from rexdet.cli import execute


def test_both_detectors_are_the_same_but_for_the_backbones_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmdet_detector, "SIZE", 64)
    pair = mmdet_detector.build_pair("rexnet_1.0")
    ours, theirs = pair["ours"], pair["timm"]
    assert list(ours.backbone.channels) == theirs.backbone.channels == [38, 61, 128, 185]
    counts = [sum(p.numel() for p in detector.parameters() if p.requires_grad) for detector in (ours, theirs)]
    assert counts[0] == counts[1]
    assert all(torch.equal(a, b) for a, b in zip(ours.neck.parameters(), theirs.neck.parameters(), strict=True))
    # A step of each, from the same weights and data: the same loss.
    losses = [float(mmdet_detector._training(detector)()["loss"].detach()) for detector in (ours, theirs)]  # type: ignore[index]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    before = ours.backbone.stem.conv.weight.detach().clone()
    mmdet_detector._training(ours)()
    assert not torch.equal(before, ours.backbone.stem.conv.weight)
    (first, second) = mmdet_detector._prediction(ours)()  # type: ignore[misc]
    assert first.img_id != second.img_id


def test_a_network_that_timm_lacks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("benchmark", ["mmdet", "--network", "rexnet_0.9"]) == 2
    assert "timm has no counterpart of rexnet_0.9" in capsys.readouterr().err
