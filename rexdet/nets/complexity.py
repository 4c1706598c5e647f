"""What a network costs, counted from what it executes: multiply-accumulates, parameters, activations."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rexdet.nets.without_data import norm_without_data


@dataclass(frozen=True)
class Complexity:
    """macs: multiply-accumulates of convolutions and linear layers for the whole input.
    parameters: learnable numbers (frozen ones counted too, buffers not).
    activations: numbers that convolutions and linear layers write (Radosavovic et al., arXiv 2003.13678, Sec. 3).
    """

    macs: int
    parameters: int
    activations: int


class _Counter(TorchDispatchMode):
    """Sees every operator that runs, so that functional calls and shared modules are counted as often as they run."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.activations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (written := norm_without_data(func, args)) is not None:
            return written
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name is torch.ops.aten.convolution:
            # A transposed convolution multiplies once an input element, an ordinary one once an output element.
            weight, transposed = args[1], args[6]
            elements = args[0].numel() if transposed else result.numel()
            self._add(elements * math.prod(weight.shape[1:]), result)
        elif name is torch.ops.aten.addmm:
            self._add(args[1].shape[0] * args[1].shape[1] * args[2].shape[1], result)
        elif name is torch.ops.aten.mm:
            self._add(args[0].shape[0] * args[0].shape[1] * args[1].shape[1], result)
        elif name is torch.ops.aten.bmm:
            self._add(math.prod(args[0].shape) * args[1].shape[2], result)
        return result

    def _add(self, macs: int, result: Tensor) -> None:
        self.macs += macs
        self.activations += result.numel()


def count(module: nn.Module, input_shape: tuple[int, ...] = (1, 3, 224, 224)) -> Complexity:
    """Count what one forward pass of `module` in evaluation mode costs for an input of `input_shape` (B, C, H, W).

    The pass is run on a copy without data ("meta" tensors): exact, and quick for any size.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    counter = _Counter()
    with torch.no_grad(), counter:
        shadow(torch.empty(input_shape, device="meta"))
    return Complexity(counter.macs, count_parameters(module), counter.activations)


def count_parameters(module: nn.Module) -> int:
    """Learnable numbers of `module`, each counted once however often it is shared."""
    return sum(parameter.numel() for parameter in module.parameters())
