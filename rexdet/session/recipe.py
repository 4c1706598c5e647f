"""What a run is measured against before it begins: its recipe, and what the machine has room for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rexdet.errors import UserError
from rexdet.job import DetectionJob


def output_folder(job: DetectionJob, configured: str) -> Path:
    """The run's folder: --output, else what the config sets, else output/<config's name>."""
    if job.output:
        return Path(job.output)
    if configured not in ("", "./output", "output"):
        return Path(configured)
    return Path("output") / Path(job.config).stem


def check_shared_memory(workers: int, per_process_batch: int, largest_side: int, key: str) -> None:
    """Raise UserError where the workers' batches do not fit into /dev/shm: torch would end in a bus error, hours in.

    largest_side: px, of a training picture. key: where the config says how many workers there are.
    """
    if workers == 0 or not Path("/dev/shm").is_dir():
        return
    # Each worker holds two batches ahead; a picture has three channels of a byte each.
    needed = workers * 2 * per_process_batch * 3 * largest_side**2
    free = shutil.disk_usage("/dev/shm").free
    if needed > free:
        raise UserError(
            f"{workers} workers need up to {needed / 2**20:.0f} MiB of shared memory, and {free / 2**20:.0f} MiB "
            "are free",
            where="/dev/shm",
            fix=f"give the container more (docker run --shm-size 8g), or lower {key}",
        )


def lr_mismatch(base_lr: float, effective_batch: int, reference: tuple[int, float], key: str) -> str | None:
    """A line where learning rate and batch do not fit each other, judged by the recipe's ratio of the two.

    reference: the recipe's batch and learning rate. key: how the config sets the rate, with {rate}.
    The linear rule (Goyal et al., arXiv 1706.02677): at k times the batch, k times the learning rate.
    """
    batch, rate = reference
    fitting = rate * effective_batch / batch
    if 0.67 <= base_lr / fitting <= 1.5:
        return None
    return (
        f"learning rate {base_lr:g} at an effective batch of {effective_batch} does not follow the recipe's "
        f"{rate:g} at {batch}; scaled to this batch it is {fitting:.6g} ({key.format(rate=f'{fitting:.6g}')})"
    )


def recipe_differences(actual: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    """Where a run differs from its config file, which states the recipe, a line for each key that both have."""
    return [
        f"{key.replace('_', ' ')}: {value} here, {recipe[key]} in the config file"
        for key, value in actual.items()
        if key in recipe and recipe[key] != value
    ]


def refuse_unknown_weights(weights: str) -> None:
    """Raise UserError where a `--weights` value is neither a file nor a name@tag."""
    if weights and not Path(weights).exists() and "@" not in weights:
        raise UserError("no such file, and no name@tag of a published checkpoint", where=weights)
