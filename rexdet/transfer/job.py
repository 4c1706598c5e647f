"""One classification run: network, training, evaluation of the last step, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from rexdet.nets.complexity import count
from rexdet.runs import Data, Network, Pixels, Run, RunRecord, TimeShare, WeightsFile, seed_everything
from rexdet.transfer.evaluate import evaluate
from rexdet.transfer.finetune import STATE_NAME, train
from rexdet.transfer.images import ImageSet
from rexdet.transfer.optimise import recipe
from rexdet.transfer.protocols import Protocol
from rexdet.weights.pixels import Preprocessing


@dataclass(frozen=True)
class Job:
    """What one run is told.

    name: of the run. folder: where its record goes. network: as the record tells of it. build: gives the network; the
    global generators are seeded with `seed` before. train: its images. test: opens the split whose accuracy is
    reported; called once, after the last step. config: everything that the result hangs on, as text. notes: further
    numbers for the record, by group.
    """

    name: str
    folder: Path
    network: Network
    build: Callable[[], nn.Module]
    protocol: Protocol
    train: ImageSet
    test: Callable[[], ImageSet]
    seed: int
    config: str = ""
    pixels: Preprocessing | None = None
    device: str = "cpu"
    notes: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def run_job(job: Job, *, progress: bool = False, command: list[str] | None = None) -> RunRecord:
    """Train and evaluate; a run of the same kind that was stopped in the folder goes on. Returns its record.

    The accuracy is that of the last step's weights, or of their average where the protocol keeps one. Nothing is
    chosen by it. Raises UserError as `train` and `Run.start` do.
    """
    pixels = job.pixels or job.protocol.preprocessing()
    steps = job.protocol.total_steps(len(job.train))
    record = RunRecord(
        kind="transfer",
        name=job.name,
        command=command or [],
        config=job.config or None,
        seed=job.seed,
        network=job.network.model_copy(update={"pixels": _recorded(pixels)}),
        data=Data(train=job.train.described()),
        recipe=recipe(job.protocol, steps),
        files={"state": STATE_NAME, **job.files},
    )
    with Run.start(job.folder, record, resume=True) as run:
        seed_everything(job.seed)
        network = job.build()
        cost = count(network, (1, 3, job.protocol.image_size, job.protocol.image_size))
        trained = train(
            network,
            job.train,
            job.protocol,
            seed=job.seed,
            pixels=pixels,
            device=job.device,
            folder=job.folder,
            run=run,
            progress=progress,
        )
        test = job.test()
        with trained.shares.measure("evaluation", whole=True):
            result = evaluate(trained.evaluated, test, pixels, device=job.device)
        _, loss, right = trained.history[-1]
        run.record.files = {role: name for role, name in run.record.files.items() if role != "state"}
        run.finish(
            data=Data(train=job.train.described(), val=test.described()),
            metrics={
                "test": result.as_metrics(),
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
    (job.folder / STATE_NAME).unlink(missing_ok=True)
    return run.record


def _recorded(pixels: Preprocessing) -> Pixels:
    mean, std, order = pixels.detectron2_pixels()
    return Pixels(mean=mean, std=std, order="BGR" if order == "BGR" else "RGB", range=255)
