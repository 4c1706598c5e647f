"""The N:M rule: fewer activations than convolutions.

Source: "Training Better CNNs Requires to Rethink ReLU" (arXiv 1709.06247). The paper proposes N convolutions for M
activations with N > M, at no extra cost. Which activations it drops in which network could not be verified, so where
they go is a rule of ours (docs/nm-relu.md):

1. A *unit* is a convolution with the norm behind it; depthwise and grouped convolutions count. Units that read each
   other one after the other, and nothing else, are a *chain*. A chain ends where its map is added, concatenated or read
   by several, so that counting restarts at each residual branch.
2. Of every N units of a chain, counted from its start, the last M keep their activation: unit i (from 0) loses it
   where i mod N < N - M. A unit that has none counts as well.
3. An activation behind a sum or a concatenation belongs to no convolution alone, and stays. `after_sums` takes the one
   behind a sum for that of the last unit of the longest branch that ends there.
4. No chain is left without an activation: where the rule would take all, the last one stays.

What only computes a gate that is multiplied onto the map (squeeze-excitation) is not part of the trunk: it neither
counts nor changes. Activations behind linear layers do not, either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from rexdet.nets.executed import CONVOLUTIONS, DENSE, PRODUCTS, SUMS, ActivationCall, Call, Recording, record
from rexdet.nets.rewire import is_rewired, places, replace_activations

_RATIO = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class ActivationSite:
    """An activation of the trunk, at one of its calls.

    activation: path of the module, or of the module whose forward calls a function, with the turn where one activation
    serves several calls. convolution: path of the convolution whose unit it belongs to, "" for none.
    chain, position: of that unit, both from 0; -1 for none. follows: "convolution", "sum", "concatenation" (any other
    joint of maps, too), "fork" (a map that others read as well) or "activation" (nothing but another activation, a norm
    or pooling before it). Only the first two can be removed.
    """

    activation: str
    convolution: str
    chain: int
    position: int
    follows: str


@dataclass(frozen=True)
class NmReport:
    """What the rule did.

    network: the changed network; the one that was given unless its own forward had to be rewritten.
    removed, kept: every activation of the trunk, in the order of execution. others: activations of gates and behind
    linear layers, which the rule leaves alone. convolutions: of the trunk, as executed.
    leaky: removed activations became leaky ones.
    """

    network: nn.Module
    ratio: str
    removed: tuple[ActivationSite, ...]
    kept: tuple[ActivationSite, ...]
    others: tuple[str, ...]
    convolutions: int
    leaky: bool = False

    def text(self) -> str:
        """The report for a person: the counts, then a line for each activation of the trunk."""
        change = "made leaky" if self.leaky else "removed"
        total = len(self.removed) + len(self.kept)
        lines = [f"{self.ratio}: {len(self.removed)} of {total} activations {change}, {self.convolutions} convolutions"]
        gone = set(map(id, self.removed))
        sites = sorted((*self.removed, *self.kept), key=lambda site: (site.chain, site.position))
        lines += [
            f"{change if id(site) in gone else 'kept':10} {site.activation} (behind a {site.follows}"
            f"{f', {site.convolution}' if site.convolution else ''})"
            for site in sites
        ]
        return "\n".join(lines)


def parse_ratio(ratio: object) -> tuple[int, int]:
    """N and M of "N:M". Raises ValueError for anything but such text with N >= M >= 1; a number is told what it is."""
    if isinstance(ratio, int) and not isinstance(ratio, bool):
        hint = ""
        if ratio > 60 and 1 <= ratio % 60 <= ratio // 60:
            hint = f" ({ratio // 60}:{ratio % 60} without quotes is {ratio} in YAML)"
        raise ValueError(f"the ratio is the number {ratio}{hint}; write it as text, in quotes: '2:1'")
    match = _RATIO.fullmatch(ratio) if isinstance(ratio, str) else None
    if match is None:
        raise ValueError(f"the ratio is {ratio!r}; write N convolutions to M activations as text: '2:1', '3:2'")
    convolutions, activations = int(match[1]), int(match[2])
    if activations > convolutions:
        raise ValueError(f"the ratio {ratio} has more activations than convolutions; write e.g. '2:1'")
    return convolutions, activations


def apply_nm_rule(
    network: nn.Module,
    ratio: str,
    *,
    leaky: bool = False,
    after_sums: bool = False,
    example: Tensor | None = None,
) -> NmReport:
    """Take activations out of a network until N convolutions share M of them.

    network: any network of one image tensor; it is changed, its parameters and state keys stay as they are.
    ratio: "N:M", N >= M >= 1. "1:1" leaves the network as it is.
    leaky: instead of removing an activation f, take the mean of the networks with and without it: z -> (z + f(z)) / 2,
        which for a ReLU is a leaky ReLU of slope 1/2. The paper sees leaky ReLU as such an ensemble. Without the factor
        1/2 (z + f(z)) it is the same function up to a scale, which the next batch norm takes out, but where no norm
        follows maps would grow from layer to layer.
    after_sums: activations behind sums count, too (rule 3 in the module's text).
    example: an input to find out with what the network executes; None for an image of 224 x 224 without data.

    Raises ValueError for a ratio that is none, a network that has the rule already, one that cannot be run or has no
    convolution, and for an activation that cannot be told apart from others (a forward that torch.fx cannot trace). The
    network is then as it was.
    """
    convolutions, activations = parse_ratio(ratio)
    if is_rewired(network):
        raise ValueError("the network has an N:M rule already; apply another one to a network as it was defined")
    recording = record(network, example)
    trunk = _Trunk(recording)
    if not trunk.chains:
        raise ValueError("the network executes no convolution, so there is nothing to count")
    due = _due(trunk.sites, trunk.chains, convolutions, activations, after_sums)
    removed = [site for site in trunk.sites if id(site) in due]
    place_of = places(network, recording)
    return NmReport(
        network=replace_activations(network, recording, [site.call for site in removed], leaky=leaky),
        ratio=ratio,
        removed=tuple(_public(site, place_of[site.call]) for site in removed),
        kept=tuple(_public(site, place_of[site.call]) for site in trunk.sites if id(site) not in due),
        others=tuple(place_of[call] for call in trunk.others),
        convolutions=sum(map(len, trunk.chains)),
        leaky=leaky,
    )


@dataclass(frozen=True, eq=False)
class _Unit:
    path: str
    chain: int
    position: int


@dataclass(frozen=True)
class _Origin:
    """Where a value comes from.

    unit: the convolution that wrote it, through nothing but operators of one map. is_whole: nobody else has read the
    map on the way. joined: the units whose maps were added or concatenated since the last activation. joint: "sum" or
    "concatenation" where it was last. is_activated: an activation lies between.
    """

    unit: _Unit | None = None
    is_whole: bool = True
    joined: tuple[_Unit, ...] = ()
    joint: str = ""
    is_activated: bool = False

    def open_units(self) -> tuple[_Unit, ...]:
        """The units whose maps have met no activation yet."""
        if self.is_activated:
            return ()
        return self.joined if self.unit is None else (self.unit,)


@dataclass(frozen=True, eq=False)
class _Site:
    """An activation of the trunk. unit: which decides about it. covers: those whose joint map it activates."""

    call: ActivationCall
    follows: str
    unit: _Unit | None
    covers: tuple[_Unit, ...] = ()


class _Trunk:
    """Units, chains and activations of what was executed, without what only computes gates."""

    def __init__(self, recording: Recording) -> None:
        self.chains: list[list[_Unit]] = []
        self.sites: list[_Site] = []
        self.others: list[ActivationCall] = []
        self._origins: dict[int, _Origin] = {}
        gates = _gates(recording)
        self._readers = [0] * len(recording.sizes)
        for number, call in enumerate(recording.calls):
            for value in () if number in gates else _map_inputs(call, recording.sizes):
                self._readers[value] += 1
        for number, call in enumerate(recording.calls):
            if number not in gates:
                self._follow(call, _map_inputs(call, recording.sizes))
            elif call.activation is not None:
                self.others.append(call.activation)

    def _follow(self, call: Call, inputs: Sequence[int]) -> None:
        if call.name in CONVOLUTIONS:
            found = _Origin(self._add_unit(call.path, self._read(inputs[0])))
        elif call.name in DENSE:
            found = _Origin()
        elif len(inputs) == 1:
            found = self._read(inputs[0])
            if call.activation is not None:
                found = self._add_site(call.activation, found)
        else:
            operands = [self._read(value) for value in inputs]
            joined = dict.fromkeys(unit for operand in operands for unit in operand.open_units())
            found = _Origin(joined=tuple(joined), joint="sum" if call.name in SUMS else "concatenation")
        if len(call.outputs) > 1:
            found = _Origin(found.unit, False, found.joined, found.joint, found.is_activated)
        for value in call.outputs:
            self._origins[value] = found

    def _read(self, value: int) -> _Origin:
        origin = self._origins.get(value, _Origin())
        is_whole = origin.is_whole and self._readers[value] < 2
        return _Origin(origin.unit, is_whole, origin.joined, origin.joint, origin.is_activated)

    def _add_unit(self, path: str, origin: _Origin) -> _Unit:
        if origin.unit is not None and origin.is_whole:
            unit = _Unit(path, origin.unit.chain, origin.unit.position + 1)
        else:
            unit = _Unit(path, len(self.chains), 0)
            self.chains.append([])
        self.chains[unit.chain].append(unit)
        return unit

    def _add_site(self, call: ActivationCall, origin: _Origin) -> _Origin:
        if origin.is_activated:
            self.sites.append(_Site(call, "activation", None))
        elif not (origin.unit or origin.joint):
            self.others.append(call)
        elif origin.unit is not None and origin.is_whole:
            self.sites.append(_Site(call, "convolution", origin.unit))
        else:
            covers = origin.open_units()
            # Where the map of one convolution is read by several, its activation is not the convolution's own.
            longest = max(covers, key=lambda unit: unit.position, default=None) if origin.joint == "sum" else None
            self.sites.append(_Site(call, origin.joint or "fork", longest, covers))
        return _Origin(origin.unit, origin.is_whole, is_activated=True)


def _map_inputs(call: Call, sizes: Sequence[int]) -> tuple[int, ...]:
    """The values that a call reads, without the smaller factors of a product: those are gates."""
    if call.name not in PRODUCTS or len(call.inputs) < 2:
        return call.inputs
    largest = max(sizes[value] for value in call.inputs)
    return tuple(value for value in call.inputs if sizes[value] == largest)


def _gates(recording: Recording) -> set[int]:
    """The calls whose results end in nothing but gates."""
    readers: dict[int, list[int]] = {}
    for number, call in enumerate(recording.calls):
        for value in call.inputs:
            readers.setdefault(value, []).append(number)
    gates: set[int] = set()
    for number in reversed(range(len(recording.calls))):
        reads = [(value, reader) for value in recording.calls[number].outputs for reader in readers.get(value, ())]
        is_gate = [
            reader in gates or value not in _map_inputs(recording.calls[reader], recording.sizes)
            for value, reader in reads
        ]
        if reads and all(is_gate):
            gates.add(number)
    return gates


def _due(
    sites: Sequence[_Site], chains: Sequence[Sequence[_Unit]], convolutions: int, activations: int, after_sums: bool
) -> set[int]:
    """The ids of the sites that go."""

    def is_due(site: _Site) -> bool:
        counts = site.follows == "convolution" or (after_sums and site.follows == "sum")
        return counts and site.unit is not None and site.unit.position % convolutions < convolutions - activations

    due = {id(site) for site in sites if is_due(site)}
    for chain in chains:
        of_chain = [site for site in sites if site.unit is not None and site.unit.chain == chain[0].chain]
        closing = [site for site in sites if chain[-1] in site.covers]
        if of_chain and all(id(site) in due for site in (*of_chain, *closing)):
            due.discard(id(of_chain[-1]))
    return due


def _public(site: _Site, place: str) -> ActivationSite:
    unit = site.unit
    return ActivationSite(
        activation=place,
        convolution=unit.path if unit else "",
        chain=unit.chain if unit else -1,
        position=unit.position if unit else -1,
        follows=site.follows,
    )
