"""A loss that is not a finite number: what is kept of the step, and which module went wrong first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.processes import rank, world_size
from rexdet.runs.run import Run
from rexdet.runs.state import capture_random_state, restore_random_state
from rexdet.session.checkpoints import read_checkpoint
from rexdet.session.hidden import Numbers, plain_numbers, set_numbers

REPLAY_FILE = "nonfinite_step.pth"


@dataclass
class Before:
    """What a forward pass in training would change, as it was before: random and plain numbers, running statistics."""

    random_state: dict[str, Any]
    buffers: dict[str, Tensor]
    numbers: Numbers

    @classmethod
    def of(cls, detector: nn.Module) -> Before:
        """Copies of it, of a detector that is about to make a step."""
        return cls(capture_random_state(), _moving_buffers(detector), plain_numbers(detector))

    def restore(self, detector: nn.Module) -> None:
        """Put it back."""
        own = dict(detector.named_buffers())
        for name, value in self.buffers.items():
            own[name].copy_(value)
        set_numbers(detector, self.numbers)
        restore_random_state(self.random_state)


@dataclass(eq=False)
class NonFiniteLossError(Exception):
    """A loss is not a finite number. Carries what a replay needs: the micro-batch and the state before it.

    terms: loss terms by name, as far as they are known. inputs: the micro-batch, in the engine's form.
    """

    inputs: Any
    images: list[int]
    before: Before
    terms: dict[str, float] = field(default_factory=dict)

    def bad_term(self) -> str:
        """The first loss term that is not finite."""
        return next((name for name, value in self.terms.items() if not is_finite(value)), "total loss")


def is_finite(value: float) -> bool:
    """Whether a number is neither infinite nor NaN."""
    return value - value == 0.0


def _moving_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{name}": buffer.clone()
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for name, buffer in module.named_buffers(recurse=False)
    }


def finite_everywhere(finite: bool, device: torch.device) -> bool:
    """Whether a number is finite in every process that trains together."""
    if world_size() == 1:
        return finite
    flag = torch.tensor(int(finite), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return bool(flag)


def first_non_finite_module(
    detector: nn.Module, trouble: NonFiniteLossError, losses: Callable[[], Mapping[str, Any]]
) -> str:
    """Run the micro-batch again from the same state and name the first module whose output is not finite.

    losses: runs it, giving the loss terms, which are kept in `trouble`.
    Where a parameter is not finite already, that is said instead: then the step before did the harm.
    """
    for name, parameter in detector.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"{name} (this parameter is not finite since the step before)"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and any(not torch.isfinite(tensor).all() for tensor in _tensors(output)):
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in detector.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        trouble.before.restore(detector)
        with torch.no_grad():
            terms = losses()
    finally:
        for handle in handles:
            handle.remove()
    trouble.terms = {name: float(loss) for name, loss in terms.items()}
    return found[0] if found else f"the computation of {trouble.bad_term()} (every module's output is finite)"


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from _tensors(value)


def give_up(
    run: Run,
    trouble: NonFiniteLossError,
    detector: nn.Module,
    *,
    step: int,
    batch: Any,
    meta: dict[str, Any],
    losses: Callable[[], Mapping[str, Any]],
) -> NoReturn:
    """End a run because of `trouble`: save the step for a replay, find the module, tell the record; raises UserError.

    step: counted from 1. batch: the micro-batch as plain values. meta: what the replay needs beside it.
    losses: as `first_non_finite_module` takes it.
    """
    own_fault = not trouble.terms or any(not is_finite(value) for value in trouble.terms.values())
    name = REPLAY_FILE if rank() == 0 else REPLAY_FILE.replace(".pth", f".rank{rank()}.pth")
    _save_replay(run.folder / name, trouble, detector, batch, {**meta, "step": step})
    module = first_non_finite_module(detector, trouble, losses) if own_fault else ""
    term = trouble.bad_term()
    message = f"step {step}: {term} is {trouble.terms.get(term)} on the pictures {trouble.images}"
    if not own_fault:
        message = f"step {step}: another process met a loss that is not finite"
    error = UserError(
        f"{message}; first module with a non-finite output: {module}" if module else message,
        where=str(run.folder),
        fix=f"lower the learning rate, or look at it with --replay {run.folder / name}",
    )
    run.fail(
        error,
        step=step,
        loss_term=term,
        image_ids=list(trouble.images),
        module=module or None,
        replay_file=name,
        elsewhere=not own_fault,
    )
    raise error


def _save_replay(
    path: Path, trouble: NonFiniteLossError, detector: nn.Module, batch: Any, meta: dict[str, Any]
) -> None:
    """Write everything that shows the step again: weights, statistics, batch, random state; plain values only."""
    content = {
        "model": detector.state_dict(),
        "buffers": trouble.before.buffers,
        "numbers": trouble.before.numbers,
        "random": trouble.before.random_state,
        "batch": batch,
        "images": trouble.images,
        "rexdet_replay": meta,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_replay(path: str) -> dict[str, Any]:
    """Open the file of a saved step. Raises UserError where it is none."""
    content = read_checkpoint(path)
    if "rexdet_replay" not in content:
        raise UserError("is no saved step: a run that meets a non-finite loss writes one", where=path)
    return content


def trouble_of_replay(content: Mapping[str, Any], inputs: Any) -> NonFiniteLossError:
    """The saved step as it was met. inputs: its micro-batch in the engine's form."""
    return NonFiniteLossError(
        inputs, content["images"], Before(content["random"], content["buffers"], content["numbers"])
    )


def tell_replay(trouble: NonFiniteLossError, step: int, module: str) -> None:
    """Print what showing a step again has found."""
    print(f"step {step}, pictures {trouble.images}")
    for name, value in trouble.terms.items():
        print(f"  {name}: {value}")
    print(f"first module with a non-finite output: {module}")
