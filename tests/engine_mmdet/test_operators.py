"""mmcv's operators over torchvision's: the answers of compiled mmcv, and one clear line for what is not there.

The same tests pass where compiled mmcv is installed, except those of the stand-in itself.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, roi_align, sigmoid_focal_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch import Tensor

from rexdet.errors import UserError
from rexdet.mmdet import operators

stand_in = pytest.mark.skipif(
    not operators.provide_operators(), reason="compiled mmcv is installed, and it is always preferred"
)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, np.ndarray]:
    """What compiled mmcv 2.1.0 answered."""
    with np.load(shared_dir / "golden" / "mmcv_2.1.0_operators.npz") as stored:
        return dict(stored)


def tensors(golden: dict[str, np.ndarray], prefix: str, *names: str) -> list[Tensor]:
    return [torch.from_numpy(golden[f"{prefix}_{name}"]) for name in names]


@pytest.mark.parametrize("kind", ["distinct", "tied"])
def test_suppression_keeps_the_same_boxes_in_the_same_order(golden: dict[str, np.ndarray], kind: str) -> None:
    prefixes = sorted(
        {key.rsplit("_boxes", 1)[0] for key in golden if key.startswith(f"nms_{kind}") and "boxes" in key}
    )
    assert len(prefixes) >= 8
    offsets = set()
    for prefix in prefixes:
        boxes, scores = tensors(golden, prefix, "boxes", "scores")
        threshold, offset = golden[f"{prefix}_threshold_offset"]
        offsets.add(int(offset))
        _, kept = nms(boxes, scores, float(threshold), int(offset))
        assert kept.tolist() == golden[f"{prefix}_keep"].tolist(), prefix
    assert offsets == {0, 1}


def test_an_overlap_equal_to_the_threshold_does_not_suppress() -> None:
    # Overlap 0.3 as a float32 is a little more than 0.3 as a double; mmcv compares float32 with float32.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [0.0, 0.0, 3.0, 1.0]])
    for offset in (0, 1):
        shifted = boxes - torch.tensor([0.0, 0.0, offset, offset])
        _, kept = nms(shifted, torch.tensor([0.9, 0.8]), 0.3, offset)
        assert kept.tolist() == [0, 1]
    _, kept = nms(boxes, torch.tensor([0.9, 0.8]), 0.29, 0)
    assert kept.tolist() == [0]


def test_suppression_of_nothing_and_by_a_lowest_score() -> None:
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [10.0, 0.0, 14.0, 4.0], [20.0, 0.0, 24.0, 4.0]])
    _, kept = nms(boxes, torch.tensor([0.1, 0.9, 0.5]), 0.5, score_threshold=0.2, max_num=1)
    assert kept.tolist() == [1]


def test_suppression_by_class(golden: dict[str, np.ndarray]) -> None:
    boxes, scores, classes = tensors(golden, "batched", "boxes", "scores", "classes")
    for threshold in (0.3, 0.5, 0.7):
        _, kept = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": threshold})
        if kept.tolist() == golden["batched_keep"].tolist():
            return
    pytest.fail("no usual threshold gives the golden answer")


@pytest.mark.parametrize("number", range(4))
def test_roi_align_forward_and_backward(golden: dict[str, np.ndarray], number: int) -> None:
    names = ("input", "rois", "output", "grad_output", "grad_input")
    source, rois, output, grad_output, grad_input = tensors(golden, f"roi_align_{number}", *names)
    aligned, sampling, scale = golden[f"roi_align_{number}_aligned_sampling_scale"]
    source.requires_grad_(True)
    pooled = roi_align(source, rois, output.shape[-2:], float(scale), int(sampling), "avg", bool(aligned))
    pooled.backward(grad_output)
    torch.testing.assert_close(pooled, output, rtol=0, atol=1e-6)
    assert source.grad is not None
    torch.testing.assert_close(source.grad, grad_input, rtol=0, atol=1e-5)


@stand_in
def test_roi_align_in_bfloat16_is_that_of_float32_rounded() -> None:
    source = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    rois = torch.tensor([[0.0, 1.0, 1.0, 6.0, 5.0]])
    narrow = roi_align(source, rois.bfloat16(), 3, 1.0, 2, "avg", True)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, roi_align(source.float(), rois, 3, 1.0, 2, "avg", True).bfloat16())


def focal_case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 5, generator=generator) * 2
    target = torch.randint(0, 6, (40,), generator=generator)  # 5 is the background
    return logits, target, torch.nn.functional.one_hot(target, 6)[:, :5]


@stand_in
def test_focal_loss_and_its_gradient_are_the_formulas() -> None:
    logits, target, one_hot = focal_case()
    expected_from = logits.double().requires_grad_(True)
    expected = py_sigmoid_focal_loss(expected_from, one_hot, gamma=2.0, alpha=0.25, reduction="none")
    expected.sum().backward()
    given = logits.clone().requires_grad_(True)
    found = sigmoid_focal_loss(given, target, 2.0, 0.25, None, "none")
    found.sum().backward()
    assert given.grad is not None
    assert expected_from.grad is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(given.grad.double(), expected_from.grad, rtol=1e-4, atol=1e-6)


@stand_in
def test_focal_loss_of_certain_logits_is_finite_and_weights_count_by_class() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    target = torch.tensor([1, 1])
    loss = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    weights = torch.tensor([1.0, 3.0])
    weighted = sigmoid_focal_loss(logits.detach(), target, 2.0, 0.25, weights, "none")
    torch.testing.assert_close(weighted, 3 * loss.detach())


@cuda
def test_operators_on_cuda_answer_as_on_the_cpu(golden: dict[str, np.ndarray]) -> None:
    boxes, scores = tensors(golden, "nms_distinct_03", "boxes", "scores")
    threshold, offset = golden["nms_distinct_03_threshold_offset"]
    _, kept = nms(boxes.cuda(), scores.cuda(), float(threshold), int(offset))
    assert kept.tolist() == golden["nms_distinct_03_keep"].tolist()
    source, rois, output = tensors(golden, "roi_align_1", "input", "rois", "output")
    pooled = roi_align(source.cuda(), rois.cuda(), output.shape[-2:], 0.5, 2, "avg", True)
    torch.testing.assert_close(pooled.cpu(), output, rtol=0, atol=1e-5)
    logits, target, one_hot = focal_case()
    loss = sigmoid_focal_loss(logits.cuda(), target.cuda(), 2.0, 0.25, None, "none")
    expected = py_sigmoid_focal_loss(logits, one_hot, gamma=2.0, alpha=0.25, reduction="none")
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-5, atol=1e-6)


@stand_in
def test_what_is_not_there_says_so_in_one_line() -> None:
    from mmcv.ops import DeformConv2dPack, soft_nms

    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32)
    with pytest.raises(UserError, match=r"operator softnms needs compiled mmcv.*make mmcv-ops") as caught:
        soft_nms(boxes, np.array([0.9, 0.8], np.float32))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="deform_conv_forward"):
        DeformConv2dPack(2, 2, 3, padding=1)(torch.zeros(1, 2, 8, 8))
    with pytest.raises(UserError, match="pool_mode 'max'"):
        roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]), 2, 1.0, 0, "max", True)


@stand_in
def test_the_report_of_the_surroundings_works_and_names_torchvision() -> None:
    from mmcv.ops import get_compiler_version
    from mmdet.utils import collect_env

    assert collect_env()["MMDetection"]
    assert "torchvision" in get_compiler_version()
    assert "torchvision" in operators.operators_in_use()


SAID_ONCE = """
import rexdet.mmdet, importlib
import mmcv.ops
importlib.reload(rexdet.mmdet)
"""


@stand_in
def test_the_stand_in_is_told_once() -> None:
    done = subprocess.run([sys.executable, "-c", SAID_ONCE], capture_output=True, text=True, check=True)
    assert done.stderr.count("mmcv has no compiled operators here") == 1


def test_a_real_module_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, operators.MODULE, ModuleType(operators.MODULE))
    assert not operators.provide_operators()
    assert operators.operators_in_use() == "compiled mmcv"
    # Installed, and not imported yet.
    monkeypatch.delitem(sys.modules, operators.MODULE)
    monkeypatch.setattr(operators.importlib.util, "find_spec", lambda name: ModuleSpec(name, loader=None))
    assert not operators.provide_operators()
    assert operators.MODULE not in sys.modules
