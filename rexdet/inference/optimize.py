"""`optimize_for_inference`: one call, four back ends, the same outputs, checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.inference.compile import compiled_runner, eager_runner
from rexdet.inference.onnxruntime import onnxruntime_runner
from rexdet.inference.openvino import openvino_runner
from rexdet.inference.runners import Outputs, Runner, relative_difference

BACKENDS = ("eager", "compile", "onnxruntime", "openvino")
DTYPES = (torch.float32, torch.bfloat16)
# Largest difference allowed, in units of an output's largest magnitude.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class OptimizedNetwork:
    """The network that `optimize_for_inference` gives: call it as the model that it was made from.

    (B, C, H, W) float -> what the model gives in evaluation mode, without gradients, in the input's dtype.
    difference: the largest difference from the model on the example, relative to each output's largest magnitude.
    """

    runner: Runner
    backend: str
    dtype: torch.dtype
    difference: float

    def __call__(self, x: Tensor) -> Outputs:
        return self.runner(x)


def optimize_for_inference(
    model: nn.Module, example: Tensor, backend: str = "compile", *, dtype: torch.dtype | None = None
) -> OptimizedNetwork:
    """A faster callable with the outputs of `model` in evaluation mode; weights are copied, the model stays as it is.

    model: a ReXNet or ResNet classifier, or a Backbone of one (folded); or any other network of one image tensor (not
        folded).
    example: (B, C, H, W) float32 on the model's device. Its size is compiled for first; others work too.
    backend: "eager" (folded norms, aligned widths, in place), "compile" (torch.compile on that form; without a C++
        compiler it falls back to "eager" with a warning), "onnxruntime" or "openvino" (CPU, optional packages).
    dtype: torch.float32 (None too), whose outputs agree with the model's within 1e-4 of each output's largest magnitude
        (measured on the example: `.difference`), or torch.bfloat16, whose outputs are as exact as bfloat16 is.

    Raises UserError for an unknown back end or dtype and for a missing package, RuntimeError where the check fails.
    """
    if backend not in BACKENDS:
        raise UserError(f"no back end {backend!r}", fix=f"use one of {', '.join(BACKENDS)}")
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in DTYPES:
        raise UserError(f"no inference in {dtype}", fix="use torch.float32 or torch.bfloat16")
    if example.dim() != 4:
        raise UserError(f"the example has the shape {tuple(example.shape)}", fix="give a batch of images (B, C, H, W)")
    runner = _make_runner(model, example, backend, dtype)
    difference = relative_difference(runner(example), _reference(model, example))
    if dtype == torch.float32 and not difference <= TOLERANCE:
        raise RuntimeError(f"{backend} differs from the model by {difference:.1e}, more than {TOLERANCE:.0e}")
    return OptimizedNetwork(runner, backend, dtype, difference)


def _make_runner(model: nn.Module, example: Tensor, backend: str, dtype: torch.dtype) -> Runner:
    if backend == "eager":
        return eager_runner(model, dtype)
    if backend == "compile":
        return compiled_runner(model, dtype)
    if example.device.type != "cpu":
        raise UserError(f"the back end {backend} runs on CPUs, the example is on {example.device}", fix='use "compile"')
    return (onnxruntime_runner if backend == "onnxruntime" else openvino_runner)(model, example, dtype)


def _reference(model: nn.Module, example: Tensor) -> Outputs:
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            return model.eval()(example)
    finally:
        for module, training in modes.items():
            module.training = training
