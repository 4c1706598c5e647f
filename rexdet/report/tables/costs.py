"""What the networks of a table cost: counted by one rule, and measured where a benchmark has left a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rexdet.errors import UserError
from rexdet.report.records.facts import RowKey, row_key
from rexdet.report.records.reading import Found
from rexdet.report.tables.counted import Counted, read_counted

RULE = (
    "Parameters: the learnable numbers of the network with its own classifier. MACs: multiply-accumulates of its "
    "convolutions and linear layers for one image of the named size, counted by execution. Neck and heads are not in it"
)
LATENCY = "latency"
_TIMED = re.compile(rf"{LATENCY} (\S+) (\S+) batch (\d{{1,9}})")


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
    """The measured latencies of each network, from records that are done: groups "latency BACKEND DTYPE batch N".

    A network that differs from its name's own has the name of its row, which says in what.
    """
    found: dict[str, list[Latency]] = {}
    for one in runs:
        metrics = one.record.metrics
        timed = [(parts, numbers) for name, numbers in metrics.items() if (parts := _TIMED.fullmatch(name))]
        row = row_key(one.record) if timed else None
        if row is None or one.record.status != "done":
            continue
        for parts, numbers in timed:
            if (milliseconds := numbers.get("ms")) is not None:
                source = f"run {one.record.name}"
                entry = Latency(milliseconds, int(parts[3]), parts[2], parts[1], device_of(one), source)
                found.setdefault(row.network, []).append(entry)
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


def shown_conditions(found: Mapping[str, Sequence[Latency]], networks: Iterable[str]) -> str:
    """The conditions of a column of latencies: those under which most of the networks were measured, then the fastest.

    Of one image in float32; "" where none of the networks was measured so. A column holds one device and back end.
    """
    measured: dict[str, dict[str, float]] = {}
    for network in set(networks):
        for entry in filter(_is_single, found.get(network, ())):
            known = measured.setdefault(entry.conditions, {})
            known[network] = min(entry.milliseconds, known.get(network, entry.milliseconds))
    ranked = [(-len(known), sum(known.values()), conditions) for conditions, known in measured.items()]
    return min(ranked)[2] if ranked else ""


def single_image(found: Sequence[Latency], conditions: str = "") -> Latency | None:
    """The shortest latency of one image in float32: under these conditions, or under any."""
    fitting = [entry for entry in found if _is_single(entry) and conditions in ("", entry.conditions)]
    return min(fitting, key=lambda entry: entry.milliseconds) if fitting else None


def _is_single(entry: Latency) -> bool:
    return entry.batch == 1 and entry.dtype == "float32"
