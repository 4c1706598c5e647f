"""What the networks of a table cost: counted by one rule, and measured where a benchmark has left a record."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rexdet.errors import UserError
from rexdet.report.records.facts import RowKey, row_key
from rexdet.report.records.groups import Group
from rexdet.report.records.reading import Found
from rexdet.report.records.recorded_config import read_config, value_at
from rexdet.report.tables.counted import Counted, read_counted
from rexdet.runs import Network
from rexdet.runs.environment import Hardware

LATENCY = "latency"
_TIMED = re.compile(rf"{LATENCY} (\S+) (\S+) batch (\d{{1,9}})")
# The classes of a network's own classifier, by the side of the image that it is made for.
_OWN_CLASSES = {224: 1000, 32: 10}
# Nobody has trained a network this many times as deep as its name's; to build it takes minutes.
_DEEPEST = 10


@dataclass(frozen=True)
class Rule:
    """What must be equal where costs are held against each other. size: side of the image in pixels.

    classes: of a classifier for a data set; None: each network has its own.
    """

    size: int
    classes: int | None = None

    @property
    def classifier(self) -> str:
        """The classifier in words."""
        return "its own classifier" if self.classes is None else f"a classifier of {self.classes:,} classes"

    def told(self) -> str:
        """What every number of a table is of, in a sentence or two."""
        return (
            f"Parameters: the learnable numbers of the network with {self.classifier}. MACs: multiply-accumulates of "
            f"its convolutions and linear layers for one image of {self.size} x {self.size} pixels, counted by "
            "execution. Neck and heads are not in it."
        )


@dataclass(frozen=True)
class Cost:
    """parameters, macs: of one network. rule: by which it was counted; None where that is not told. by: who counted."""

    parameters: int
    macs: int
    rule: Rule | None
    by: str

    @property
    def how(self) -> str:
        """Of what it is, and who counted it."""
        if self.rule is None:
            return f"of an image or a classifier that is not told, {self.by}"
        return f"at {self.rule.size} px, with {self.rule.classifier}, {self.by}"

    def told(self) -> str:
        """The numbers with all that is known of them."""
        return f"{self.macs / 1e9:.3f} G MACs, {self.parameters / 1e6:.2f} M parameters, {self.how}"


@dataclass(frozen=True)
class Latency:
    """milliseconds: median of one batch. batch, dtype, backend, device: how it was measured. source: the run.

    measured: when the run began.
    """

    milliseconds: float
    batch: int
    dtype: str
    backend: str
    device: str
    source: str
    measured: datetime

    @property
    def conditions(self) -> str:
        """Everything that must be said beside the number."""
        return f"batch {self.batch}, {self.dtype}, {self.backend}, {self.device}"


def count_costs(rows: Mapping[RowKey, Sequence[Network]]) -> dict[str, Cost]:
    """The cost of every network that can be built here, by the name of its row; the largest where a row has several.

    rows: with their networks, as the records of their runs tell them.
    """
    networks: dict[str, list[Network]] = {}
    for row, found in rows.items():
        networks.setdefault(row.network, []).extend(found)
    costs = {}
    for name, several in networks.items():
        counted = [_count(network) for network in several]
        known = [numbers for numbers in counted if numbers is not None]
        if len(known) == len(several) and len({size for _, _, size in known}) == 1:
            parameters, macs, size = (max(numbers) for numbers in zip(*known, strict=True))
            largest = f"the largest of {len(known):,} networks, " if len(known) > 1 else ""
            costs[name] = Cost(parameters, macs, Rule(size), f"{largest}counted for this table")
    return costs


def _count(network: Network) -> Counted | None:
    """The counts of a network; None for one of another package or of a file that is not here."""
    own = read_counted().get(network.name) or _count_named(network.name)
    return _count_changed(network, own[2]) if own and network.overrides else own


def _count_named(name: str) -> Counted | None:
    from rexdet.zoo.costs import cost_of

    try:
        found = cost_of(name)
    except UserError:
        return None
    return found.parameters, found.macs, found.size


def _count_changed(network: Network, size: int) -> Counted | None:
    """The counts of a network that differs from its name's own, for an image of the size that its name is counted for.

    Other packages are not asked: what a record says would be arguments of their constructors, files among them.
    """
    from rexdet.nets.complexity import count
    from rexdet.zoo.registry import skeleton

    depth = network.overrides.get("depth", 1)
    if not isinstance(depth, int | float) or depth > _DEEPEST:
        return None
    try:
        found = count(skeleton(network.name, **network.overrides), (1, 3, size, size))
    except (UserError, ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError):
        # A record may name any numbers: also such as no network can have.
        return None
    return found.parameters, found.macs, size


def recorded_costs(groups: Iterable[Group]) -> list[Cost]:
    """What the runs of a row have counted themselves, a cost a group: of their own image and classifier.

    What a search found differs from seed to seed: the largest of a group's runs.
    """
    costs = []
    for group in groups:
        counted = [one.record.metrics.get("network", {}) for one in group.runs]
        numbers = {(found.get("parameters") or 0.0, found.get("macs") or 0.0) for found in counted}
        if all(parameters and macs for parameters, macs in numbers):
            parameters, macs = (round(max(values)) for values in zip(*numbers, strict=True))
            largest = "the largest that was " if len(numbers) > 1 else ""
            # The runs of a group have one configuration and one data set: one tells of all.
            rule = _recorded_rule(group.runs[0])
            costs.append(Cost(parameters, macs, rule, f"{largest}counted by {group.source}"))
    return costs


def _recorded_rule(one: Found) -> Rule | None:
    """The image and the classifier that a run counted its network with; None where its record does not tell both."""
    config = read_config(one.record.config or "", one.record.engine)
    size = value_at(config, "protocol.image_size") or value_at(config, "pixels.crop")
    train = one.record.data.train
    if type(size) is not int or train is None or not train.classes:
        return None
    classes = len(train.classes)
    return Rule(size, None if _OWN_CLASSES.get(size) == classes else classes)


def latencies(runs: Sequence[Found]) -> dict[str, list[Latency]]:
    """The measured latencies of each network, from records that are done: groups "latency BACKEND DTYPE batch N".

    A network that differs from its name's own has the name of its row, which says in what.
    """
    timed = []
    for one in runs:
        names = [parts for name in one.record.metrics if (parts := _TIMED.fullmatch(name))]
        row = row_key(one.record) if names else None
        if row is not None and one.record.status == "done":
            timed.append((one, row, names))
    devices = told_apart(_machine(one.record.hardware) for one, _, _ in timed)
    found: dict[str, list[Latency]] = {}
    for one, row, names in timed:
        device, source = devices[_machine(one.record.hardware)], f"run {one.record.name}"
        for parts in names:
            if (milliseconds := one.record.metrics[parts[0]].get("ms")) is not None:
                entry = Latency(milliseconds, int(parts[3]), parts[2], parts[1], device, source, one.record.created)
                found.setdefault(row.network, []).append(entry)
    return found


def device_of(one: Found) -> str:
    """The machine of a run, in a few words."""
    return _machine(one.record.hardware)[0]


def _machine(hardware: Hardware | None) -> tuple[str, ...]:
    """The machine in a few words, and further words that may tell it from another of which those are true as well."""
    if hardware is None:
        return ("machine not told",)
    threads = f"{hardware.threads} threads" if hardware.threads else ""
    # Bytes differ from one start of a machine to the next.
    memory = f"{hardware.memory / 2**30:.0f} GiB" if hardware.memory else ""
    cpus = "" if hardware.usable_cpus is None else f"{hardware.usable_cpus} CPUs"
    if hardware.accelerators:
        names = ", ".join(dict.fromkeys(accelerator.name for accelerator in hardware.accelerators))
        return (names, hardware.processor or "", cpus, threads, memory, hardware.platform)
    processor = hardware.processor or hardware.platform
    return (f"{processor}, {threads}" if threads else processor, cpus, memory, hardware.platform)


def told_apart(machines: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Each machine in words that are true of no other one: the first of its own, and as few further ones as do."""
    told = {machine: machine[0] for machine in machines}
    for place in range(1, max(map(len, told), default=0)):
        named = Counter(told.values())
        words: dict[str, set[str]] = {}
        for machine, name in told.items():
            words.setdefault(name, set()).add(_word(machine, place))
        told = {
            machine: f"{name}, {_word(machine, place)}"
            if named[name] > 1 and len(words[name]) > 1 and _word(machine, place)
            else name
            for machine, name in told.items()
        }
    return told


def _word(machine: tuple[str, ...], place: int) -> str:
    return machine[place] if place < len(machine) else ""


def shown_conditions(found: Mapping[str, Sequence[Latency]], networks: Iterable[str]) -> str:
    """The conditions of a column of latencies: those under which most of the networks were measured, then the fastest.

    Of one image in float32; "" where none of the networks was measured so. A column holds one device and back end.
    """
    measured: dict[str, list[float]] = {}
    for network in set(networks):
        for conditions, entry in _latest(found.get(network, ())).items():
            measured.setdefault(conditions, []).append(entry.milliseconds)
    ranked = [(-len(known), sum(sorted(known)), conditions) for conditions, known in measured.items()]
    return min(ranked)[2] if ranked else ""


def single_image(found: Sequence[Latency], conditions: str = "") -> Latency | None:
    """The latency of one image in float32: under these conditions, or under those in which it is shortest."""
    latest = _latest(found)
    if conditions:
        return latest.get(conditions)
    return min(latest.values(), key=lambda entry: entry.milliseconds, default=None)


def _latest(found: Sequence[Latency]) -> dict[str, Latency]:
    """The latest latency of one image in float32 under each of the conditions, which says of how many it is that."""
    measured: dict[str, list[Latency]] = {}
    for entry in found:
        if entry.batch == 1 and entry.dtype == "float32":
            measured.setdefault(entry.conditions, []).append(entry)
    latest = {}
    for conditions, several in measured.items():
        last = max(several, key=lambda entry: (entry.measured, entry.source))
        told = f"the latest of {len(several):,} measurements, {last.source}" if len(several) > 1 else last.source
        latest[conditions] = replace(last, source=told)
    return latest
