"""The one trainer of classifiers, from scratch and from a checkpoint.

It sees the training split alone: what is evaluated, and when, is the caller's. Everything that is random is a function
of the seed, the epoch and the image's index, so that a run that was stopped goes on to the same weights, bit by bit (on
the CPU, at the same number of threads).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.runs import (
    PeriodicEvaluation,
    ResumableSampler,
    Run,
    TimeShares,
    capture_random_state,
    restore_random_state,
    seed_everything,
)
from rexdet.transfer.augment import Augmenter, Normaliser
from rexdet.transfer.images import ImageSet
from rexdet.transfer.optimise import check_network, learning_rates, make_average, make_optimiser, set_norm_momentum
from rexdet.transfer.protocols import Protocol
from rexdet.weights.pixels import Preprocessing

STATE_NAME = "state.pth"


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
    """What has been trained so far, beside weights: the steps, and sums over the epoch that is under way."""

    step: int = 0
    loss: float = 0.0
    right: int = 0
    images: int = 0
    history: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, loss: float, right: int, images: int) -> None:
        self.step += 1
        self.loss += loss * images
        self.right += right
        self.images += images

    def end_epoch(self) -> None:
        self.history.append((self.step, self.loss / self.images, self.right / self.images))
        self.loss, self.right, self.images = 0.0, 0, 0


def train(
    network: nn.Module,
    images: ImageSet,
    protocol: Protocol,
    *,
    seed: int,
    pixels: Preprocessing | None = None,
    device: str | torch.device = "cpu",
    folder: str | Path | None = None,
    save_every: int | None = None,
    run: Run | None = None,
    progress: bool = False,
    stop_after: int | None = None,
) -> Trained:
    """Train a network that gives (B, classes) logits for (B, 3, size, size) images.

    seed: of order, augmentation and whatever else is drawn while training (dropout). pixels: what the network sees of a
    pixel; None for the protocol's. folder: where the state is kept every `save_every` steps (None: once an epoch);
    where it holds one, training goes on from there. run: told of losses by epoch, and of a failure. progress: show a
    bar. stop_after: leave after so many steps of this call, with the state kept, as an interruption would.

    Raises UserError: a loss that is not finite, images that the network has no outputs for, a drop path that it was
    built without, a state of another run.
    """
    state_path = None if folder is None else Path(folder) / STATE_NAME
    steps = protocol.total_steps(len(images))
    seed_everything(seed)
    # Channels last is a third faster on the CPU, and what CUDA wants.
    network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    check_network(protocol, network)
    set_norm_momentum(network, protocol.bn_momentum)
    optimiser, average = make_optimiser(protocol, network), make_average(protocol, network)
    sampler = ResumableSampler(len(images), seed, batch_size=protocol.batch_size)
    shares = TimeShares.for_device(device)
    keeper = _StateKeeper(
        state_path,
        {"seed": seed, "protocol": protocol.model_dump_json(), "images": images.fingerprint},
        network,
        optimiser,
        average,
        sampler,
        shares,
    )
    done = keeper.load(_Progress())
    rates = learning_rates(protocol, steps)
    save_every = save_every or math.ceil(len(images) / protocol.batch_size)
    last = steps if stop_after is None else min(steps, done.step + stop_after)
    normalise = Normaliser(pixels or protocol.preprocessing())
    augment = Augmenter(protocol.augmentation, seed=seed, length=len(images))
    order = iter(sampler)
    with tqdm(total=steps, initial=done.step, desc="training", unit="step", disable=not progress, leave=False) as bar:
        while done.step < last:
            with shares.step(protocol.batch_size):
                with shares.measure("data"):
                    samples = list(islice(order, protocol.batch_size))
                    places = torch.tensor([index for _, index in samples])
                    batch = augment(normalise(images.images(places)), samples)
                    batch = batch.to(device, memory_format=torch.channels_last)
                    labels = images.labels[places].to(device)
                for group in optimiser.param_groups:
                    group["lr"] = rates[done.step]
                with shares.measure("backbone"):
                    loss, right = _step(network, optimiser, batch, labels, protocol.label_smoothing)
                if not math.isfinite(loss):
                    raise _not_finite(loss, done.step + 1, protocol, rates[done.step], images, places, run)
                if average is not None:
                    average.update_parameters(network)
            sampler.advance()
            done.add(loss, right, len(samples))
            bar.update()
            if int(sampler.epoch) > len(done.history) or done.step == steps:
                done.end_epoch()
                _tell(run, done)
                bar.set_postfix(loss=f"{done.history[-1][1]:.3f}", right=f"{100 * done.history[-1][2]:.1f}%")
            if done.step % save_every == 0 or done.step == last:
                keeper.save(done)
    return Trained(
        network=network,
        average=None if average is None else average.module,
        steps=done.step,
        history=done.history,
        shares=shares,
    )


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, batch: Tensor, labels: Tensor, label_smoothing: float
) -> tuple[float, int]:
    """One step of the optimiser; returns the loss and how many images were classified right before it.

    With a loss that is not finite the weights stay as they are.
    """
    logits = network(batch)
    if logits.dim() != 2 or logits.shape[1] <= int(labels.max()):
        raise UserError(
            f"the network gives {tuple(logits.shape)} for labels up to {int(labels.max())}", fix="give it more classes"
        )
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    value = float(loss.detach())
    if math.isfinite(value):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return value, int((logits.detach().argmax(1) == labels).sum())


def _not_finite(
    loss: float, step: int, protocol: Protocol, rate: float, images: ImageSet, places: Tensor, run: Run | None
) -> UserError:
    error = UserError(
        f"the loss is {loss} at step {step} (learning rate {rate:.3g})",
        f"protocol {protocol.name}",
        "lower learning_rate or lengthen warm_up",
    )
    if run is not None:
        names = images.names(places)
        run.fail(error, step=step, loss_term="cross_entropy", image_ids=list(names))
    return error


def _tell(run: Run | None, done: _Progress) -> None:
    if run is None:
        return
    run.update(
        evaluations=[
            PeriodicEvaluation(iteration=step, holds="raw", metrics={"train": {"loss": loss, "top1": right}})
            for step, loss, right in done.history
        ]
    )


class _StateKeeper:
    """Writes and reads everything that a training hangs on; without a path it does neither."""

    def __init__(
        self,
        path: Path | None,
        identity: dict[str, Any],
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: AveragedModel | None,
        sampler: ResumableSampler,
        shares: TimeShares,
    ) -> None:
        self.path = path
        self.identity = identity
        self.parts: dict[str, Any] = {
            "network": network,
            "optimiser": optimiser,
            "average": average,
            "sampler": sampler,
            "shares": shares,
        }

    def save(self, done: _Progress) -> None:
        if self.path is None:
            return
        state = {name: part.state_dict() for name, part in self.parts.items() if part is not None}
        progress = {**vars(done), "history": [list(entry) for entry in done.history]}
        with atomic_path(self.path) as temporary:
            torch.save(
                {**state, "progress": progress, "identity": self.identity, "random": capture_random_state()}, temporary
            )

    def load(self, fresh: _Progress) -> _Progress:
        """Fill the parts from the state, if there is one; returns how far it had come."""
        if self.path is None or not self.path.exists():
            return fresh
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise UserError(
                f"not a state of a training ({error})", str(self.path), "remove it to start anew"
            ) from error
        for what, value in self.identity.items():
            if state.get("identity", {}).get(what) != value:
                raise UserError(f"belongs to a training with another {what}", str(self.path), "name another --output")
        for name, part in self.parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        restore_random_state(state["random"])
        progress = state["progress"]
        return _Progress(**{**progress, "history": [tuple(entry) for entry in progress["history"]]})
