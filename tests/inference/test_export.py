"""torch.export and ONNX of the backbone with free height and width."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from rexdet.errors import UserError
from rexdet.inference import export_onnx, export_program
from rexdet.inference.runners import relative_difference

SIZES = [(2, 3, 64, 64), (1, 3, 97, 65), (3, 3, 33, 130)]


@pytest.mark.parametrize("folded", [True, False])
def test_exported_program_for_any_size(models: dict[str, nn.Module], folded: bool) -> None:
    backbone = models["backbone"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        program = export_program(backbone, torch.randn(1, 3, 64, 96), folded=folded)
    module = program.module()
    for size in SIZES:
        x = torch.randn(size)
        with torch.no_grad():
            assert relative_difference(module(x), backbone(x)) < 1e-4


@pytest.mark.parametrize("folded", [True, False])
def test_onnx_for_any_size(models: dict[str, nn.Module], folded: bool, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the exported file is run by ONNX Runtime")
    pytest.importorskip("onnxscript", reason="torch writes ONNX through onnxscript")
    backbone = models["backbone"]
    path = export_onnx(backbone, tmp_path / "backbone.onnx", torch.randn(1, 3, 64, 96), folded=folded)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["res5", "res2", "expand5"]
    for size in SIZES:
        x = torch.randn(size)
        values = dict(zip(names, map(torch.from_numpy, session.run(None, {"image": x.numpy()})), strict=True))
        with torch.no_grad():
            expected = backbone(x)
        assert {name: value.shape for name, value in values.items()} == {n: v.shape for n, v in expected.items()}
        assert relative_difference(values, expected) < 1e-4


def test_training_mode_is_given_back(models: dict[str, nn.Module]) -> None:
    backbone = models["backbone"].train()
    export_program(backbone, torch.randn(1, 3, 64, 64), dynamic=False, folded=False)
    assert all(part.training for part in backbone.modules())


def test_an_example_too_small_to_stand_for_every_size(models: dict[str, nn.Module]) -> None:
    with pytest.raises(UserError, match="dynamic=False"):
        export_program(models["backbone"], torch.randn(1, 3, 32, 64))
    assert export_program(models["backbone"], torch.randn(1, 3, 32, 64), dynamic=False) is not None
