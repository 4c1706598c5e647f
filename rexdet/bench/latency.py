"""How long any networks take for a batch of images, in every back end, all of them in turn in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from rexdet.bench.alternate import alternate
from rexdet.errors import UserError
from rexdet.inference import optimize_for_inference
from rexdet.zoo import create_model
from rexdet.zoo.costs import cost_of

BATCHES = (1, 16)


def run(
    networks: Sequence[str], *, rounds: int = 15, batches: Sequence[int] = BATCHES, quick: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Rows of each network: "eager, float32, batch 1" and the median milliseconds of a batch of its own image size.

    quick: float32 alone, and no torch.compile. A back end that is not there, or does not take a network, has its reason
    in the place of the number. Raises UserError for a name that there is not, and for the same twice.
    """
    if len(set(networks)) < len(networks):
        raise UserError(f"{', '.join(networks)}: a network is named twice", "--network", "name each once")
    models = {name: (create_model(name).eval(), cost_of(name).size) for name in networks}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    for batch in batches:
        for dtype in (torch.float32,) if quick else (torch.float32, torch.bfloat16):
            for backend in ("eager", *(() if quick else ("compile",)), "onnxruntime", "openvino"):
                what = f"{backend}, {str(dtype).removeprefix('torch.')}, batch {batch}"
                functions: dict[str, Callable[[], object]] = {}
                for name, (model, size) in models.items():
                    example = torch.randn(batch, 3, size, size)
                    try:
                        fast = optimize_for_inference(model, example, backend, dtype=dtype)
                    except UserError as error:
                        rows[name].append({"what": what, "note": str(error)})
                        continue
                    functions[name] = lambda fast=fast, example=example: fast(example)  # type: ignore[misc]
                if functions:
                    for name, seconds in alternate(functions, rounds, what).items():
                        rows[name].append({"what": what, "ours ms": round(seconds * 1e3, 2)})
    return rows
