"""One classification run: network, training, evaluation of the last step, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Structure

from torch import nn

from rexdet.nets.complexity import count
from rexdet.processes import barrier, is_main, world_size
from rexdet.runs import Data, DataSplit, Network, Pixels, Run, RunRecord, TimeShare, WeightsFile, seed_everything
from rexdet.runs.parts import TRAINED_WORSE
from rexdet.transfer.evaluate import EvaluationImages, evaluate
from rexdet.transfer.feed import TrainingImages, for_training
from rexdet.transfer.finetune import STATE_NAME, train
from rexdet.transfer.freeze import trains_norms
from rexdet.transfer.images import ImageSet
from rexdet.transfer.optimise import recipe
from rexdet.transfer.protocols import Protocol
from rexdet.transfer.watch import FOLDER as WATCH_FOLDER
from rexdet.transfer.watch import Watch
from rexdet.weights.pixels import Preprocessing

# Of the share of training images that are classified right.
_FAR_BELOW = 0.15


class ScoredImages(EvaluationImages, Structure):
    """Images that are scored, and what a record tells of them. notes: what a reader of the numbers should know."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    def described(self) -> DataSplit:
        """The split as a run's record tells of it."""


@dataclass(frozen=True)
class Job:
    """What one run is told.

    name: of the run. folder: where its record goes. network: as the record tells of it. build: gives the network; the
    global generators are seeded with `seed` before. train: its images. test: opens the split whose accuracy is
    reported; called once, after the last step. split: what that split is called in the record's metrics: "test", or
    "val" where hyper-parameters are chosen by it. config: everything that the result hangs on, as text. notes: further
    numbers for the record, by group. events: what a reader of the numbers should know, code and message. watch: keep
    curves for TensorBoard. workers: threads that make batches ahead. searched_top1: on training images in the last
    epoch of the search's run with the same hyper-parameters, 0 to 1; None where there was no search.
    """

    name: str
    folder: Path
    network: Network
    build: Callable[[], nn.Module]
    protocol: Protocol
    train: ImageSet | TrainingImages
    test: Callable[[], ScoredImages]
    seed: int
    split: str = "test"
    config: str = ""
    pixels: Preprocessing | None = None
    device: str = "cpu"
    notes: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    events: tuple[tuple[str, str], ...] = ()
    watch: bool = False
    workers: int = 0
    title: str = "training"
    searched_top1: float | None = None


def run_job(job: Job, *, progress: bool = False, command: list[str] | None = None) -> RunRecord:
    """Train and evaluate; a run of the same kind that was stopped in the folder goes on. Returns its record.

    The accuracy is that of the last step's weights, or of their average where the protocol keeps one. Nothing is
    chosen by it. Called by every process of torchrun. Raises UserError as `train` and `Run.start` do.
    """
    pixels = job.pixels or job.protocol.preprocessing()
    feed = for_training(job.train)
    steps = job.protocol.total_steps(len(feed))
    record = RunRecord(
        kind="transfer",
        name=job.name,
        command=command or [],
        config=job.config or None,
        seed=job.seed,
        network=job.network.model_copy(update={"pixels": recorded_pixels(pixels)}),
        data=Data(train=feed.described()),
        recipe=recipe(job.protocol, steps),
        files={"state": STATE_NAME, **job.files, **({"tensorboard": WATCH_FOLDER} if job.watch else {})},
    )
    with Run.start(job.folder, record, resume=True) as run:
        barrier()
        for code, message in job.events:
            run.event(code, message)
        seed_everything(job.seed)
        network = job.build()
        size = job.protocol.size(pixels)
        cost = count(network, (1, 3, size, size))
        watch = Watch(job.folder) if job.watch and is_main() else None
        trained = train(
            network,
            feed,
            job.protocol,
            seed=job.seed,
            pixels=pixels,
            device=job.device,
            folder=job.folder,
            run=run,
            watch=watch,
            progress=progress,
            title=job.title,
            workers=job.workers,
        )
        if watch is not None:
            watch.close()
        if world_size() > 1 and trains_norms(trained.network):
            share = job.protocol.batch_size // world_size()
            run.event("norm_statistics", f"batch norms used statistics of each process's own {share} images a step")
        scored = job.test()
        for note in scored.notes:
            run.event("data", note)
        with trained.shares.measure("evaluation", whole=True):
            result = evaluate(trained.evaluated, scored, pixels, device=job.device, amp=job.protocol.amp)
        _, loss, right = trained.history[-1]
        if fell_behind := told_behind(right, job.searched_top1):
            run.event(TRAINED_WORSE, fell_behind)
        run.record.files = {role: name for role, name in run.record.files.items() if role != "state"}
        run.finish(
            data=Data(train=feed.described(), val=scored.described()),
            metrics={
                job.split: result.as_metrics(),
                "train": {"loss": loss, "top1": right},
                "network": {"macs": float(cost.macs), "parameters": float(cost.parameters)},
                **{group: dict(numbers) for group, numbers in job.notes.items()},
            },
            evaluated_weights=WeightsFile(
                holds="raw" if trained.average is None else "ema", selection="last", iteration=trained.steps
            ),
            images_per_second=trained.shares.images_per_second(),
            time_share=TimeShare(**trained.shares.fractions()),
        )
    # The record is whole and says done: the state has served.
    if is_main():
        (job.folder / STATE_NAME).unlink(missing_ok=True)
    barrier()
    return run.record


def told_behind(top1: float, searched: float | None) -> str:
    """What is to be said where a final run learnt far less than its search did; "" where it did not.

    top1, searched: on training images in the last epoch, 0 to 1. Such a run is no result of its settings: something
    other than they differed, and it is marked, and averaged in nowhere.
    """
    if searched is None or top1 >= searched - _FAR_BELOW:
        return ""
    return (
        f"top-1 on training images ended at {100 * top1:.1f}%, the search's with the same hyper-parameters at "
        f"{100 * searched:.1f}%"
    )


def recorded_pixels(pixels: Preprocessing) -> Pixels:
    """Pixels as a run's record tells of them."""
    mean, std, order = pixels.detectron2_pixels()
    return Pixels(mean=mean, std=std, order="BGR" if order == "BGR" else "RGB", range=255)
