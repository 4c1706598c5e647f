"""Named feature maps of a network, and the backbone that gives them to a neck.

A network is a sequence of steps (its stem, its blocks, its last convolution). Each step belongs to a stage, and the
output of the last step of stages 2 to 5 is the feature map `res2` ... `res5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rexdet.nets.layers import freeze_norms, statistics_held

PYRAMID = ("res2", "res3", "res4", "res5")
STEM_STAGE = 1
LAST_STAGE = 5


@dataclass(frozen=True)
class Feature:
    """A feature map: how many channels it has, and the stride of its pixels in pixels of the input."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Step:
    """One module of a network's sequence.

    path: where the module is, in nn.Module's dotted form.
    stage: 1 for the stem, 2 to 5 for the stages of res2 to res5, 6 for what follows them.
    output: the name of the feature map that the module gives, or "" where it has none.
    expansion: the name of the feature map that the module's own expansion layer gives, or "".
    """

    path: str
    stage: int
    output: str = ""
    expansion: str = ""


def run_steps(
    root: nn.Module, steps: Sequence[Step], x: Tensor, wanted: Iterable[str], *, checkpointing: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run `steps` one after the other; returns the last output and the feature maps that are wanted, in their order.

    checkpointing: activations inside a step are computed again in the backward pass instead of kept.
    """
    names = tuple(wanted)
    found: dict[str, Tensor] = {}
    for step in steps:
        module = root.get_submodule(step.path)
        if step.expansion in names:
            x, found[step.expansion] = module.forward_with_expansion(x)  # type: ignore[operator]
        elif checkpointing and module.training and torch.is_grad_enabled():
            x = _run_checkpointed(module, x)
        else:
            x = module(x)
        if step.output in names:
            found[step.output] = x
    return x, {name: found[name] for name in names}


def _run_checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        # The second forward pass must not update the running statistics again.
        return nullcontext(), statistics_held(module)

    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


class Backbone(nn.Module):
    """The part of a network that gives feature maps: no classifier, and nothing behind the last map asked for.

    (B, 3, H, W) -> {"res2": (B, C2, ceil(H/4), ceil(W/4)), ...} for any H and W, in the order of `out_features`.
    Parameters keep the names that they have in the network, so that one file fits both.

    network: a network with `steps` and `features`; its modules are taken over, not copied.
    out_features: names of feature maps, in any order; which there are is `network.features`.
    freeze_at: how many stages do not learn, as detectron2 counts: 0 none, 1 the stem, 2 the stem and res2, ... 5 all.
        Frozen stages have no gradient, their batch norms become FrozenBatchNorm2d, and `.train()` leaves them alone.
    activation_checkpointing: trade time for memory in training; running statistics stay equal.

    Raises ValueError for an unknown, repeated or missing feature name, or a freeze_at outside 0 to 5.
    """

    def __init__(
        self,
        network: nn.Module,
        out_features: Sequence[str] = PYRAMID,
        *,
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        offered: Mapping[str, Feature] = network.features  # type: ignore[assignment]
        _check_names(out_features, offered)
        if freeze_at not in range(LAST_STAGE + 1):
            raise ValueError(f"freeze_at is {freeze_at}; it counts stages, from 0 (none) to {LAST_STAGE} (all)")
        all_steps: Sequence[Step] = network.steps  # type: ignore[assignment]
        last = max(
            position
            for position, step in enumerate(all_steps)
            if step.output in out_features or step.expansion in out_features
        )
        self.steps = tuple(all_steps[: last + 1])
        self.out_features = tuple(out_features)
        self.features = {name: offered[name] for name in out_features}
        self.activation_checkpointing = activation_checkpointing
        self.freeze_at = freeze_at
        _adopt(self, network, [step.path for step in self.steps])
        self._freeze()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return run_steps(self, self.steps, x, self.out_features, checkpointing=self.activation_checkpointing)[1]

    def frozen_steps(self) -> list[Step]:
        """The steps that do not learn."""
        return [step for step in self.steps if step.stage <= self.freeze_at]

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for step in self.frozen_steps():
            self.get_submodule(step.path).eval()
        return self

    def _freeze(self) -> None:
        for step in self.frozen_steps():
            module = freeze_norms(self.get_submodule(step.path))
            module.requires_grad_(False)
            module.eval()


def _check_names(names: Sequence[str], offered: Mapping[str, Feature]) -> None:
    if isinstance(names, str):
        raise ValueError(f"out_features is the text {names!r}; write a list: [{names!r}]")
    if not names:
        raise ValueError(f"out_features is empty; there are {', '.join(offered)}")
    unknown = [name for name in names if name not in offered]
    if unknown:
        # With the strides: they say why a network for small images is no detector's backbone.
        there = ", ".join(f"{name} (stride {feature.stride})" for name, feature in offered.items())
        raise ValueError(f"no feature {', '.join(map(repr, unknown))}; there are {there}")
    if len(set(names)) != len(names):
        raise ValueError(f"out_features names one feature twice: {', '.join(names)}")


def _adopt(target: nn.Module, source: nn.Module, paths: Sequence[str]) -> None:
    """Give `target` the modules of `source` at `paths`, under the same names."""
    for path in paths:
        parent, inner = target, source
        *containers, leaf = path.split(".")
        for container in containers:
            inner = inner.get_submodule(container)
            if container not in parent._modules:
                parent.add_module(container, nn.Module())
            parent = parent.get_submodule(container)
        parent.add_module(leaf, inner.get_submodule(leaf))
