"""The one trainer of classifiers, from scratch and from a checkpoint.

It sees the training split alone: what is evaluated, and when, is the caller's. Everything that is random is a function
of the seed, the epoch and the image's index, so that a run that was stopped goes on to the same weights, bit by bit (on
the CPU, at the same number of threads).

Under torchrun every process takes its share of each batch, and gradients are averaged. Batch norms that train use the
statistics of their own process's share; what is evaluated and kept are the first process's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.nets.strided_pointwise import subsample_before_pointwise
from rexdet.processes import is_main, rank, world_size
from rexdet.runs import PeriodicEvaluation, ResumableSampler, Run, TimeShares, sample_generator, seed_everything
from rexdet.transfer.augment import Augmenter, Normaliser
from rexdet.transfer.feed import Batches, Samples, TrainingImages, for_training
from rexdet.transfer.freeze import freeze
from rexdet.transfer.images import ImageSet
from rexdet.transfer.keeper import STATE_NAME, StateKeeper
from rexdet.transfer.optimise import (
    check_network,
    compiled,
    learning_rates,
    make_average,
    make_optimiser,
    set_norm_momentum,
)
from rexdet.transfer.protocols import Protocol
from rexdet.transfer.watch import Watch
from rexdet.weights.pixels import Preprocessing

__all__ = ["STATE_NAME", "DivergedError", "Trained", "train"]

# A loss is looked at after so many steps where asking for it would make an accelerator wait.
_LOOK_EVERY = 20


class DivergedError(UserError):
    """The loss was not finite: with these numbers the training cannot go on, and again it would end so."""


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    network: with the weights of the last step. average: the same network with averaged weights, None where the protocol
    keeps none. steps: done in all. history: of every epoch the step at its end, the mean loss, and the share of images
    that were classified right while training. shares: where the time went.
    """

    network: nn.Module
    average: nn.Module | None
    steps: int
    history: list[tuple[int, float, float]]
    shares: TimeShares

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: the averaged one where there is one."""
        return self.average if self.average is not None else self.network


@dataclass
class _Progress:
    """What has been trained so far, beside weights: the steps, and sums over the epoch that is under way.

    sums: loss, images classified right, images; float64 (3,) on the device, of this process. first_bad: the first step
    whose loss was not finite, 0 for none.
    """

    sums: Tensor
    first_bad: Tensor
    step: int = 0
    history: list[tuple[int, float, float]] = field(default_factory=list)

    @classmethod
    def on(cls, device: torch.device) -> _Progress:
        return cls(torch.zeros(3, dtype=torch.float64, device=device), torch.zeros((), device=device))

    def add(self, loss: Tensor, right: Tensor, images: int) -> None:
        self.step += 1
        self.sums += torch.stack([loss.double() * images, right.double(), torch.full_like(right, images).double()])
        is_new = (self.first_bad == 0) & ~torch.isfinite(loss)
        self.first_bad = torch.where(is_new, float(self.step), self.first_bad)

    def running(self) -> tuple[float, float]:
        """Mean loss and share classified right in this epoch so far, over all processes."""
        loss, right, images = self._together().tolist()
        return loss / images, right / images

    def end_epoch(self) -> None:
        self.history.append((self.step, *self.running()))
        self.sums.zero_()

    def as_values(self) -> dict[str, Any]:
        history = [list(entry) for entry in self.history]
        # One process's sums would not be all processes'; they are put together here, and divided again by `restore`.
        return {"step": self.step, "sums": self._together().tolist(), "history": history}

    def restore(self, values: dict[str, Any]) -> None:
        self.step = int(values["step"])
        self.history = [(int(step), loss, right) for step, loss, right in values["history"]]
        if rank() == 0:
            self.sums += torch.tensor(values["sums"], dtype=torch.float64, device=self.sums.device)

    def _together(self) -> Tensor:
        if world_size() == 1:
            return self.sums
        total = self.sums.clone()
        distributed.all_reduce(total)
        return total


def train(
    network: nn.Module,
    images: ImageSet | TrainingImages,
    protocol: Protocol,
    *,
    seed: int,
    pixels: Preprocessing | None = None,
    device: str | torch.device = "cpu",
    folder: str | Path | None = None,
    save_every: int | None = None,
    run: Run | None = None,
    watch: Watch | None = None,
    progress: bool = False,
    title: str = "training",
    workers: int = 0,
    stop_after: int | None = None,
) -> Trained:
    """Train a network that gives (B, classes) logits for (B, 3, size, size) images.

    seed: of order, augmentation and whatever else is drawn while training (dropout). pixels: what the network sees of a
    pixel; None for the protocol's. folder: where the state is kept every `save_every` steps (None: as often as costs a
    twentieth of the time); where it holds one, training goes on from there. run: told of losses by epoch, and of a
    failure. watch: told of losses for TensorBoard. progress: show a bar called `title`. workers: threads that make
    batches ahead. stop_after: leave after so many steps of this call, with the state kept, as an interruption would.

    Raises DivergedError for a loss that is not finite; UserError: images that the network has no outputs for, a drop
    path that it was built without, a batch that the processes cannot share, a state of another run.
    """
    feed, device = for_training(images), torch.device(device)
    steps = protocol.total_steps(len(feed))
    seed_everything(seed, rank())
    layout = torch.channels_last if protocol.channels_last else torch.contiguous_format
    network.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    if device.type == "cpu":
        subsample_before_pointwise(network)
    check_network(protocol, network)
    held = freeze(network, protocol.freeze)
    for module in held:
        module.eval()
    set_norm_momentum(network, protocol.norm_momentum(len(feed)))
    optimiser, average = make_optimiser(protocol, network), make_average(protocol, network)
    sampler = ResumableSampler(len(feed), seed, rank=rank(), world_size=world_size(), batch_size=protocol.batch_size)
    shares = TimeShares.for_device(device)
    identity = {"seed": seed, "protocol": protocol.model_dump_json(), "images": feed.fingerprint}
    parts = {"network": network, "optimiser": optimiser, "average": average, "sampler": sampler, "shares": shares}
    keeper = StateKeeper(None if folder is None else Path(folder) / STATE_NAME, identity, parts, save_every)
    done = _Progress.on(device)
    called = _distributed(compiled(network, protocol.compile), device)
    if (kept := keeper.load()) is not None:
        done.restore(kept)
    rates = learning_rates(protocol, steps)
    last = steps if stop_after is None else min(steps, done.step + stop_after)
    normalise = Normaliser(pixels or protocol.preprocessing())
    augment = Augmenter(protocol.augmentation, seed=seed, length=len(feed))
    batches = iter(Batches(feed, sampler, workers=workers, pin=device.type == "cuda"))
    look_every = 1 if device.type == "cpu" else _LOOK_EVERY
    show_every = max(look_every, steps // 100)
    bar = tqdm(
        total=steps, initial=done.step, desc=title, unit="step", disable=not (progress and is_main()), leave=False
    )
    with bar:
        while done.step < last:
            with shares.step(protocol.batch_size):
                with shares.measure("data"):
                    samples, batch = next(batches)
                    batch = batch.to(device, non_blocking=True)
                    batch = augment(normalise(batch), samples).contiguous(memory_format=layout)
                    labels = feed.labels[[index for _, index in samples]].to(device, non_blocking=True)
                for group in optimiser.param_groups:
                    group["lr"] = rates[done.step]
                with shares.measure("backbone"):
                    loss, right = _step(called, optimiser, batch, labels, protocol, (seed, done.step), look_every == 1)
                done.add(loss, right, len(samples))
                if done.step % look_every == 0 or done.step == last:
                    _look(done, protocol, rates, feed, samples, run)
                if average is not None:
                    average.update_parameters(network)
            sampler.advance()
            bar.update()
            if done.step % show_every == 0:
                _show(bar, done, rates, watch)
            if int(sampler.epoch) > len(done.history) or done.step == steps:
                done.end_epoch()
                _tell(run, done)
            if keeper.is_due(done.step) or done.step == last:
                _look(done, protocol, rates, feed, samples, run)
                keeper.save(done.as_values())
    average_network = None if average is None else average.module
    _share_statistics(average_network if average_network is not None else network)
    return Trained(network=network, average=average_network, steps=done.step, history=done.history, shares=shares)


def _distributed(network: nn.Module, device: torch.device) -> nn.Module:
    if world_size() == 1:
        return network
    # Norms' statistics stay each process's own; the first one's count.
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    labels: Tensor,
    protocol: Protocol,
    place: tuple[int, int],
    look: bool,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; returns the loss and how many images were classified right before it, each ().

    place: seed and number of the step. look: with a loss that is not finite the weights stay as they are; asking costs
    an accelerator a wait.
    """
    share, others = 1.0, labels
    if protocol.augmentation.mixup:
        share = float(sample_generator(*place, 0).beta(protocol.augmentation.mixup, protocol.augmentation.mixup))
        batch, others = share * batch + (1 - share) * batch.flip(0), labels.flip(0)
    mixed = torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=protocol.amp == "bf16")
    with mixed:
        logits = network(batch)
    logits = logits.float()
    if look and (logits.dim() != 2 or logits.shape[1] <= int(labels.max())):
        raise UserError(
            f"the network gives {tuple(logits.shape)} for labels up to {int(labels.max())}", fix="give it more classes"
        )
    loss = F.cross_entropy(logits, labels, label_smoothing=protocol.label_smoothing)
    if share != 1.0:
        loss = share * loss + (1 - share) * F.cross_entropy(logits, others, label_smoothing=protocol.label_smoothing)
    if not look or _everywhere(math.isfinite(float(loss.detach())), batch.device):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return loss.detach(), (logits.detach().argmax(1) == labels).sum()


def _everywhere(finite: bool, device: torch.device) -> bool:
    if world_size() == 1:
        return finite
    flag = torch.tensor(int(finite), device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MIN)
    return bool(flag)


def _look(
    done: _Progress, protocol: Protocol, rates: list[float], feed: TrainingImages, samples: Samples, run: Run | None
) -> None:
    """Raise UserError, in every process, where the loss of a step was not finite."""
    step = int(done.first_bad)
    if _everywhere(step == 0, done.sums.device):
        return
    step = step or done.step
    error = DivergedError(
        f"the loss is not finite at step {step} (learning rate {rates[step - 1]:.3g})",
        f"protocol {protocol.name}",
        "lower learning_rate or lengthen warm_up",
    )
    if run is not None:
        # Where the loss is looked at later than it was computed, its images are no longer at hand.
        names = feed.names([index for _, index in samples]) if step == done.step else []
        run.fail(error, step=step, loss_term="cross_entropy", image_ids=list(names) or None)
    raise error


def _show(bar: Any, done: _Progress, rates: list[float], watch: Watch | None) -> None:
    """Loss and accuracy of the epoch so far, beside the bar's remaining time, and for TensorBoard."""
    loss, right = done.running() if bool(done.sums[2]) else done.history[-1][1:]
    bar.set_postfix(loss=f"{loss:.3f}", right=f"{100 * right:.1f}%", refresh=False)
    if watch is not None:
        watch.scalars(done.step, {"loss": loss, "top1": right, "learning_rate": rates[done.step - 1]})


def _tell(run: Run | None, done: _Progress) -> None:
    if run is None:
        return
    run.update(
        evaluations=[
            PeriodicEvaluation(iteration=step, holds="raw", metrics={"train": {"loss": loss, "top1": right}})
            for step, loss, right in done.history
        ]
    )


def _share_statistics(network: nn.Module) -> None:
    """Give every process the first one's running statistics, so that all evaluate the same network."""
    if world_size() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
