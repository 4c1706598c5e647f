"""What a transfer run would cost, from steps that are measured here and now."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from rexdet.nets.strided_pointwise import subsample_before_pointwise
from rexdet.transfer.opening import Dataset
from rexdet.transfer.optimise import make_optimiser, network_options
from rexdet.transfer.protocols import AnyProtocol, Protocol
from rexdet.transfer.start import Start
from rexdet.transfer.taps import tapped_network

# Steps of more images are measured with so many, and counted in proportion.
_MOST_IMAGES = 32
_STEPS = 3


@dataclass(frozen=True)
class Cost:
    """runs: trainings, those of the search included; steps: of each. seconds: of everything, evaluation included."""

    runs: int
    steps: int
    seconds: float

    def times(self, count: int) -> Cost:
        """The cost of so many runs like it, one for each fold."""
        return Cost(count * self.runs, self.steps, count * self.seconds)

    def __str__(self) -> str:
        trained = f"{self.runs} trainings of {self.steps:,} steps" if self.runs else "features once"
        return f"{trained}: about {self.seconds / 3600:.2f} hours"


def measure_cost(dataset: Dataset, start: Start, protocol: AnyProtocol, *, seeds: int, device: str) -> Cost:
    """Take a few steps on random images of the run's size. Nothing is written, and no image of a set is read again.

    The test split stays sealed, so its size is taken from the facts, or as that of the training split.
    """
    everything = len(dataset.train_and_val())
    tested = dataset.facts.splits.get("test", everything)
    size = protocol.size(start.pixels)
    if not isinstance(protocol, Protocol):
        # As the probe opens it: a file of a backbone alone has no other form.
        network = tapped_network(start.network, start.checkpoint, protocol.tap).to(device)
        return Cost(0, 0, (everything + tested) * _seconds_an_image(network, size, min(64, everything), device, None))
    network = start.build(len(dataset.classes), network_options(protocol)).to(device)
    images = min(protocol.batch_size, _MOST_IMAGES)
    step = protocol.batch_size * _seconds_an_image(network, size, images, device, protocol)
    look = _seconds_an_image(network, size, images, device, None)
    train, val = dataset.tuning_split()
    tried = len(protocol.candidates()) if protocol.grid is not None else 0
    search = tried * (protocol.total_steps(len(train)) * step + len(val) * look)
    final = seeds * (protocol.total_steps(everything) * step + tested * look)
    return Cost(tried + seeds, protocol.total_steps(everything), search + final)


def _seconds_an_image(
    network: torch.nn.Module, size: int, images: int, device: str, protocol: Protocol | None
) -> float:
    """Of a training step under a protocol, or of a forward pass; the quickest of a few after a first one."""
    batch = torch.randn(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(images, dtype=torch.int64, device=device)
    optimiser = None if protocol is None else make_optimiser(protocol.changed(learning_rate=1e-12), network)
    network.train(protocol is not None)
    if batch.device.type == "cpu":
        subsample_before_pointwise(network)
    amp = protocol is not None and protocol.amp is not None
    times = []
    for _ in range(1 + _STEPS):
        begun = time.perf_counter()
        with torch.set_grad_enabled(protocol is not None), torch.autocast(batch.device.type, torch.bfloat16, amp):
            logits = network(batch)
        if optimiser is not None:
            F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if batch.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times[1:]) / images
