"""mmcv's compiled module `mmcv._ext`, where none is installed, over torchvision's operators.

mmcv-lite is mmcv less that one module, and `import mmcv.ops` needs it. `provide_operators` registers a module of that
name in `sys.modules`, before `mmcv.ops` is imported; nothing that is installed is changed, and a compiled one is always
preferred. Answers equal those of compiled mmcv 2.1.0, the order among tied scores included.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from rexdet.errors import UserError

logger = logging.getLogger("rexdet.mmdet")

MODULE = "mmcv._ext"
COMPILED = "compiled mmcv"
# What the compiled kernel compares probabilities against before it takes their logarithm (FLT_MIN).
SMALLEST = float(torch.finfo(torch.float32).tiny)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression: indices of the boxes kept, by falling score. int64 (K,).

    boxes: (N, 4), x1 y1 x2 y2. scores: (N,). offset: what is added to every width and height, 0 or 1.
    """
    # mmcv sorts first, unstably; which of two tied boxes survives depends on that order.
    order = scores.sort(dim=0, descending=True)[1]
    boxes = boxes[order]
    # Its threshold is a float32, and an overlap equal to it does not suppress.
    threshold = float(np.float32(iou_threshold))
    if offset == 0:
        falling = torch.arange(len(boxes), 0, -1, device=boxes.device, dtype=torch.float32)
        kept = torch.ops.torchvision.nms(boxes.float(), falling, threshold)
    else:
        kept = _suppress(boxes.detach().float().cpu(), threshold, offset).to(order.device)
    return order[kept]


def _suppress(boxes: Tensor, threshold: float, offset: int) -> Tensor:
    """Greedy suppression of boxes in their order, widths and heights counted with `offset`."""
    x1, y1, x2, y2 = boxes.numpy().T
    shift = np.float32(offset)
    areas = (x2 - x1 + shift) * (y2 - y1 + shift)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        kept.append(index)
        rest = slice(index + 1, None)
        width = np.minimum(x2[index], x2[rest]) - np.maximum(x1[index], x1[rest]) + shift
        height = np.minimum(y2[index], y2[rest]) - np.maximum(y1[index], y1[rest]) + shift
        shared = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
        alive[rest] &= shared / (areas[index] + areas[rest] - shared) <= np.float32(threshold)
    return torch.tensor(kept, dtype=torch.int64)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign by averaging: fills `output` (K, C, aligned_height, aligned_width) from `input` (B, C, H, W).

    rois: (K, 5), image index and x1 y1 x2 y2. Raises UserError for pool_mode 0, the largest sample instead of the mean.
    """
    _check_mode(pool_mode)
    dtype = _computed_in(input)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of `roi_align_forward`: fills `grad_input` (B, C, H, W)."""
    _check_mode(pool_mode)
    dtype = _computed_in(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Focal loss of every class of every sample: fills `output` (N, C).

    input: (N, C) logits. target: int64 (N,), a class, or C for the background. weight: (C,) by class, or empty.
    Source: Lin et al., arXiv 1708.02002, equation 5.
    """
    positive, probability = _focal_terms(input, target)
    for_positive = (1 - probability) ** gamma * probability.clamp(min=SMALLEST).log()
    for_negative = probability**gamma * (1 - probability).clamp(min=SMALLEST).log()
    loss = torch.where(positive, -alpha * for_positive, -(1 - alpha) * for_negative)
    output.copy_(loss * _sample_weights(weight, target, loss))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """The derivative of `sigmoid_focal_loss_forward` by its logits: fills `grad_input` (N, C)."""
    positive, p = _focal_terms(input, target)
    q = 1 - p
    for_positive = q**gamma * (q - gamma * p * p.clamp(min=SMALLEST).log())
    for_negative = p**gamma * (gamma * q * q.clamp(min=SMALLEST).log() - p)
    gradient = torch.where(positive, -alpha * for_positive, -(1 - alpha) * for_negative)
    grad_input.copy_(gradient * _sample_weights(weight, target, gradient))


def _focal_terms(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    classes = torch.arange(input.shape[1], device=input.device)
    return target[:, None] == classes, input.float().sigmoid()


def _sample_weights(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """The weight of each sample's class; 1 without weights, and for the background, which has none."""
    if weight.numel() == 0:
        return like.new_ones(())
    inside = target < len(weight)
    chosen = weight[torch.where(inside, target, 0)].to(like.dtype)
    return torch.where(inside, chosen, chosen.new_ones(()))[:, None]


def _check_mode(pool_mode: int) -> None:
    if pool_mode != 1:
        raise absent("roi_align with pool_mode 'max'")


def _computed_in(tensor: Tensor) -> torch.dtype:
    """torchvision's operator takes float32, float64 and float16."""
    return tensor.dtype if tensor.dtype in (torch.float32, torch.float64, torch.float16) else torch.float32


def get_compiler_version() -> str:
    """What stands in mmengine's report of the surroundings."""
    return f"none: operators of torchvision {torchvision.__version__}"


def get_compiling_cuda_version() -> str:
    """The CUDA of torch, whose build torchvision's operators follow."""
    return str(torch.version.cuda or "not available")


PROVIDED: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        nms,
        roi_align_forward,
        roi_align_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}


def absent(name: str) -> UserError:
    """The error for an operator that only compiled mmcv has."""
    return UserError(
        f"the operator {name} needs compiled mmcv, which is not installed",
        fix="install it with make mmcv-ops (minutes, needs a compiler), or choose a detector without it",
    )


class _Operators(ModuleType):
    """The stand-in: what it does not have is a function that says so when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*arguments: Any, **keywords: Any) -> Any:
            raise absent(name)

        refuse.__name__ = name
        return refuse


def provide_operators() -> bool:
    """Register the stand-in unless compiled mmcv is installed; returns whether the stand-in is the one in use.

    Harmless twice; says once, as a warning of the logger "rexdet.mmdet", that it is in use.
    """
    present = sys.modules.get(MODULE)
    if present is not None:
        return isinstance(present, _Operators)
    if importlib.util.find_spec(MODULE) is not None:
        return False
    module = _Operators(MODULE, __doc__)
    module.__spec__ = ModuleSpec(MODULE, loader=None)
    for name, function in PROVIDED.items():
        setattr(module, name, function)
    sys.modules[MODULE] = module
    logger.warning(
        "mmcv has no compiled operators here: nms, RoIAlign and the focal loss are torchvision's (same answers); "
        "detectors that need others ask for make mmcv-ops"
    )
    return True


def operators_in_use() -> str:
    """One phrase for a record: whose operators mmcv uses."""
    if isinstance(sys.modules.get(MODULE), _Operators):
        return f"torchvision {torchvision.__version__} behind {MODULE}"
    return COMPILED
