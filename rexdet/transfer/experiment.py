"""One transfer run from the data set to its records: search on validation, then the final runs on train+val, then test.

OUTPUT/search/<cell>/record.json    each cell of the grid, scored on validation
OUTPUT/choice.json                  what was chosen, written before the test split is opened
OUTPUT/record.json                  the final run: trained on train+val, scored on test
OUTPUT/seed<N>/record.json          the final run with further seeds
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rexdet.errors import UserError
from rexdet.processes import barrier, is_main, share
from rexdet.runs import RunRecord, check_folder, clear_folder, matrix, record_path
from rexdet.runs.parts import TRAINED_WORSE
from rexdet.runs.record import load_record
from rexdet.transfer.crops import CroppedImages, open_store
from rexdet.transfer.feed import TrainingImages
from rexdet.transfer.framing import FramedImages, Framing, framing_of
from rexdet.transfer.images import Listing
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.metrics import Metric
from rexdet.transfer.opening import Dataset
from rexdet.transfer.optimise import network_options
from rexdet.transfer.protocols import Protocol
from rexdet.transfer.randomness import REPEATED, repeated_by_seed
from rexdet.transfer.start import Start
from rexdet.transfer.sweep import Choice, config_text, run_config, search


@dataclass(frozen=True)
class Settings:
    """How a run is done, beside what it is. None of it changes a result on one machine.

    output: folder of the run. seed: of the search and of the first final run. seeds: final runs, with seeds that count
    up. resume: go on with the run that lies in the folder. workers: threads that make batches ahead.
    """

    output: Path
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    device: str = "cpu"
    workers: int = 0
    watch: bool = False
    progress: bool = False
    command: list[str] = field(default_factory=list)
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class Finished:
    """What came of a run.

    records: of the final runs, a seed each. repeated: what the seeds changed; "" for a run in which nothing is random.
    fixed: what they did not change. heads: for each number of a record its head in a table, "" for the protocol's name,
    and its group among the metrics.
    """

    output: Path
    metric: Metric
    protocol: str
    records: tuple[RunRecord, ...]
    choice: Choice | None = None
    repeated: str = ""
    fixed: str = ""
    heads: tuple[tuple[str, str], ...] = (("", "test"),)

    def columns(self, metric: Metric) -> list[tuple[str, list[float]]]:
        """For each number that the protocol gives its head and its value in each final run, 0 to 1."""
        return [
            (head, [float(record.metrics[group][metric] or 0.0) for record in self.records])
            for head, group in self.heads
        ]


def fine_tune(dataset: Dataset, start: Start, protocol: Protocol, settings: Settings) -> Finished:
    """Choose by validation where the protocol has a grid, train on train+val, open the test split, score.

    Called by every process of torchrun. Raises UserError, and whatever was finished stays.
    """
    trainer = _Trainer(dataset, start, protocol, settings)
    repeated = repeated_by_seed(protocol, has_checkpoint=start.checkpoint is not None, has_val=dataset.val is not None)
    trainer.events.append((REPEATED, repeated))
    everything = dataset.train_and_val()
    trainer.events += look_first(start, everything, trainer.framing, settings)
    choice = trainer.search() if protocol.grid is not None else None
    final = choice.protocol if choice is not None else protocol
    if choice is not None:
        for line in choice.lines():
            settings.say(line)
    # Only where a run is not done yet.
    training = lru_cache(maxsize=1)(lambda: trainer.feed(everything))
    records = []
    for number in range(settings.seeds):
        seed = settings.seed + number
        folder = settings.output if number == 0 else settings.output / f"seed{seed}"
        config = config_text(
            run_config(final, start.identity, everything.fingerprint, seed, **dataset.facts.identity), protocol.name
        )
        record = finished_before(folder, config)
        if record is None:
            job = trainer.job(final, training(), seed, config, folder)
            job = replace(job, searched_top1=choice.best.train_top1 if choice is not None else None)
            record = run_job(job, progress=settings.progress, command=settings.command)
        records.append(record)
    kept = [record for record in records if not _trained_worse(record)]
    for record in records:
        if told := _trained_worse(record):
            settings.say(f"note: {record.name}: {told}; it is {'not averaged in' if kept else 'no result'}")
    searched = " The search was done once; its choice is the same for all." if choice is not None else ""
    return Finished(
        output=settings.output,
        metric=dataset.metric,
        protocol=protocol.name,
        records=tuple(kept or records),
        choice=choice,
        repeated=repeated,
        fixed=f"the split and the images.{searched}",
    )


def _trained_worse(record: RunRecord) -> str:
    return next((event.message for event in record.events if event.code == TRAINED_WORSE), "")


def look_first(start: Start, listing: Listing, framing: Framing, settings: Settings) -> list[tuple[str, str]]:
    """Say how the checkpoint looks on training images; returns it as events of a record, what is suspicious apart."""
    found = start.look(listing, framing) if is_main() else None
    if found is None:
        return []
    settings.say(found.line)
    return [("sanity", found.line), *(("suspicious_weights", suspicion) for suspicion in found.suspicions)]


def finished_before(folder: Path, config: str) -> RunRecord | None:
    """The record of the same run where it is done, for every process. Raises UserError where another one lies there."""
    found = None
    if is_main() and record_path(folder).exists():
        record = load_record(folder)
        if record.config is not None and record.config != config:
            raise UserError(
                f"holds a run of other settings ({_difference(record.config, config)})",
                str(folder),
                "--resume goes on with the same run; a new one takes another --output",
            )
        found = matrix.finished(folder)
    known: RunRecord | None = share(found)
    return known


def check_output(settings: Settings) -> None:
    """Raise UserError, in every process, where the folder holds a run and --resume was not given."""
    if is_main():
        check_folder(settings.output, resume=settings.resume)
        if not settings.resume:
            # A first try that failed at once is no reason to refuse the corrected one.
            clear_folder(settings.output)
    barrier()


def _difference(earlier: str, now: str) -> str:
    old, new = earlier.splitlines(), now.splitlines()
    gone = next((line.strip() for line in old if line not in new), "")
    come = next((line.strip() for line in new if line not in old), "")
    return f"{gone or 'nothing'}, not {come or 'nothing'}"


class _Trainer:
    """Makes the runs of one network on one data set under one protocol."""

    def __init__(self, dataset: Dataset, start: Start, protocol: Protocol, settings: Settings) -> None:
        self.dataset, self.start, self.protocol, self.settings = dataset, start, protocol, settings
        size = protocol.size(start.pixels)
        self.framing: Framing = framing_of(start.pixels, protocol.framing, size, protocol.interpolation)
        self.events = [("framing", f"test images: {self.framing}"), *(("data", note) for note in dataset.notes)]
        # The seal opens once, for however many seeds.
        self.test: Callable[[], FramedImages] = lru_cache(maxsize=1)(self._open_test)

    def feed(self, listing: Listing) -> TrainingImages:
        """A listing as training sees it."""
        crop, progress = self.protocol.augmentation.random_resized_crop, self.settings.progress
        if crop is None:
            return FramedImages(listing, self.framing, progress=progress)
        store = open_store(listing, crop.keep_side, progress=progress)
        return CroppedImages(listing, store, crop, size=self.framing.crop, interpolation=self.framing.interpolation)

    def search(self) -> Choice:
        """Try the grid. Of the data set, the split for tuning is all that is asked for."""
        settings = self.settings
        train, val = self.dataset.tuning_split()
        training = lru_cache(maxsize=1)(lambda: self.feed(train))
        validation = lru_cache(maxsize=1)(lambda: FramedImages(val, self.framing, progress=settings.progress))

        def make_job(candidate: Protocol, config: dict[str, Any]) -> Job:
            text = config_text(config, self.protocol.name)
            return self.job(candidate, training(), settings.seed, text, settings.output)

        return search(
            self.protocol,
            make_job,
            {**self.start.identity, "dataset": self.dataset.name},
            validation,
            train=train.fingerprint,
            val=val.fingerprint,
            seed=settings.seed,
            metric=self.dataset.metric,
            output=settings.output,
            progress=settings.progress,
            command=settings.command,
        )

    def job(self, protocol: Protocol, training: TrainingImages, seed: int, config: str, folder: Path) -> Job:
        """A run that is scored on test."""
        classes = len(training.classes)
        return Job(
            name=matrix.folder_name(self.dataset.name, self.start.network, self.protocol.name, f"seed{seed}"),
            folder=folder,
            network=self.start.recorded(),
            build=lambda: self.start.build(classes, network_options(protocol)),
            protocol=protocol,
            train=training,
            test=self.test,
            seed=seed,
            config=config,
            pixels=self.start.pixels,
            device=self.settings.device,
            events=tuple(self.events),
            watch=self.settings.watch,
            workers=self.settings.workers,
            title=f"seed {seed}",
        )

    def _open_test(self) -> FramedImages:
        listing = self.dataset.test.open(progress=self.settings.progress)
        return FramedImages(listing, self.framing, progress=self.settings.progress)
