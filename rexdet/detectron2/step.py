"""One optimiser step: forward, backward, and the search for what went wrong where a loss is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rexdet.detectron2.data import Sample
from rexdet.detectron2.hidden import Numbers, plain_numbers, set_numbers
from rexdet.errors import UserError
from rexdet.processes import world_size
from rexdet.runs.state import capture_random_state, restore_random_state
from rexdet.runs.timing import TimeShares


@dataclass(eq=False)
class NonFiniteLossError(Exception):
    """A loss is not a finite number. Carries what a replay needs: the micro-batch and the state before it."""

    terms: dict[str, float]
    inputs: list[dict[str, Any]]
    random_state: dict[str, Any]
    buffers: dict[str, Tensor]
    numbers: Numbers

    def bad_term(self) -> str:
        """The first loss term that is not finite."""
        return next((name for name, value in self.terms.items() if not _is_finite(value)), "total loss")

    def image_ids(self) -> list[int]:
        """The pictures of the micro-batch."""
        return [int(item["image_id"]) for item in self.inputs]


def _is_finite(value: float) -> bool:
    return value - value == 0.0


class Stepper:
    """Takes optimiser steps of `accumulate` micro-batches each, in the precision asked for.

    model: what is called in training (the wrapped one where there are several processes); detector: the model itself.
    amp: None, "bf16" or "fp16" (with loss scaling on CUDA).
    """

    def __init__(
        self,
        model: nn.Module,
        detector: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        accumulate: int,
        amp: str | None,
        device: torch.device,
    ) -> None:
        self.model = model
        self.detector = detector
        self.optimizer = optimizer
        self.accumulate = accumulate
        self.device = device
        self.dtype = autocast_type(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16" and device.type == "cuda")

    def __call__(self, batches: Iterator[list[Sample]], shares: TimeShares) -> tuple[dict[str, float], list[Sample]]:
        """Take one step. Returns the loss terms, averaged over micro-batches, and the samples seen.

        Raises NonFiniteLossError before the weights are touched.
        """
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, float] = {}
        seen: list[Sample] = []
        for micro_batch in range(self.accumulate):
            with shares.measure("data"):
                samples = next(batches)
            seen += samples
            last = micro_batch == self.accumulate - 1
            with shares.measure("neck_and_heads"), self._without_exchange(not last):
                for name, value in self._micro_batch([sample.inputs for sample in samples]).items():
                    totals[name] = totals.get(name, 0.0) + value / self.accumulate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return totals, seen

    def _micro_batch(self, inputs: list[dict[str, Any]]) -> dict[str, float]:
        random_state = capture_random_state()
        buffers = moving_buffers(self.detector)
        numbers = plain_numbers(self.detector)
        with as_written(), self._autocast():
            losses = self.model(inputs)
        losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        terms = {name: float(loss.detach()) for name, loss in losses.items()}
        finite = _is_finite(float(total.detach()))
        if not _everywhere(finite, self.device):
            raise NonFiniteLossError(terms, inputs, random_state, buffers, numbers)
        self.scaler.scale(total / self.accumulate).backward()
        return terms

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    @contextmanager
    def _without_exchange(self, wanted: bool) -> Iterator[None]:
        # Gradients of several processes are exchanged once a step, with its last micro-batch.
        held = self.model.no_sync() if wanted and isinstance(self.model, DistributedDataParallel) else nullcontext()
        with held:
            yield


def as_written() -> AbstractContextManager[None]:
    """Inside, TorchScript runs functions as they are written, the first time like every other time.

    Its optimiser watches the first calls in a process and rewrites the function for later ones, with other rounding.
    detectron2's focal loss is such a function: a resumed run would differ from the unbroken one in its first step.
    """
    return torch.jit.optimized_execution(False)


def autocast_type(amp: str | None) -> torch.dtype | None:
    """The type that mixed precision computes in; None for float32."""
    return {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def moving_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the running statistics that a forward pass in training would change."""
    return {
        f"{path}.{name}": buffer.clone()
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for name, buffer in module.named_buffers(recurse=False)
    }


def _everywhere(finite: bool, device: torch.device) -> bool:
    if world_size() == 1:
        return finite
    flag = torch.tensor(int(finite), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return bool(flag)


def first_non_finite_module(
    detector: nn.Module, trouble: NonFiniteLossError, dtype: torch.dtype | None, device: torch.device
) -> str:
    """Run the micro-batch again from the same state and name the first module whose output is not finite.

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
        restore(detector, trouble)
        with torch.no_grad(), as_written(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            losses = detector(trouble.inputs)
    finally:
        for handle in handles:
            handle.remove()
    trouble.terms = {name: float(loss) for name, loss in losses.items()}
    return found[0] if found else f"the computation of {trouble.bad_term()} (every module's output is finite)"


def restore(detector: nn.Module, trouble: NonFiniteLossError) -> None:
    """Put running statistics, hidden numbers and random numbers back to what they were before the micro-batch."""
    own = dict(detector.named_buffers())
    for name, value in trouble.buffers.items():
        own[name].copy_(value)
    set_numbers(detector, trouble.numbers)
    restore_random_state(trouble.random_state)


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


def save_replay(path: Path, trouble: NonFiniteLossError, detector: nn.Module, meta: dict[str, Any]) -> None:
    """Write everything that shows the step again: weights, statistics, batch, random state; plain values only."""
    from rexdet.files import atomic_path

    content = {
        "model": detector.state_dict(),
        "buffers": trouble.buffers,
        "numbers": trouble.numbers,
        "random": trouble.random_state,
        "batch": [_plain(item) for item in trouble.inputs],
        "rexdet_replay": meta,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_replay(path: str) -> dict[str, Any]:
    """Open a file of `save_replay`. Raises UserError where it is none."""
    from rexdet.detectron2.resume import read_checkpoint

    content = read_checkpoint(path)
    if "rexdet_replay" not in content:
        raise UserError("is no saved step: a run that meets a non-finite loss writes one", where=path)
    content["batch"] = [_as_input(item) for item in content["batch"]]
    return content


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    instances = item["instances"]
    plain = {key: value for key, value in item.items() if key != "instances"}
    plain["size"] = list(instances.image_size)
    plain["boxes"] = instances.gt_boxes.tensor
    plain["classes"] = instances.gt_classes
    if instances.has("gt_masks"):
        masks = instances.gt_masks
        if hasattr(masks, "polygons"):
            plain["polygons"] = [[torch.as_tensor(part) for part in thing] for thing in masks.polygons]
        else:
            plain["bitmasks"] = masks.tensor
    return plain


def _as_input(plain: dict[str, Any]) -> dict[str, Any]:
    from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

    instances = Instances(tuple(plain.pop("size")))
    instances.gt_boxes = Boxes(plain.pop("boxes"))
    instances.gt_classes = plain.pop("classes")
    if "polygons" in plain:
        instances.gt_masks = PolygonMasks([[part.numpy() for part in thing] for thing in plain.pop("polygons")])
    elif "bitmasks" in plain:
        instances.gt_masks = BitMasks(plain.pop("bitmasks"))
    return {**plain, "instances": instances}
