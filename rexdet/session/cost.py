"""What a whole run would cost, told from one batch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor, nn

from rexdet.processes import world_size
from rexdet.runs.environment import peak_memory
from rexdet.session.say import say

# On a CPU a whole batch may take minutes: it is measured at these sizes and the rest is drawn on as a line.
CPU_BATCHES = (1, 2)
BYTES_PER_PARAMETER_IN_CHECKPOINT = 8  # float32 weights and one float32 of optimiser state


@dataclass(frozen=True)
class Measured:
    """One forward and backward pass: images, seconds, peak memory in bytes."""

    images: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Cost:
    """What the cost of a run hangs on.

    forward_passes: of the whole run, each of `per_process_batch` pictures a process. length: of the run, in words.
    checkpoints: how many are written. output: the run's folder.
    """

    backbone: str
    per_process_batch: int
    effective_batch: int
    base_lr: float
    forward_passes: int
    length: str
    checkpoints: int
    output: Path


def sizes_to_measure(per_process_batch: int, device: torch.device) -> list[int]:
    """The batches that are measured: the run's own, or on a CPU the smallest."""
    if device.type == "cpu":
        return [size for size in CPU_BATCHES if size <= per_process_batch]
    return [per_process_batch]


def measure_pass(
    detector: nn.Module, losses: Callable[[], Iterable[Tensor]], images: int, device: torch.device
) -> Measured:
    """Time one forward and backward pass. losses: the forward pass over `images` pictures, giving the loss terms."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    torch.stack([loss.float() for loss in losses()]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begun
    detector.zero_grad(set_to_none=True)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory().host or 0
    return Measured(images, seconds, memory)


def tell_cost(cost: Cost, detector: nn.Module, measured: list[Measured], evaluation: float) -> None:
    """Print the cost as a table. evaluation: seconds that one evaluation takes."""
    per_process = cost.per_process_batch
    exact = measured[-1].images == per_process
    mark = "" if exact else f" (extrapolated from batches of {' and '.join(str(m.images) for m in measured)})"
    seconds = measured[-1].seconds if exact else _extrapolate([(m.images, m.seconds) for m in measured], per_process)
    memory = measured[-1].memory if exact else _extrapolate([(m.images, m.memory) for m in measured], per_process)
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    disk = cost.checkpoints * parameters * BYTES_PER_PARAMETER_IN_CHECKPOINT
    existing = next(folder for folder in (cost.output, *cost.output.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    rows = [
        ("backbone", cost.backbone),
        ("parameters", f"{parameters / 1e6:.3f}M"),
        ("effective batch", str(cost.effective_batch)),
        ("learning rate", f"{cost.base_lr:g}"),
        ("peak memory", f"{memory / 2**30:.2f} GiB{mark}"),
        ("images/s", f"{per_process * world_size() / seconds:.2f}{mark}"),
        ("training", f"{_duration(seconds * cost.forward_passes)} for {cost.length}{mark}"),
        ("evaluation", f"{_duration(evaluation)} (from one picture)"),
        ("disk", f"{disk / 2**30:.2f} GiB in {cost.checkpoints} checkpoints; free {free:.0f} GiB"),
    ]
    say(tabulate(rows, tablefmt="plain"))


def tell_differences(differences: list[str], mismatch: str | None) -> None:
    """Print where the run differs from its recipe, and a warning about its learning rate."""
    for line in differences:
        say(f"differs from the recipe: {line}")
    if mismatch:
        say(f"warning: {mismatch}")


def _extrapolate(points: list[tuple[int, float]], at: int) -> float:
    """The line through the last two points (a single point: through the origin), at `at`; never below the last."""
    (x1, y1) = points[-1]
    (x0, y0) = points[-2] if len(points) > 1 else (0, 0.0)
    return max(y1 + (y1 - y0) / (x1 - x0) * (at - x1), y1)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
