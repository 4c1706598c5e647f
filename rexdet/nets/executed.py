"""What a network executes: every operator call that its input flows through, in order.

Module lists cannot tell this: one ReLU module may serve three calls (torchvision's ResNet), an activation may be a
function without a module, and a module may never be called. So a forward pass is run once and watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from rexdet.nets.without_data import QuickNorms

IMAGE_SIDE = 224

# Names of torch's functions, without the underscores of methods and in-place forms.
CONVOLUTIONS = frozenset(f"conv{form}{dims}d" for form in ("", "_transpose") for dims in (1, 2, 3))
ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "hardtanh", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "threshold"),
        *("silu", "hardswish", "mish", "gelu", "softplus"),
    )
)
SUMS = frozenset(("add", "iadd", "radd"))
PRODUCTS = frozenset(("mul", "imul", "rmul", "multiply"))
# They mix channels and positions as a convolution does, but are none.
DENSE = frozenset(
    (
        *("linear", "bilinear", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot"),
        *("scaled_dot_product_attention", "multi_head_attention_forward"),
    )
)
_EXPANSIONS = frozenset(("expand", "expand_as", "broadcast_to"))

ACTIVATION_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.RReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Threshold,
    nn.SiLU,
    nn.Hardswish,
    nn.Mish,
    nn.GELU,
    nn.Softplus,
)


@dataclass(frozen=True)
class ActivationCall:
    """Who called an activation.

    caller: path of the module whose forward called it ("" for the network's own). turn: which of the activations that
    one run of the caller's forward calls, from 0. function: its name ("relu"). module: the activation module, or None.
    """

    caller: str
    turn: int
    function: str
    module: nn.Module | None


@dataclass(frozen=True)
class Call:
    """One operator call.

    name: of the operator ("conv2d", "relu", "add", ...). path: of the innermost module that runs.
    inputs, outputs: values, numbered; a tensor that is overwritten becomes another value. Constants and parameters are
    no values. activation: who called it, where it is an activation.
    """

    name: str
    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: ActivationCall | None = None


@dataclass(frozen=True)
class Recording:
    """calls: in the order of execution. sizes: elements of each value, before it was expanded.

    example: what `record` was given.
    """

    calls: tuple[Call, ...]
    sizes: tuple[int, ...]
    example: Tensor | None

    def activations(self) -> list[ActivationCall]:
        """Every activation, in the order of execution; one that runs several times is there once."""
        return list(dict.fromkeys(call.activation for call in self.calls if call.activation is not None))


@dataclass
class _Frame:
    module: nn.Module
    path: str
    activations: int = 0


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.sizes: list[int] = []
        self.frames: list[_Frame] = []
        self._values: dict[int, int] = {}
        self._alive: list[Tensor] = []  # A tensor that is gone would give its id to another.

    def new_value(self, tensor: Tensor, size: int | None = None) -> int:
        self._values[id(tensor)] = len(self.sizes)
        self.sizes.append(tensor.numel() if size is None else size)
        self._alive.append(tensor)
        return len(self.sizes) - 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = getattr(func, "__name__", "")
        name = written.strip("_")
        read = args[:1] if name in _EXPANSIONS else (args, kwargs)  # The other arguments of an expansion are sizes.
        inputs = self._known(read)
        version = args[0]._version if inputs and args and isinstance(args[0], Tensor) else 0
        result = func(*args, **kwargs)
        if not inputs:
            return result
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name == "setitem":
            results = [args[0]]
        if not results:
            return result
        size = self.sizes[inputs[0]] if name in _EXPANSIONS else None
        outputs = tuple(self.new_value(tensor, size) for tensor in results)
        self._note(name, inputs, outputs)
        base = results[0]._base
        is_overwritten = results[0] is args[0] and results[0]._version > version
        if is_overwritten and base is not None and id(base) in self._values:
            # Written through a view: what the view looks at has changed.
            before = self._values[id(base)]
            self._note("setitem", (before, outputs[0]), (self.new_value(base),))
        return result

    def _known(self, tree: Any) -> tuple[int, ...]:
        found = (self._values.get(id(leaf)) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
        return tuple(dict.fromkeys(value for value in found if value is not None))

    def _note(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        path = self.frames[-1].path if self.frames else ""
        activation = self._activation(name) if name in ACTIVATIONS and self.frames else None
        self.calls.append(Call(name, path, inputs, outputs, activation))

    def _activation(self, name: str) -> ActivationCall:
        top = self.frames[-1]
        is_module = isinstance(top.module, ACTIVATION_MODULES) and len(self.frames) > 1
        caller = self.frames[-2] if is_module else top
        caller.activations += 1
        return ActivationCall(caller.path, caller.activations - 1, name, top.module if is_module else None)


@contextmanager
def _frames_of(network: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """While inside, the recorder knows which modules are running."""

    def enter(path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            recorder.frames.append(_Frame(module, path))

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        recorder.frames.pop()

    handles = []
    try:
        for path, module in network.named_modules():
            handles += [module.register_forward_pre_hook(enter(path)), module.register_forward_hook(leave)]
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def record(network: nn.Module, example: Tensor | None = None) -> Recording:
    """Run `network` once in evaluation mode and write down what it executes; the network stays as it is.

    example: its input, e.g. (1, 3, H, W) float. None: an image of 224 x 224 without data ("meta" tensors), so that
    nothing is computed.

    Raises ValueError where the network cannot be run so, and for a scripted network, which hides what it executes.
    """
    scripted = [path for path, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise ValueError(f"{scripted[0] or 'the network'} is scripted, so what it executes cannot be told")
    recorder = _Recorder()
    image = _image(network) if example is None else example
    recorder.new_value(image)
    try:
        with _evaluating(network), _frames_of(network, recorder), torch.no_grad(), recorder:
            if example is None:
                with QuickNorms():
                    functional_call(network, _without_data(network), (image,))
            else:
                network(image)
    except Exception as error:
        given = "an image without data (give an example)" if example is None else "the example"
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise ValueError(f"the network does not run on {given}, {tuple(image.shape)}: {reason}") from error
    return Recording(tuple(recorder.calls), tuple(recorder.sizes), example)


def _image(network: nn.Module) -> Tensor:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    channels = convolutions[0].in_channels if convolutions else 3
    dtypes = [parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()]
    return torch.empty(1, channels, IMAGE_SIDE, IMAGE_SIDE, dtype=dtypes[0] if dtypes else None, device="meta")


def _without_data(network: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.to("meta") for name, tensor in tensors.items()}
