"""Batches for the trainer: which images, made by how many threads ahead of the step that takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from rexdet.runs import DataSplit, ResumableSampler
from rexdet.transfer.images import ImageSet

Samples = list[tuple[int, int]]


class TrainingImages(Protocol):
    """What the trainer takes: images of one size by (epoch, index), with their labels (N,) int64."""

    labels: Tensor
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def batch(self, samples: Sequence[tuple[int, int]], seed: int) -> Tensor:
        """(B, 3, S, S) uint8 RGB."""

    def names(self, indices: Sequence[int] | Tensor, /) -> list[str]:
        """Which files these places are, for a person."""

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""


class WholeImages:
    """An `ImageSet` for the trainer: each image is the same in every epoch."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.labels, self.classes, self.fingerprint = images.labels, images.classes, images.fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, samples: Sequence[tuple[int, int]], seed: int) -> Tensor:
        """The images of these pairs, (B, 3, S, S) uint8 RGB; the epoch changes nothing."""
        return self.images.images([index for _, index in samples])

    def names(self, indices: Sequence[int] | Tensor) -> list[str]:
        """Which files these places are, for a person."""
        return self.images.names(indices)

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""
        return self.images.described()


def for_training(images: ImageSet | TrainingImages) -> TrainingImages:
    """What the trainer takes, of either kind."""
    return WholeImages(images) if isinstance(images, ImageSet) else images


class Batches:
    """Endless batches in the sampler's order from its position on: (samples, (B, 3, S, S) uint8).

    workers: threads that make batches ahead (Pillow works outside of Python's lock); 0: each when it is asked for. They
    change nothing but the time, since each batch is a function of seed, epochs and indices. pin: into memory from which
    an accelerator copies by itself.
    """

    def __init__(self, images: TrainingImages, sampler: ResumableSampler, *, workers: int, pin: bool) -> None:
        self.images, self.sampler, self.workers, self.pin = images, sampler, workers, pin
        self.size = sampler.batch_size // sampler.world_size

    def __iter__(self) -> Iterator[tuple[Samples, Tensor]]:
        order = iter(self.sampler)
        if not self.workers:
            while True:
                samples = list(islice(order, self.size))
                yield samples, self._make(samples)
        waiting: deque[tuple[Samples, Future[Tensor]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="images")
        try:
            while True:
                while len(waiting) < 2 * self.workers:
                    samples = list(islice(order, self.size))
                    waiting.append((samples, pool.submit(self._make, samples)))
                samples, batch = waiting.popleft()
                yield samples, batch.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, samples: Samples) -> Tensor:
        batch = self.images.batch(samples, self.sampler.seed)
        return batch.pin_memory() if self.pin and torch.cuda.is_available() else batch
