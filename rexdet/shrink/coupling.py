"""Which channels of a network hang together, seen from the operators that it executes.

Every channel gets a *class*. Channels that are added to each other, or multiplied, or that pass through a norm, an
activation, a pooling or a depthwise convolution, are in one class: they are kept or removed together. A network is run
once without data ("meta" tensors), and each tensor carries the classes of its channels along, so that functional calls,
partial shortcuts (`out[:, :n] += x`), squeeze-excitation and padded shortcuts need no rule for each network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rexdet.errors import UserError
from rexdet.nets.without_data import QuickNorms

Classes = NDArray[np.int64]

# Group and layer norms are none of these: they look at several channels at once.
_NORMS = frozenset(
    ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_no_update")
)
_ACTIVATIONS = ("relu", "hardtanh", "sigmoid", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu", "clamp")
# Operators whose output channels are those of their first argument.
_PASSING = _NORMS | frozenset(
    (
        *_ACTIVATIONS,
        *(f"{name}_" for name in _ACTIVATIONS),
        *("softplus", "gelu", "tanh", "clone", "detach", "alias", "_to_copy", "lift_fresh"),
        *("max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "upsample_nearest2d"),
    )
)
# Operators that combine two tensors channel by channel.
_COMBINING = frozenset(("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "copy_", "maximum", "minimum"))


@dataclass
class Layer:
    """One convolution or linear layer of a network.

    path: of its module. in_classes, out_classes: the class of each input and output channel. groups: of a convolution.
    kernel_area: weights of one input channel of one output channel. positions: output pixels of one image, over all
    calls. follows_input: it writes the channels that it reads, as a depthwise convolution does.
    """

    path: str
    is_convolution: bool
    groups: int
    kernel_area: int
    in_classes: Classes
    out_classes: Classes
    positions: int = 0
    follows_input: bool = False

    @property
    def is_depthwise(self) -> bool:
        """One filter a channel: its groups shrink with its channels."""
        return self.groups > 1 and self.groups == len(self.in_classes)

    def macs(self, kept_in: int, kept_out: int) -> int:
        """Multiply-accumulates for one image when so many input and output channels are left."""
        inputs = 1 if self.is_depthwise else kept_in // self.groups
        return self.positions * self.kernel_area * inputs * kept_out


@dataclass
class Coupling:
    """layers: in the order in which they run. norms: path of a norm -> the class of each channel.

    fixed: for each class, whether it must stay: the image's channels, a linear layer's outputs, the network's output.
    """

    layers: list[Layer]
    norms: dict[str, Classes]
    fixed: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many classes there are."""
        return len(self.fixed)

    def classifier_inputs(self) -> NDArray[np.bool_]:
        """For each class, whether a linear layer reads it: the last stream, which has a floor of its own."""
        read = np.zeros(self.size, dtype=bool)
        for layer in self.layers:
            if not layer.is_convolution:
                read[layer.in_classes] = True
        return read & ~self.fixed

    def macs(self, keep: NDArray[np.bool_]) -> int:
        """Multiply-accumulates of one image when only the classes of `keep` are left."""
        return sum(
            layer.macs(int(keep[layer.in_classes].sum()), int(keep[layer.out_classes].sum())) for layer in self.layers
        )

    def widths(self, keep: NDArray[np.bool_]) -> dict[str, int]:
        """Path of each layer -> the output channels that are left."""
        return {layer.path: int(keep[layer.out_classes].sum()) for layer in self.layers}


def trace(network: nn.Module, input_shape: tuple[int, int, int]) -> Coupling:
    """Find out which channels of `network` hang together, for an image of `input_shape` (C, H, W), in evaluation mode.

    Raises UserError for a network that executes an operator on channels which is not known here.
    """
    shadow = copy.deepcopy(network).to("meta", torch.float32).eval()
    tracer = _Tracer(shadow)
    image = torch.empty((1, *input_shape), device="meta")
    tracer.label(image, tracer.classes.fixed(input_shape[0]))
    with torch.no_grad(), QuickNorms(), tracer:
        output = shadow(image)
    tracer.fix(output)
    return tracer.finish()


@dataclass
class _Classes:
    """Sets of channels that grow together (union-find)."""

    parents: list[int] = field(default_factory=list)
    fixed_ones: list[int] = field(default_factory=list)

    def fresh(self, count: int) -> Classes:
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def fixed(self, count: int) -> Classes:
        classes = self.fresh(count)
        self.fixed_ones.extend(classes.tolist())
        return classes

    def find(self, one: int) -> int:
        root = one
        while self.parents[root] != root:
            root = self.parents[root]
        while self.parents[one] != root:
            self.parents[one], one = root, self.parents[one]
        return root

    def join(self, some: Classes, others: Classes) -> None:
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            first, second = sorted((self.find(one), self.find(other)))
            self.parents[second] = first


class _Tracer(TorchDispatchMode):
    """Sees every operator that runs, and hands the classes of its input's channels on to its output's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.classes = _Classes()
        self._layers: dict[str, Layer] = {}
        self._norms: dict[str, Classes] = {}
        # By identity; the tensors are kept alive, so that no other one gets the same.
        self._labels: dict[int, tuple[Tensor, Classes]] = {}
        self._weights: dict[int, tuple[Tensor, str]] = {
            id(module.weight): (module.weight, path)
            for path, module in network.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor)
        }
        self._transposed: dict[int, tuple[Tensor, Tensor]] = {}
        self._handlers: dict[str, Callable[[tuple[Any, ...], Tensor], None]] = {
            "convolution": self._convolution,
            "addmm": self._addmm,
            "mm": self._mm,
            "t": self._transpose,
            "mean": self._pool,
            "slice": self._slice,
            "constant_pad_nd": self._pad,
            "cat": self._concatenate,
            **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten"), self._reshape),
        }

    def label(self, tensor: Tensor, classes: Classes) -> None:
        self._labels[id(tensor)] = (tensor, classes)

    def fix(self, output: Any) -> None:
        """What the network gives stays as it is, also where a convolution is its classifier."""
        classes = self._of(output)
        if classes is None:
            raise UserError("the search cannot follow how the network's output comes from its input")
        self.classes.fixed_ones.extend(classes.tolist())

    def _of(self, tensor: Any) -> Classes | None:
        entry = self._labels.get(id(tensor)) if isinstance(tensor, Tensor) else None
        return None if entry is None else entry[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        output = result[0] if isinstance(result, tuple | list) else result
        if name in self._handlers:
            self._handlers[name](args, output)
        elif name in _PASSING:
            self._pass(args, output, is_norm=name in _NORMS)
        elif name in _COMBINING:
            self._combine(args, output)
        elif any(self._of(argument) is not None for argument in args):
            raise UserError(
                f"the search does not know what the operator {name} does to channels",
                fix="it knows convolutions, norms, activations, pooling, sums, products and slices",
            )
        return result

    def finish(self) -> Coupling:
        """What was found, with classes numbered from 0 in the order in which they came up."""
        roots = np.array([self.classes.find(one) for one in range(len(self.classes.parents))], dtype=np.int64)
        # Numbered only where a layer reads or writes them; a padded zero that nobody added to is none.
        used = [layer.out_classes for layer in self._layers.values()]
        used += [layer.in_classes for layer in self._layers.values()]
        present = np.unique(roots[np.concatenate(used)])
        number = np.full(len(roots), -1, dtype=np.int64)
        number[present] = np.arange(len(present))
        renumber = number[roots]
        fixed = np.zeros(len(present), dtype=bool)
        staying = renumber[np.array(self.classes.fixed_ones, dtype=np.int64)]
        fixed[staying[staying >= 0]] = True
        for layer in self._layers.values():
            layer.in_classes, layer.out_classes = renumber[layer.in_classes], renumber[layer.out_classes]
        norms = {path: renumber[classes] for path, classes in self._norms.items()}
        return Coupling(list(self._layers.values()), norms, fixed)

    def _pass(self, args: tuple[Any, ...], output: Tensor, *, is_norm: bool) -> None:
        classes = self._of(args[0])
        if classes is None:
            return
        self.label(output, classes)
        if is_norm:
            weight = next((self._weights[id(one)][1] for one in args[1:] if id(one) in self._weights), None)
            if weight is not None:
                self._norms[weight] = classes

    def _combine(self, args: tuple[Any, ...], output: Tensor) -> None:
        first, second = self._of(args[0]), self._of(args[1])
        if first is not None and second is not None:
            if len(first) != len(second):
                raise UserError("the search cannot follow a sum or product of different numbers of channels")
            self.classes.join(first, second)
        elif first is None and second is None:
            return
        elif any(isinstance(one, Tensor) and self._of(one) is None and one.numel() > 1 for one in args[:2]):
            raise UserError("the search cannot follow a sum or product with a parameter of its own")
        classes = first if first is not None else second
        assert classes is not None
        self.label(output, classes)

    def _convolution(self, args: tuple[Any, ...], output: Tensor) -> None:
        inputs, weight, groups = args[0], args[1], args[8]
        if args[6]:
            raise UserError("the search does not know transposed convolutions")
        self._run_layer(inputs, weight, output, groups=groups, positions=math.prod(output.shape[2:]))

    def _addmm(self, args: tuple[Any, ...], output: Tensor) -> None:
        self._run_layer(args[1], args[2], output)

    def _mm(self, args: tuple[Any, ...], output: Tensor) -> None:
        self._run_layer(args[0], args[1], output)

    def _run_layer(
        self, inputs: Tensor, weight: Tensor, output: Tensor, *, groups: int = 1, positions: int = 1
    ) -> None:
        # A linear layer multiplies by its weight transposed; that view is kept alive beside the weight it shows.
        weight = self._transposed.get(id(weight), (weight, weight))[1]
        entry, classes = self._weights.get(id(weight)), self._of(inputs)
        if entry is None or classes is None:
            raise UserError("the search cannot follow a layer whose weight or input is computed on the way")
        path = entry[1]
        known = self._layers.get(path)
        if known is None:
            known = self._layers[path] = self._new_layer(path, entry[0], classes, groups)
        else:
            self.classes.join(known.in_classes, classes)
        known.positions += positions
        self.label(output, known.out_classes)

    def _new_layer(self, path: str, weight: Tensor, classes: Classes, groups: int) -> Layer:
        out = weight.shape[0]
        is_convolution = weight.dim() > 2
        area = math.prod(weight.shape[2:])
        if not is_convolution:
            # Classes of pictures, or a hidden layer of a classifier: both stay as they are.
            return Layer(path, False, 1, area, classes, self.classes.fixed(out))
        follows = groups > 1 and out == len(classes)
        if groups > 1 and not (follows and groups == out):
            # The number of groups stays and the width inside shrinks, by the same channels in each group.
            inside = classes.reshape(groups, -1)
            for group in inside[1:]:
                self.classes.join(inside[0], group)
        out_classes = classes if follows else np.tile(self.classes.fresh(out // groups), groups)
        return Layer(path, True, groups, area, classes, out_classes, follows_input=follows)

    def _transpose(self, args: tuple[Any, ...], output: Tensor) -> None:
        if id(args[0]) in self._weights:
            self._transposed[id(output)] = (output, args[0])

    def _pool(self, args: tuple[Any, ...], output: Tensor) -> None:
        classes = self._of(args[0])
        if classes is None:
            return
        dimensions = [dimension % args[0].dim() for dimension in args[1]] if len(args) > 1 else [1]
        if 1 in dimensions:
            raise UserError("the search cannot follow a mean over channels")
        self.label(output, classes)

    def _slice(self, args: tuple[Any, ...], output: Tensor) -> None:
        classes = self._of(args[0])
        if classes is None:
            return
        dimension, start, end, step = (args[1:] + (0, None, None, None)[len(args) - 1 :])[:4]
        self.label(output, classes[start:end:step] if dimension == 1 else classes)

    def _pad(self, args: tuple[Any, ...], output: Tensor) -> None:
        classes = self._of(args[0])
        if classes is None:
            return
        padding = args[1]
        before, after = (padding[4], padding[5]) if len(padding) >= 6 else (0, 0)
        # As many zeros before as behind (one more behind for an odd number), also when the network is smaller: so a
        # channel of zeros in front and its counterpart behind stay or go together.
        paired = self.classes.fresh(min(before, after))
        front = np.concatenate([paired, self.classes.fresh(before - len(paired))])
        behind = np.concatenate([paired, self.classes.fresh(after - len(paired))])
        self.label(output, np.concatenate([front, classes, behind]))

    def _concatenate(self, args: tuple[Any, ...], output: Tensor) -> None:
        parts = [self._of(part) for part in args[0]]
        if all(part is None for part in parts):
            return
        dimension = args[1] if len(args) > 1 else 0
        known = [part for part in parts if part is not None]
        if dimension != 1 or len(known) < len(parts):
            raise UserError("the search can follow a concatenation of channels only")
        self.label(output, np.concatenate(known))

    def _reshape(self, args: tuple[Any, ...], output: Tensor) -> None:
        classes = self._of(args[0])
        if classes is None:
            return
        source = args[0]
        if output.shape[1] == source.shape[1]:
            self.label(output, classes)
        elif output.dim() == 2 and output.shape[1] == math.prod(source.shape[1:]):
            self.label(output, np.repeat(classes, math.prod(source.shape[2:])))
        else:
            raise UserError("the search cannot follow a view that mixes channels")
