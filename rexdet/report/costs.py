"""What the networks of a table cost: counted by one rule, and measured where a benchmark has left a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rexdet.errors import UserError
from rexdet.report.counted import Counted, read_counted
from rexdet.report.facts import RowKey
from rexdet.report.reading import Found

RULE = (
    "Parameters: the learnable numbers of the network with its own classifier. MACs: multiply-accumulates of its "
    "convolutions and linear layers for one image of the named size, counted by execution. Neck and heads are not in it"
)
LATENCY = "latency"


@dataclass(frozen=True)
class Cost:
    """parameters, macs: of one network. size: side of the image in pixels."""

    parameters: int
    macs: int
    size: int


@dataclass(frozen=True)
class Latency:
    """milliseconds: median of one batch. batch, dtype, backend, device: how it was measured. source: the run."""

    milliseconds: float
    batch: int
    dtype: str
    backend: str
    device: str
    source: str

    @property
    def conditions(self) -> str:
        """Everything that must be said beside the number."""
        return f"batch {self.batch}, {self.dtype}, {self.backend}, {self.device}"


def count_costs(keys: Sequence[RowKey]) -> dict[str, Cost]:
    """The cost of every network that can be built from its name alone, by name."""
    known = read_counted()
    costs = {}
    for name in dict.fromkeys(key.network for key in keys):
        # What stands behind a name in parentheses is not in the name: it cannot be built from it.
        if "(" in name or "[" in name:
            continue
        counted = known.get(name) or _count(name)
        if counted is not None:
            costs[name] = Cost(*counted)
    return costs


def _count(name: str) -> Counted | None:
    from rexdet.zoo.costs import cost_of

    try:
        found = cost_of(name)
    except UserError:
        # The network of another package or of a file that is not here: a dash.
        return None
    return found.parameters, found.macs, found.size


def latencies(runs: Sequence[Found]) -> dict[str, list[Latency]]:
    """The measured latencies of each network, from records of benchmarks: groups "latency BACKEND DTYPE batch N"."""
    found: dict[str, list[Latency]] = {}
    for one in runs:
        record = one.record
        if record.network is None:
            continue
        for group, numbers in record.metrics.items():
            parts = re.fullmatch(rf"{LATENCY} (\S+) (\S+) batch (\d+)", group)
            if parts is None or numbers.get("ms") is None:
                continue
            entry = Latency(
                float(numbers["ms"] or 0.0), int(parts[3]), parts[2], parts[1], device_of(one), f"run {record.name}"
            )
            found.setdefault(record.network.name, []).append(entry)
    return found


def device_of(one: Found) -> str:
    """The machine of a run, in a few words."""
    hardware = one.record.hardware
    if hardware is None:
        return "machine not told"
    if hardware.accelerators:
        return ", ".join(dict.fromkeys(accelerator.name for accelerator in hardware.accelerators))
    threads = f", {hardware.threads} threads" if hardware.threads else ""
    return f"{hardware.processor or hardware.platform}{threads}"


def single_image(found: Sequence[Latency]) -> Latency | None:
    """The latency that a table of networks shows: float32 at batch 1, in the fastest back end."""
    fitting = [entry for entry in found if entry.batch == 1 and entry.dtype == "float32"]
    return min(fitting, key=lambda entry: entry.milliseconds) if fitting else None
