"""The ONNX Runtime back end: no compiler, one optional package (and onnx, onnxscript to write the graph)."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.inference.export import SMALLEST_SIDE, feature_names, onnx_bytes, output_names
from rexdet.inference.runners import Outputs, Runner, images_at_a_time, in_pieces

IMAGES_AT_A_TIME = 2


def onnxruntime_runner(model: nn.Module, example: Tensor, dtype: torch.dtype) -> Runner:
    """`model` in ONNX Runtime on the CPU, float32; batch, height and width are free where the example has at least 33
    pixels a side, else they are its own.

    Raises UserError where the package is missing, or for bfloat16, for which its CPU kernels have no convolution.
    """
    if dtype != torch.float32:
        raise UserError(f"ONNX Runtime has no {dtype} convolutions for CPUs", fix='use backend "openvino" or "compile"')
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            "the back end onnxruntime is not installed", fix="pip install onnxruntime onnx onnxscript"
        ) from error
    names = output_names(model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    as_mapping = bool(feature_names(model))
    free = min(example.shape[2:]) >= SMALLEST_SIDE
    graph = onnx_bytes(model, example.detach().float().cpu(), dynamic=free)
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run_piece(x: Tensor) -> Outputs:
        values = session.run(names, {"image": x.numpy()})
        outputs = dict(zip(names, map(torch.from_numpy, values), strict=True))
        return outputs if as_mapping else outputs["logits"]

    def run(x: Tensor) -> Outputs:
        return in_pieces(run_piece, x.detach().float().contiguous(), images_at_a_time(x, IMAGES_AT_A_TIME))

    def run_fixed(x: Tensor) -> Outputs:
        return run_piece(x.detach().float().contiguous())

    return run if free else run_fixed
