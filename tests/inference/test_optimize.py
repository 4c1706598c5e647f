"""`optimize_for_inference`: every back end gives the model's outputs, for any size, or says what is missing."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import rexdet.inference.compile as compile_module
from rexdet.errors import UserError
from rexdet.inference import optimize_for_inference
from rexdet.inference.runners import in_pieces, relative_difference
from rexdet.nets import Backbone, ResNet, ReXNet

PACKAGES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
SIZES = [(1, 3, 97, 65), (5, 3, 64, 48)]


def need(backend: str) -> None:
    for package in PACKAGES.get(backend, ()):
        pytest.importorskip(package, reason=f"the back end {backend} needs {package}")
    if backend == "compile" and compile_module.compiler() is None:
        pytest.skip("torch.compile needs a C++ compiler")


@pytest.mark.parametrize("kind", ["classifier", "backbone"])
@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_same_outputs_for_every_size(models: dict[str, nn.Module], kind: str, backend: str) -> None:
    need(backend)
    model = models[kind]
    fast = optimize_for_inference(model, torch.randn(3, 3, 64, 64), backend)
    assert fast.difference < 1e-4
    for size in SIZES:
        x = torch.randn(size)
        with torch.no_grad():
            expected = model(x)
        ours = fast(x)
        assert relative_difference(ours, expected) < 1e-4
        if isinstance(expected, dict):
            assert isinstance(ours, dict)
            assert list(ours) == list(expected)


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_a_resnet_too(vary: Callable[[nn.Module], nn.Module], backend: str) -> None:
    need(backend)
    arguments: dict[str, Any] = {"cardinality": 4, "base_width": 8}
    model = Backbone(vary(ResNet((1, 1, 1, 1), **arguments)), ("res5", "res2")).eval()
    fast = optimize_for_inference(model, torch.randn(2, 3, 64, 64), backend)
    assert fast.difference < 1e-4
    x = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        assert relative_difference(fast(x), model(x)) < 1e-4


def test_compiled(make_network: Callable[..., ReXNet]) -> None:
    need("compile")
    # The first stages alone: the compiler takes half a minute for the whole, and what it leaves out costs nothing.
    model = Backbone(make_network(), ("res3", "res2")).eval()
    fast = optimize_for_inference(model, torch.randn(1, 3, 64, 64))
    assert fast.backend == "compile"
    assert fast.difference < 1e-4


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_bfloat16(models: dict[str, nn.Module], backend: str) -> None:
    need(backend)
    x = torch.randn(2, 3, 64, 64)
    fast = optimize_for_inference(models["classifier"], x, backend, dtype=torch.bfloat16)
    logits = fast(x)
    assert isinstance(logits, torch.Tensor)
    assert logits.dtype == torch.float32
    assert fast.difference < 0.05


def test_small_images_have_a_fixed_size(models: dict[str, nn.Module]) -> None:
    need("openvino")
    assert optimize_for_inference(models["classifier"], torch.randn(4, 3, 32, 32), "openvino").difference < 1e-4


def test_without_a_compiler_the_eager_form_stands_in(
    models: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    x = torch.randn(1, 3, 64, 64)
    with pytest.warns(RuntimeWarning, match=r"C\+\+ compiler"):
        fast = optimize_for_inference(models["classifier"], x, "compile")
    assert fast.difference < 1e-4


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_missing_package_names_the_command(
    models: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == backend:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UserError, match=f"pip install {backend}"):
        optimize_for_inference(models["classifier"], torch.randn(1, 3, 64, 64), backend)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"backend": "tensorrt"}, "tensorrt"),
        ({"backend": "eager", "dtype": torch.float16}, "float16"),
        ({"backend": "onnxruntime", "dtype": torch.bfloat16}, "bfloat16"),
    ],
)
def test_what_is_not_offered(models: dict[str, nn.Module], arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        optimize_for_inference(models["classifier"], torch.randn(1, 3, 64, 64), **arguments)


def test_an_example_that_is_no_batch(models: dict[str, nn.Module]) -> None:
    with pytest.raises(UserError, match="batch"):
        optimize_for_inference(models["classifier"], torch.randn(3, 64, 64), "eager")


def test_the_model_keeps_its_mode(models: dict[str, nn.Module]) -> None:
    model = models["classifier"].train()
    model.stem.eval()  # type: ignore[union-attr, operator]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize_for_inference(model, torch.randn(1, 3, 64, 64), "eager")
    assert model.training
    assert not model.stem.training  # type: ignore[union-attr]


def test_an_optimizer_that_goes_wrong_is_found_out(
    models: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize = importlib.import_module("rexdet.inference.optimize")
    monkeypatch.setattr(optimize, "eager_runner", lambda model, dtype: lambda x: model.eval()(x).detach() * 1.01)
    with pytest.raises(RuntimeError, match="differs"):
        optimize_for_inference(models["classifier"], torch.randn(1, 3, 64, 64), "eager")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_make_the_whole(size: int) -> None:
    x = torch.randn(5, 2, 3, 3)
    joined = in_pieces(lambda piece: {"a": piece * 2, "b": piece.sum((2, 3))}, x, size)
    assert isinstance(joined, dict)
    assert torch.equal(joined["a"], x * 2)
    assert torch.equal(joined["b"], x.sum((2, 3)))
