"""Our network beside timm's: inference in every back end, a training step, and what freezing saves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.bench.alternate import alternate
from rexdet.errors import UserError
from rexdet.inference import optimize_for_inference
from rexdet.nets import Backbone, ReXNet
from rexdet.zoo import create_model

SIZE = 224
TRAINING_BATCH = 8
# Ours -> timm's name for the same network.
PEERS = {f"rexnet_{width}": f"rexnet_{round(float(width) * 100)}" for width in ("1.0", "1.3", "1.5", "2.0", "3.0")}


def run(
    network: str = "rexnet_1.0", *, rounds: int = 15, batches: tuple[int, ...] = (16, 1), quick: bool = False
) -> list[dict[str, Any]]:
    """Rows of one run: what, timm's and our milliseconds, and how many times faster ours is.

    quick: float32 only and no torch.compile. Raises UserError where timm is missing or has no such network.
    """
    peer = _peer(network)
    own = create_model(network).eval()
    rows = []
    dtypes = (torch.float32,) if quick else (torch.float32, torch.bfloat16)
    for batch in batches:
        example = torch.randn(batch, 3, SIZE, SIZE)
        for dtype in dtypes:
            rows += _inference_rows(own, peer, example, dtype, rounds, quick)
    rows += _training_rows(own, peer, max(rounds // 3, 3))
    rows += _freezing_rows(max(rounds // 3, 3))
    return rows


def _peer(network: str) -> nn.Module:
    if network not in PEERS:
        raise UserError(f"timm has no counterpart of {network}", fix=f"use one of {', '.join(PEERS)}")
    try:
        import timm
    except ImportError:
        raise UserError("timm is not installed", fix="pip install timm") from None
    return timm.create_model(PEERS[network]).eval()


def _inference_rows(
    own: nn.Module, peer: nn.Module, example: Tensor, dtype: torch.dtype, rounds: int, quick: bool
) -> list[dict[str, Any]]:
    rows = []
    batch = example.shape[0]
    name = str(dtype).removeprefix("torch.")
    reference = 0.0
    for backend in ("eager", "channels_last", *(() if quick else ("compile",)), "onnxruntime", "openvino"):
        if backend == "onnxruntime" and dtype is not torch.float32:
            continue
        try:
            functions = _pair(own, peer, example, dtype, backend)
        except UserError as error:
            rows.append({"what": f"{backend}, {name}, batch {batch}", "note": str(error)})
            continue
        seconds = alternate(functions, rounds, f"{backend} {name} batch {batch}")
        reference = reference or seconds["timm"]
        rows.append(_row(f"{backend}, {name}, batch {batch}", seconds, reference))
    return rows


def _pair(
    own: nn.Module, peer: nn.Module, example: Tensor, dtype: torch.dtype, backend: str
) -> dict[str, Callable[[], object]]:
    """The same back end for both; eager and channels_last: timm's network as it is, ours folded."""
    if backend in ("eager", "channels_last"):
        layout = torch.channels_last if backend == "channels_last" else torch.contiguous_format
        ours = optimize_for_inference(own, example, "eager", dtype=dtype)
        theirs = _in_layout(copy.deepcopy(peer).to(dtype), layout)
        x = example.to(dtype=dtype, memory_format=layout)

        def plain() -> object:
            with torch.no_grad():
                return theirs(x)

        return {"timm": plain, "ours": lambda: ours(example)}
    theirs_fast = optimize_for_inference(peer, example, backend, dtype=dtype)
    ours_fast = optimize_for_inference(own, example, backend, dtype=dtype)
    return {"timm": lambda: theirs_fast(example), "ours": lambda: ours_fast(example)}


def _in_layout(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    # nn.Module.to takes a memory format, which its type hints do not say.
    return network.to(memory_format=layout)  # type: ignore[call-overload]


def _training_rows(own: nn.Module, peer: nn.Module, rounds: int) -> list[dict[str, Any]]:
    rows = []
    images, labels = torch.randn(TRAINING_BATCH, 3, SIZE, SIZE), torch.arange(TRAINING_BATCH)
    for layout_name, layout in (("eager", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = images.to(memory_format=layout)
        functions = {
            name: _step(_in_layout(network, layout).train(), x, labels)
            for name, network in (("timm", peer), ("ours", own))
        }
        seconds = alternate(functions, rounds, f"training step, {layout_name}")
        rows.append(_row(f"training step, {layout_name}, batch {TRAINING_BATCH}", seconds))
    return rows


def _step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def _freezing_rows(rounds: int) -> list[dict[str, Any]]:
    """A training step of the backbone alone with FREEZE_AT 2 against 0: same weights, same norm."""
    rows = []
    x = torch.randn(TRAINING_BATCH, 3, SIZE, SIZE)
    for norm in ("FrozenBN", "BN"):
        functions = {}
        for freeze_at in (0, 2):
            backbone = Backbone(ReXNet(1.0, norm=norm), freeze_at=freeze_at).train()
            functions[f"FREEZE_AT {freeze_at}"] = _backbone_step(backbone, x)
        seconds = alternate(functions, rounds, f"freezing, {norm}")
        ratio = seconds["FREEZE_AT 2"] / seconds["FREEZE_AT 0"]
        rows.append({"what": f"backbone step, FREEZE_AT 2 / 0, {norm}", "ratio": round(ratio, 3)})
    return rows


def _backbone_step(backbone: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack([feature.mean() for feature in backbone(x).values()]).sum().backward()
        optimizer.step()

    return step


def _row(what: str, seconds: dict[str, float], reference: float = 0.0) -> dict[str, Any]:
    row: dict[str, Any] = {
        "what": what,
        "timm ms": round(seconds["timm"] * 1e3, 1),
        "ours ms": round(seconds["ours"] * 1e3, 1),
        "timm / ours": round(seconds["timm"] / seconds["ours"], 2),
    }
    if reference:
        row["timm eager / ours"] = round(reference / seconds["ours"], 2)
    return row
