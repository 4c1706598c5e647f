"""One optimiser step: forward, backward, and the search for what went wrong where a loss is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rexdet.detectron2.data import Sample
from rexdet.runs.timing import TimeShares
from rexdet.session.nonfinite import Before, NonFiniteLossError, finite_everywhere, is_finite
from rexdet.session.precision import as_written, autocast_type


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
        before = Before.of(self.detector)
        with as_written(), self._autocast():
            losses = self.model(inputs)
        losses = {"total_loss": losses} if isinstance(losses, Tensor) else losses
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        terms = {name: float(loss.detach()) for name, loss in losses.items()}
        if not finite_everywhere(is_finite(float(total.detach())), self.device):
            raise NonFiniteLossError(inputs, [int(item["image_id"]) for item in inputs], before, terms)
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


def losses_again(
    detector: nn.Module, inputs: list[dict[str, Any]], dtype: torch.dtype | None, device: torch.device
) -> Mapping[str, Any]:
    """The loss terms of a micro-batch, as a training step computes them. Raises nothing of its own."""
    with as_written(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        return detector(inputs)


def plain_batch(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A micro-batch as plain values, for a file."""
    return [_plain(item) for item in inputs]


def batch_of_plain(plain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `plain_batch` made, as detectron2's input again."""
    return [_as_input(item) for item in plain]


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
