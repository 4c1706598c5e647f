"""A network as a function from images to one vector of features an image, as fast as this machine runs it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.inference import optimize_for_inference
from rexdet.nets.features import PYRAMID
from rexdet.weights.checkpoint import Checkpoint
from rexdet.zoo import create_backbone, create_model

logger = logging.getLogger(__name__)

PENULTIMATE = "penultimate"
TAPS = (PENULTIMATE, *PYRAMID)
Backend = Literal["auto", "plain", "eager", "openvino"]
# Writing a network down for OpenVINO takes seconds, which fewer images do not give back.
_WORTH_CONVERTING = 1000

FeatureFunction = Callable[[Tensor], Tensor]


def tapped_network(name: str, checkpoint: Checkpoint | None, tap: str, *, seed: int = 0) -> nn.Module:
    """A network of the zoo that ends at a tap, in evaluation mode.

    tap: "penultimate": what the last linear layer reads, (B, D); "res2" to "res5": {tap: (B, C, H, W)}.
    checkpoint: None for the name's own @tag, or for random weights, which `seed` draws.

    Raises UserError for an unknown tap, and as `create_model` and `create_backbone` do.
    """
    if tap not in TAPS:
        raise UserError(f"there is no tap {tap!r}", fix=f"there are {', '.join(TAPS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if tap == PENULTIMATE:
            return without_classifier(create_model(name, weights=checkpoint)).eval()
        return create_backbone(name, [tap], weights=checkpoint).eval()


def without_classifier(network: nn.Module) -> nn.Module:
    """The same network with its last linear layer (or 1 x 1 convolution that serves as one) taken out, in place.

    (B, 3, H, W) -> (B, D): what that layer read. Raises UserError for a network that ends in no such layer.
    """
    paths = [path for path, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not paths or "." not in f".{paths[-1]}":
        raise UserError(f"{type(network).__name__} has no classifier to take out", fix="tap res5 instead")
    parent, _, leaf = paths[-1].rpartition(".")
    last = network.get_submodule(paths[-1])
    setattr(network.get_submodule(parent), leaf, nn.Flatten() if isinstance(last, nn.Conv2d) else nn.Identity())
    return network


def feature_function(
    network: nn.Module,
    size: int,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    backend: Backend = "auto",
    images: int = 0,
) -> FeatureFunction:
    """(B, 3, H, W) float32 on `device` -> (B, D) float32 on the CPU; maps are averaged over their pixels.

    backend: "plain" runs the network as it is, "eager" its folded form, "openvino" that form in OpenVINO (CPU).
    "auto" takes OpenVINO for many `images` on a CPU where it is installed, else the folded form; where neither can be
    made, or gives other numbers than the network (by more than 1e-4), the network as it is.
    """
    network = network.to(device=device).eval()
    example = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    for candidate in _candidates(backend, device, images):
        if candidate == "plain":
            break
        try:
            fast = optimize_for_inference(network, example, candidate, dtype=dtype)
        except (UserError, RuntimeError) as error:
            if backend != "auto":
                raise
            logger.info("%s does not serve here: %s", candidate, error)
            continue
        return lambda x: _pooled(fast(x))
    plain = network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return _pooled(plain(x.to(dtype=dtype, memory_format=torch.channels_last)))

    return run


def preferred_backend(backend: Backend, device: torch.device, images: int) -> str:
    """The back end that is tried first for so many images; arguments as `feature_function`'s."""
    return _candidates(backend, device, images)[0]


def _candidates(backend: Backend, device: torch.device, images: int) -> tuple[str, ...]:
    if backend != "auto":
        return (backend,)
    is_many = device.type == "cpu" and images >= _WORTH_CONVERTING
    if is_many and importlib.util.find_spec("openvino") is not None:
        return ("openvino", "eager", "plain")
    return ("eager", "plain")


def _pooled(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    if isinstance(outputs, dict):
        (outputs,) = outputs.values()
    values = outputs.float()
    return (values.mean((2, 3)) if values.dim() == 4 else values.flatten(1)).cpu()
