"""Several processes: torchrun starts them, gloo connects them on the CPU and NCCL on CUDA.

The same code runs with one process, where every function here is the identity.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn

from rexdet.errors import UserError


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the group that torchrun has set up, if any; gives the device of this process.

    device: "cpu", "cuda" or "cuda:0". Raises UserError for another, and where "cuda" is asked for and there is none.
    """
    if re.fullmatch(r"cpu|cuda(:\d+)?", device) is None:
        raise UserError(f"no device is called {device!r}", fix="give cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("CUDA is asked for, and there is no CUDA device", fix="give --device cpu, or MODEL.DEVICE cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    own = torch.device("cuda", local) if device.startswith("cuda") else torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield own
        return
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield own
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process among all, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and talks."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if distributed.is_initialized():
        distributed.barrier()


def gather(value: Any) -> list[Any]:
    """The values of all processes in the order of their ranks on the main process; an empty list on the others."""
    if not distributed.is_initialized():
        return [value]
    collected: list[Any] | None = [None] * world_size() if is_main() else None
    distributed.gather_object(value, collected)
    return collected or []


def share(value: Any) -> Any:
    """The main process's value, in every process."""
    if not distributed.is_initialized():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def mean(value: float, device: torch.device) -> float:
    """The mean of a number over all processes."""
    if not distributed.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return float(tensor) / world_size()


def share_buffers(modules: Iterable[nn.Module]) -> None:
    """Give every process the main one's buffers.

    Each process moves its own norms' statistics while training, and the main one's are saved: so several processes
    score what is saved, and a resumed run goes on with what an unbroken one has.
    """
    if world_size() == 1:
        return
    for module in modules:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)
