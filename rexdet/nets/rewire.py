"""Takes single calls of activations out of a network that exists already, and keeps its parameters and their names.

Where the module whose forward makes the call has an activation module for this call alone, that module is replaced.
Where one activation serves several calls, or is a function, the forward of that one module is traced with torch.fx (its
parts stay whole) and written anew without the call.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, fx, nn

from rexdet.nets.executed import ACTIVATION_MODULES, ACTIVATIONS, PRODUCTS, SUMS, ActivationCall, Recording, record

# Functions that take nothing but a map, as modules.
_FUNCTIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,
    "selu": nn.SELU,
}


class RemovedActivation(nn.Identity):
    """Stands where an activation was: gives its input."""


class HalfReLU(nn.LeakyReLU):
    """The mean of a map with and without ReLU: a leaky ReLU of slope 1/2."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.5, inplace)


class HalfActivation(nn.Module):
    """The mean of a map with and without an activation f: z -> (z + f(z)) / 2, any shape."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = copy.deepcopy(activation)
        if hasattr(self.activation, "inplace"):
            self.activation.inplace = False  # type: ignore[assignment]

    def forward(self, z: Tensor) -> Tensor:
        return (z + self.activation(z)) * 0.5


def is_rewired(network: nn.Module) -> bool:
    """Whether activations of the network were taken out already."""
    return any(isinstance(module, RemovedActivation | HalfReLU | HalfActivation) for module in network.modules())


def places(network: nn.Module, recording: Recording) -> dict[ActivationCall, str]:
    """Where each activation is, for people: its module's path, or the caller's with "relu()" for a function.

    A number in brackets is the turn where one activation serves several calls of its caller's forward.
    """
    found: dict[ActivationCall, str] = {}
    for call in recording.activations():
        caller = network.get_submodule(call.caller)
        name = _own_name(caller, call) or f"{call.function}()"
        found[call] = f"{call.caller}.{name}" if call.caller else name
    often = Counter(found.values())
    turns: Counter[str] = Counter()
    for call in sorted(found, key=lambda call: call.turn):
        place = found[call]
        if often[place] > 1:
            turns[place] += 1
            found[call] = f"{place}[{turns[place]}]"
    return found


def replace_activations(
    network: nn.Module, recording: Recording, calls: Sequence[ActivationCall], *, leaky: bool
) -> nn.Module:
    """Replace activations at the given calls by nothing, or by the mean with nothing (leaky).

    calls: some of those that were recorded of this network. Returns the network, or what stands for it where its own
    forward had to be rewritten; modules and parameters are taken over.

    Raises ValueError where a call cannot be told from others or has parameters of its own, and where the result does
    not execute what it should; the network is then as it was.
    """
    if not calls:
        return network
    _check_calls(network, recording, calls)
    swaps: list[tuple[nn.Module, str, nn.Module]] = []
    graphs: dict[str, tuple[fx.Graph, dict[str, nn.Module]]] = {}
    for path in dict.fromkeys(call.caller for call in calls):
        caller = network.get_submodule(path)
        executed = sorted((call for call in recording.activations() if call.caller == path), key=lambda call: call.turn)
        due = [call for call in executed if call in calls]
        names = {call: _own_name(caller, call) for call in executed}
        kept_names = {names[call] for call in executed if call not in due}
        if all(names[call] and names[call] not in kept_names for call in due):
            swaps += [(caller, names[call], _replacement(call, leaky)) for call in due]
        else:
            graphs[path] = _rewritten(caller, path, executed, due, leaky)
    # What the modules of the network were, to have it back.
    before = {module: dict(module._modules) for module in network.modules()}
    for owner, name, module in swaps:
        owner._modules[name] = module
    changed = network
    for path, (graph, added) in sorted(graphs.items(), key=lambda item: item[0].count("."), reverse=True):
        changed = _with_graph(changed, path, graph, added)
    try:
        _check_result(changed, recording, len(calls), leaky=leaky)
    except ValueError as error:
        for module, children in before.items():
            module._modules = children
        raise ValueError(f"the network cannot be changed faithfully: {error}") from error
    return changed


def _check_result(changed: nn.Module, recording: Recording, count: int, *, leaky: bool) -> None:
    """Raise ValueError unless the network executes what it did, but for `count` activations.

    A trace holds for the arguments that it was made with, so a forward that takes more than a map may have lost a part;
    and a module may be called by others than the module that has it.
    """

    def counts(result: Recording) -> tuple[int, Counter[str]]:
        # The mean of two maps is a sum and a product more.
        left_out = (*SUMS, *PRODUCTS) if leaky else ()
        others = [call.name for call in result.calls if call.activation is None and call.name not in left_out]
        return sum(call.activation is not None for call in result.calls), Counter(others)

    after, others_after = counts(record(changed, recording.example))
    before, others = counts(recording)
    if after != before - (0 if leaky else count) or others_after != others:
        raise ValueError("it then does other things than before")


def _check_calls(network: nn.Module, recording: Recording, calls: Sequence[ActivationCall]) -> None:
    given = Counter(calls)
    executed = Counter(call.activation for call in recording.calls if call.activation is not None)
    place_of = places(network, recording)
    for call, count in given.items():
        if count != executed[call]:
            raise ValueError(
                f"{place_of[call]} runs {executed[call]} times, each time behind another convolution, and the rule "
                f"takes {count} of them: one module cannot do both"
            )
        if call.module is not None and any(True for _ in call.module.parameters()):
            raise ValueError(f"{place_of[call]} is a {type(call.module).__name__} with weights of its own")


def _own_name(caller: nn.Module, call: ActivationCall) -> str:
    """The name under which the caller has the activation module that it calls, "" for none."""
    if type(caller).forward is nn.Sequential.forward:
        # One module may stand in a sequence several times.
        return [name for name, child in caller._modules.items() if isinstance(child, ACTIVATION_MODULES)][call.turn]
    names = [name for name, child in caller._modules.items() if child is call.module and call.module is not None]
    return names[0] if len(names) == 1 else ""


def _replacement(call: ActivationCall, leaky: bool) -> nn.Module:
    if not leaky:
        return RemovedActivation()
    activation = call.module
    if activation is None:
        if call.function not in _FUNCTIONS:
            raise ValueError(f"the function {call.function} has numbers of its own; use its module instead")
        activation = _FUNCTIONS[call.function]()
    return HalfReLU(activation.inplace) if type(activation) is nn.ReLU else HalfActivation(activation)


class _OneForward(fx.Tracer):
    """Traces the forward of one module; its parts stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(caller: nn.Module, path: str) -> fx.Graph:
    mode = caller.training
    graphs = []
    try:
        for training in (True, False):
            caller.training = training
            graphs.append(_OneForward().trace(caller))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path or 'the network'} ({type(caller).__name__}) calls one activation several times, or a function, and "
            f"torch.fx cannot trace it ({reason}); give it an activation module for each call"
        ) from error
    finally:
        caller.training = mode
    if str(graphs[0]) != str(graphs[1]):
        raise ValueError(
            f"{path or 'the network'} ({type(caller).__name__}) calls one activation several times, or a function, and "
            "does other things in training than in evaluation; give it an activation module for each call"
        )
    return graphs[0]


def _rewritten(
    caller: nn.Module, path: str, executed: Sequence[ActivationCall], due: Sequence[ActivationCall], leaky: bool
) -> tuple[fx.Graph, dict[str, nn.Module]]:
    """The caller's forward with other activations at the calls that are due, and these by name."""
    graph = _traced(caller, path)
    nodes = [node for node in graph.nodes if _activation_function(caller, node)]
    if len(nodes) != len(executed):
        raise ValueError(f"{path or 'the network'} calls {len(executed)} activations, its trace {len(nodes)}")
    added: dict[str, nn.Module] = {}
    for node, call in zip(nodes, executed, strict=True):
        if call in due:
            name = f"activation_of_call_{call.turn}"
            added[name] = _replacement(call, leaky)
            source = node.args[0] if node.args else node.kwargs["input"]
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_module(name, (source,)))
            graph.erase_node(node)
    return graph, added


def _activation_function(caller: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(caller.get_submodule(str(node.target)), ACTIVATION_MODULES)
    if node.op == "call_function":
        return getattr(node.target, "__name__", "").strip("_") in ACTIVATIONS
    return node.op == "call_method" and str(node.target).strip("_") in ACTIVATIONS


def _with_graph(network: nn.Module, path: str, graph: fx.Graph, added: dict[str, nn.Module]) -> nn.Module:
    """The network with another forward in the module at `path`, wherever that module is registered."""
    caller = network.get_submodule(path)
    for name, module in added.items():
        caller.add_module(name, module)
    rewritten = fx.GraphModule(caller, graph, type(caller).__name__)
    # All that the module has, in its order, whether or not its forward reads it.
    rewritten._modules = dict(caller._modules)
    rewritten._parameters = dict(caller._parameters)
    rewritten._buffers = dict(caller._buffers)
    rewritten._non_persistent_buffers_set = set(caller._non_persistent_buffers_set)
    rewritten.training = caller.training
    if caller is network:
        return rewritten
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is caller:
                parent._modules[name] = rewritten
    return network
