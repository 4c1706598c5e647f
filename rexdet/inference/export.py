"""A network as a file or graph for other programs: `torch.export` and ONNX, with free height and width."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.files import write_bytes_atomically
from rexdet.inference.fold import fold
from rexdet.nets.layers import MaxPool2d

ONNX_OPSET = 18
# torch.export takes a size of 1 for a size of its own, and the last map of a smaller image has it.
SMALLEST_SIDE = 33
LARGEST_SIDE = 65_536


def export_program(
    model: nn.Module, example: Tensor, *, dynamic: bool = True, folded: bool = True
) -> torch.export.ExportedProgram:
    """`model` in evaluation mode as a torch.export program.

    example: (B, C, H, W) float; the channels are fixed to its own.
    dynamic: leave the batch size, height and width (33 to 65,536 pixels) free, else fixed too.
    folded: export the form of `fold`, which is faster in every back end; False keeps layers and widths as they are.
    Outputs are those of `model`: logits, or a dictionary of feature maps.

    Raises UserError for an example too small to leave its size free, and for a network (of another package) whose
    forward cannot be exported so.
    """
    if dynamic and min(example.shape[2:]) < SMALLEST_SIDE:
        raise UserError(
            f"an example of {example.shape[2]} x {example.shape[3]} pixels cannot stand for every size",
            fix=f"give one of at least {SMALLEST_SIDE} pixels a side, or dynamic=False",
        )
    module = fold(model) if folded else model
    if folded and dynamic:
        _take_exportable_pooling(module)
    modes = {part: part.training for part in module.modules()}
    sizes = {
        0: torch.export.Dim("batch", min=1, max=LARGEST_SIDE),
        2: torch.export.Dim("height", min=SMALLEST_SIDE, max=LARGEST_SIDE),
        3: torch.export.Dim("width", min=SMALLEST_SIDE, max=LARGEST_SIDE),
    }
    if dynamic and example.shape[0] == 1:
        example = example.expand(2, -1, -1, -1)  # torch.export would take a batch of 1 for a size of its own.
    try:
        with torch.no_grad(), quiet_exporter():
            return torch.export.export(
                module.eval(), (example,), dynamic_shapes=(sizes,) if dynamic else None, strict=False
            )
    except torch._dynamo.exc.UserError as error:
        raise UserError(
            f"{type(model).__name__} cannot be exported: {str(error).splitlines()[0]}",
            fix="give dynamic=False, for images of the example's size" if dynamic else "",
        ) from error
    finally:
        for part, training in modes.items():
            part.training = training


def output_names(model: nn.Module) -> list[str]:
    """Names of the outputs in an exported file: the feature names of a backbone, "logits" of a classifier."""
    return feature_names(model) or ["logits"]


def feature_names(model: nn.Module) -> list[str]:
    """The feature maps that a backbone gives, of ours or over another package's network; [] for a classifier."""
    names = getattr(model, "out_features", ())
    return list(names) if isinstance(names, tuple) else []


def _take_exportable_pooling(model: nn.Module) -> None:
    """Put max-pooling that exports with free height and width where torch's own is, in place."""
    for parent in model.modules():
        for name, pool in parent.named_children():
            if type(pool) is not nn.MaxPool2d or pool.ceil_mode or pool.return_indices or pool.dilation != 1:
                continue
            if all(isinstance(value, int) for value in (pool.kernel_size, pool.stride, pool.padding)):
                setattr(parent, name, MaxPool2d(pool.kernel_size, pool.stride, pool.padding))


def onnx_bytes(model: nn.Module, example: Tensor, *, dynamic: bool = True, folded: bool = True) -> bytes:
    """`model` as the bytes of an ONNX file with the input `image` and the outputs of `output_names`.

    Arguments as in `export_program`. Raises UserError where the packages onnx and onnxscript are missing.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"ONNX export needs the package {package}", fix="pip install onnx onnxscript")
    program = export_program(model, example, dynamic=dynamic, folded=folded)
    with quiet_exporter():
        exported: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=ONNX_OPSET,
            input_names=["image"],
            output_names=output_names(model),
            verbose=False,
        )
    buffer = io.BytesIO()
    exported.save(buffer)
    return buffer.getvalue()


def export_onnx(
    model: nn.Module, path: str | Path, example: Tensor, *, dynamic: bool = True, folded: bool = True
) -> Path:
    """Write `model` to an ONNX file (input `image`, one output a feature map, or `logits`); returns the path.

    Arguments and errors as in `export_program` and `onnx_bytes`; the file is written atomically.
    """
    path = Path(path)
    write_bytes_atomically(path, onnx_bytes(model, example, dynamic=dynamic, folded=folded))
    return path


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence torch's warnings of its own deprecated calls and the log of optimiser passes: no user can act on them."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
