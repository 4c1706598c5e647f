"""Where the wall time of a run goes: data, backbone, neck and heads, evaluation, other.

How the backward pass is divided: the gradient reaches the backbone's outputs when the backward pass of everything
behind the backbone is done (autograd runs the operations in the reverse of the order in which they were called). The
first of these gradients marks the moment; from there to the end of the measured block the time is the backbone's (with
several processes the exchange of gradients, too). Nothing is added to the graph: the numbers of the training stay what
they are. A detector that is compiled as a whole hides the boundary: there all of it counts as neck and heads.

On CUDA the clock only tells the truth after a synchronisation, which costs speed. So there one step in `sample_every`
is synchronised at each boundary and measured; its shares stand for all steps. In such a step workers get a little more
time to read ahead, so the share of data is a lower bound there. On the CPU every step is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

NAMES = ("data", "backbone", "neck_and_heads", "evaluation", "other")


class TimeShares:
    """Adds up the time of the parts of a run.

        shares = TimeShares.for_device("cpu")
        shares.watch_backbone(model.backbone)
        with shares.step(images=8):
            with shares.measure("data"):
                batch = next(batches)
            with shares.measure("neck_and_heads"):      # the watched backbone takes its own part out of it
                losses = model(batch)
                sum(losses.values()).backward()
        with shares.measure("evaluation", whole=True):  # its data and its network count as evaluation
            evaluate()
        record.time_share = TimeShare(**shares.fractions())

    Blocks may be nested: the time counts for the innermost. What nothing measures is "other". For one thread.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None, sample_every: int = 20) -> None:
        """synchronize: waits for the accelerator; None: there is none, and every step is measured."""
        self._synchronize = synchronize
        self._sample_every = sample_every if synchronize is not None else 1
        self._begun = time.perf_counter()
        self._earlier_wall = 0.0
        self._outside = dict.fromkeys(NAMES, 0.0)  # seconds of blocks outside of steps
        self._sampled = dict.fromkeys(NAMES, 0.0)  # seconds of blocks within measured steps
        self._sampled_steps_s = 0.0
        self._steps_s = 0.0
        self._steps = 0
        self._images = 0
        self._stack: list[_Block] = []
        self._since = 0.0
        self._in_step = False
        self._measuring = True

    @classmethod
    def for_device(cls, device: object, sample_every: int = 20) -> TimeShares:
        """For training on `device`: "cpu" or "cuda", with or without a number, text or torch.device."""
        if not str(device).startswith("cuda"):
            return cls()
        # What trains on CUDA has loaded torch; this room loads it nowhere but in state.py.
        return cls(sys.modules["torch"].cuda.synchronize, sample_every)

    @contextmanager
    def step(self, images: int = 0) -> Iterator[None]:
        """One training step of `images` images, over all processes."""
        if self._stack or self._in_step:
            raise RuntimeError("a step cannot begin within a step or a measured block")
        # The second of each round, since the very first step also pays for start-up.
        self._measuring = self._steps % self._sample_every == min(1, self._sample_every - 1)
        self._in_step = True
        begun = self._now()
        try:
            yield
        finally:
            seconds = self._now() - begun
            self._steps_s += seconds
            self._steps += 1
            self._images += images
            if self._measuring:
                self._sampled_steps_s += seconds
            self._in_step = False
            self._measuring = True

    @contextmanager
    def measure(self, name: str, whole: bool = False) -> Iterator[None]:
        """Count the block as `name`, one of `NAMES`. whole: with all that blocks inside it would count otherwise."""
        if name not in NAMES:
            raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
        counted = self._enter(name, whole)
        try:
            yield
        finally:
            if counted:
                self._leave()

    def watch_backbone(self, backbone: Any) -> Callable[[], None]:
        """Count forward and backward of a torch module as "backbone"; returns the function that ends the watch.

        backbone: a module whose output is a tensor, or a dict, list or tuple of tensors.
        """
        entered: list[bool] = []

        def before(module: Any, inputs: Any) -> None:
            entered.append(self._enter("backbone", whole=False))

        def after(module: Any, inputs: Any, outputs: Any) -> None:
            if entered and entered.pop():
                self._leave()
                for tensor in _tensors(outputs):
                    if tensor.requires_grad:
                        tensor.register_hook(self._backward_reached_backbone)

        handles = [
            backbone.register_forward_pre_hook(before),
            # Also when the forward pass raises: else every later block would count for the backbone.
            backbone.register_forward_hook(after, always_call=True),
        ]

        def stop() -> None:
            for handle in handles:
                handle.remove()

        return stop

    def fractions(self) -> dict[str, float | None]:
        """Share of the wall time by name, 0 to 1, together 1. None where no step has been measured yet."""
        wall = self.wall_time_s()
        if not wall:
            return dict.fromkeys(NAMES)
        if self._steps and not self._sampled_steps_s:
            return {**dict.fromkeys(NAMES), "evaluation": self._outside["evaluation"] / wall}
        scale = self._steps_s / self._sampled_steps_s if self._sampled_steps_s else 0.0
        named = NAMES[:-1]
        shares = {name: (self._outside[name] + scale * self._sampled[name]) / wall for name in named}
        return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}

    def images_per_second(self) -> float | None:
        """Images of the training steps per second of these steps; None before the first."""
        return self._images / self._steps_s if self._images and self._steps_s else None

    def wall_time_s(self) -> float:
        """Seconds since the first start, those between a stop and a resume left out."""
        return self._earlier_wall + time.perf_counter() - self._begun

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that the shares of a resumed run cover the whole of it."""
        return {
            "wall": self.wall_time_s(),
            "outside": dict(self._outside),
            "sampled": dict(self._sampled),
            "sampled_steps_s": self._sampled_steps_s,
            "steps_s": self._steps_s,
            "steps": self._steps,
            "images": self._images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Add up from where `state` was taken."""
        self._earlier_wall = state["wall"]
        self._outside = dict(state["outside"])
        self._sampled = dict(state["sampled"])
        self._sampled_steps_s = state["sampled_steps_s"]
        self._steps_s = state["steps_s"]
        self._steps = state["steps"]
        self._images = state["images"]

    def _enter(self, name: str, whole: bool) -> bool:
        """Begin a block; False (and nothing to leave) where it does not count: unmeasured step, or within a whole."""
        if not self._measuring or (self._stack and self._stack[-1].whole):
            return False
        self._account()
        self._stack.append(_Block(name, name, whole))
        return True

    def _leave(self) -> None:
        self._account()
        self._stack.pop()
        if self._stack:
            # A backward pass that went before is over once another part of the network runs.
            self._stack[-1].counts_as = self._stack[-1].name

    def _backward_reached_backbone(self, gradient: Any) -> None:
        if self._measuring and self._stack and not self._stack[-1].whole:
            self._account()
            self._stack[-1].counts_as = "backbone"

    def _account(self) -> None:
        """Count the time since the last boundary for the innermost block."""
        now = self._now()
        if self._stack:
            seconds = self._sampled if self._in_step else self._outside
            seconds[self._stack[-1].counts_as] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self._synchronize is not None and self._measuring:
            self._synchronize()
        return time.perf_counter()


@dataclass
class _Block:
    name: str
    counts_as: str  # the backbone's, once the backward pass has reached it
    whole: bool


def _tensors(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return [tensor for value in outputs.values() for tensor in _tensors(value)]
    if isinstance(outputs, (list, tuple)):
        return [tensor for value in outputs for tensor in _tensors(value)]
    return [outputs] if hasattr(outputs, "requires_grad") else []
