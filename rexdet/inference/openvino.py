"""The OpenVINO back end: the fastest on CPUs, no compiler, one optional package."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.inference.export import SMALLEST_SIDE, export_program, feature_names, output_names, quiet_exporter
from rexdet.inference.runners import Outputs, Runner, joined

_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16"}


class _Network:
    """`model` compiled for one image at a time.

    A single image is shared out over all threads. A batch is a queue of images, each on a thread of its own: no thread
    waits for another, and an image's maps stay in its core's cache.
    """

    def __init__(self, model: nn.Module, example: Tensor, dtype: torch.dtype) -> None:
        self.openvino = _load_openvino()
        self.precision = _PRECISION[dtype]
        self.names = output_names(model)
        self.as_mapping = bool(feature_names(model))
        image = example[:1].detach().float().cpu().contiguous()
        self.core = self.openvino.Core()
        program = export_program(model, image, dynamic=min(image.shape[2:]) >= SMALLEST_SIDE)
        with quiet_exporter():
            self.graph = self.openvino.convert_model(program)
        self.shape = tuple(image.shape[1:])
        # Other sizes than the example's run in a form for any size, made when the first of them comes.
        self.requests: dict[tuple[int, ...] | None, Any] = {}
        self.queues: dict[tuple[int, ...] | None, Any] = {}

    def run(self, x: Tensor) -> Outputs:
        x = x.detach().float().contiguous()
        shape = self.shape if tuple(x.shape[1:]) == self.shape else None
        if x.shape[0] == 1:
            if shape not in self.requests:
                self.requests[shape] = self._compiled(shape, streams=1).create_infer_request()
            self.requests[shape].infer([x.numpy()], share_inputs=True)
            return self._outputs(self.requests[shape])
        return self._run_queue(x, shape)

    def _run_queue(self, x: Tensor, shape: tuple[int, ...] | None) -> Outputs:
        if shape not in self.queues:
            streams = torch.get_num_threads()
            self.queues[shape] = self.openvino.AsyncInferQueue(self._compiled(shape, streams=streams), streams)
        queue = self.queues[shape]
        found: list[Outputs | None] = [None] * x.shape[0]

        def keep(request: Any, position: int) -> None:
            found[position] = self._outputs(request)

        queue.set_callback(keep)
        images = x.numpy()
        for position in range(x.shape[0]):
            queue.start_async([images[position : position + 1]], position, share_inputs=True)
        queue.wait_all()
        return joined([outputs for outputs in found if outputs is not None])

    def _compiled(self, shape: tuple[int, ...] | None, streams: int) -> Any:
        graph = self.graph
        if shape is not None:
            graph = graph.clone()
            graph.reshape([1, *shape])
        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        return self.core.compile_model(graph, "CPU", settings)

    def _outputs(self, request: Any) -> Outputs:
        # The request's memory is used again by the next image: what is kept is a copy.
        values = [
            torch.from_numpy(request.get_output_tensor(position).data.copy()) for position in range(len(self.names))
        ]
        return dict(zip(self.names, values, strict=True)) if self.as_mapping else values[0]


def openvino_runner(model: nn.Module, example: Tensor, dtype: torch.dtype) -> Runner:
    """`model` in OpenVINO on the CPU, computing in `dtype` (float32 or bfloat16); any batch size.

    Height and width are free where the example has at least 33 pixels a side.

    Raises UserError where the package is missing.
    """
    return _Network(model, example, dtype).run


def _load_openvino() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise UserError("the back end openvino is not installed", fix="pip install openvino") from error
