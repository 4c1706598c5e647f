"""The backbone as a graph: torch.export and ONNX, with any height and width."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from torch import Tensor, nn

from rexdet.detectron2 import build_bottom_up

SIZES = [(1, 64, 96), (1, 97, 131), (2, 160, 64)]


def make_backbone(name: str) -> nn.Module:
    """A backbone in evaluation mode whose running statistics are not those of a fresh network."""
    torch.manual_seed(0)
    backbone = build_bottom_up(name, overrides={"depth": 0.2})
    with torch.no_grad():
        for size in (64, 96):
            backbone.train()(torch.randn(2, 3, size, size))
    return backbone.eval()


def export(backbone: nn.Module) -> torch.export.ExportedProgram:
    batch, height, width = (torch.export.Dim(name, min=low) for name, low in [("b", 1), ("h", 33), ("w", 33)])
    example = torch.randn(2, 3, 128, 160)
    return torch.export.export(backbone, (example,), dynamic_shapes=({0: batch, 2: height, 3: width},))


def assert_same(maps: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(maps) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(maps[name], value, rtol=0.0, atol=1e-4 * value.abs().max().item(), msg=name)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return make_backbone("rexnet_1.0")


@pytest.fixture(scope="module")
def program(backbone: nn.Module) -> torch.export.ExportedProgram:
    return export(backbone)


@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_torch_export(
    backbone: nn.Module, program: torch.export.ExportedProgram, batch: int, height: int, width: int
) -> None:
    image = torch.randn(batch, 3, height, width)
    with torch.no_grad():
        assert_same(program.module()(image), backbone(image))


def test_onnx(backbone: nn.Module, program: torch.export.ExportedProgram, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "backbone.onnx"
    names = list(backbone.out_features)
    torch.onnx.export(program, (), str(path), input_names=["image"], output_names=names, optimize=False, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == names
    for batch, height, width in SIZES:
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            expected = backbone(image)
        values = session.run(names, {"image": image.numpy()})
        assert_same({name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}, expected)
