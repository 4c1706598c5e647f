"""Probe runs from the data set to their records: features once, a choice on validation, then the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from rexdet.files import write_json_atomically
from rexdet.processes import barrier, is_main
from rexdet.runs import Data, Run, RunRecord, matrix
from rexdet.transfer.experiment import Finished, Settings, finished_before, look_first
from rexdet.transfer.features import Extractor, FeatureSet
from rexdet.transfer.few_shot import run_few_shot
from rexdet.transfer.framing import framing_of
from rexdet.transfer.images import Listing
from rexdet.transfer.job import recorded_pixels
from rexdet.transfer.knn import KnnChoice, run_knn
from rexdet.transfer.opening import Dataset
from rexdet.transfer.probe import ProbeChoice, run_linear_probe
from rexdet.transfer.protocols import ProbeProtocol
from rexdet.transfer.randomness import NOTHING, REPEATED, repeated_by_seed
from rexdet.transfer.scan import cache_folder
from rexdet.transfer.start import Start
from rexdet.transfer.sweep import CHOICE_NAME, VERSION, config_text

Metrics = dict[str, dict[str, float | None]]


def probe(dataset: Dataset, start: Start, protocol: ProbeProtocol, settings: Settings) -> Finished:
    """Features of the fixed network, a choice on validation where there is one, then test. A record for each seed.

    A seed changes what is random: the images held out for choosing where the set has no official validation split, the
    shots, random weights. Where nothing is, there is one run. Called by every process. Raises UserError.
    """
    repeated = repeated_by_seed(protocol, has_checkpoint=start.checkpoint is not None, has_val=dataset.val is not None)
    seeds = settings.seeds
    if not repeated and seeds > 1:
        settings.say("note: nothing is random in this protocol on this data set: one run instead of several")
        seeds = 1
    prober = _Prober(dataset, start, protocol, settings)
    prober.events.append((REPEATED, repeated or NOTHING))
    prober.events += look_first(start, dataset.train_and_val(), prober.framing, settings)
    records = []
    for number in range(seeds):
        seed = settings.seed + number
        folder = settings.output if number == 0 else settings.output / f"seed{seed}"
        config = prober.config(seed)
        records.append(finished_before(folder, config) or prober.run(seed, folder, config))
    return Finished(
        output=settings.output,
        metric=dataset.metric,
        protocol=protocol.name,
        records=tuple(records),
        repeated=repeated,
        fixed="the features and the test images." if start.checkpoint else "the images.",
        heads=tuple((head, group) for head, group in prober.heads(records) if group in records[0].metrics),
    )


class _Prober:
    """Makes the probe runs of one network on one data set."""

    def __init__(self, dataset: Dataset, start: Start, protocol: ProbeProtocol, settings: Settings) -> None:
        self.dataset, self.start, self.protocol, self.settings = dataset, start, protocol, settings
        self.framing = framing_of(start.pixels, protocol.framing, protocol.image_size or 0, protocol.interpolation)
        self.events = [("framing", f"images: {self.framing}"), *(("data", note) for note in dataset.notes)]
        # The seal opens once, for however many seeds.
        self.test: Callable[[], Listing] = lru_cache(maxsize=1)(self._open_test)

    def config(self, seed: int) -> str:
        """Everything that a run's result hangs on, as text."""
        values = {
            "version": VERSION,
            **self.start.identity,
            **self.dataset.facts.identity,
            "training_images": self.dataset.train_and_val().fingerprint,
            "seed": seed,
            "protocol": self.protocol.model_dump(mode="json", exclude={"name", "source", "batch_size"}),
        }
        return config_text(values, self.protocol.name)

    def heads(self, records: list[RunRecord]) -> tuple[tuple[str, str], ...]:
        """Head and group of each number of the records."""
        protocol = self.protocol
        at = "" if protocol.tap == "penultimate" else f" at {protocol.tap}"
        if protocol.kind == "knn":
            chosen = sorted({round(record.metrics["val"]["k"] or 0) for record in records})
            counts = " or ".join(map(str, chosen))
            norm = "L2" if protocol.norm == "l2" else "no norm"
            return ((f"kNN (k {counts}, T {protocol.temperature:g}, {norm}){at}", "test"),)
        if protocol.kind == "few_shot":
            return tuple((f"ridge, {shots} a class{at}", f"test_{shots}_shot") for shots in protocol.shots)
        return ((f"linear probe{at}" if at else "", "test"),)

    def run(self, seed: int, folder: Path, config: str) -> RunRecord:
        """One run with its record."""
        start, settings = self.start, self.settings
        network = start.recorded().model_copy(update={"pixels": recorded_pixels(start.pixels)})
        train = self.dataset.train_and_val()
        record = RunRecord(
            kind="transfer",
            name=matrix.folder_name(self.dataset.name, start.network, self.protocol.name, f"seed{seed}"),
            command=settings.command,
            config=config,
            seed=seed,
            network=network,
            data=Data(train=train.described()),
        )
        with Run.start(folder, record, resume=True) as run:
            barrier()
            for code, message in self.events:
                run.event(code, message)
            metrics = self._measure(seed, folder)
            for note in self.test().notes:
                run.event("data", note)
            run.finish(data=Data(train=train.described(), val=self.test().described()), metrics=metrics)
        return run.record

    def _measure(self, seed: int, folder: Path) -> Metrics:
        protocol, settings, metric = self.protocol, self.settings, self.dataset.metric
        extractor = Extractor(
            self.start.network,
            self.start.checkpoint,
            tap=protocol.tap,
            framing=self.framing,
            pixels=self.start.pixels,
            device=settings.device,
            batch_size=protocol.batch_size,
            seed=seed,
        )

        def features(listing: Listing) -> FeatureSet:
            return extractor.extract(listing, cache_folder("features"), progress=settings.progress)

        def test() -> FeatureSet:
            return features(self.test())

        def keep(choice: ProbeChoice | KnnChoice) -> None:
            if is_main():
                write_json_atomically(folder / CHOICE_NAME, asdict(choice))

        if protocol.kind == "few_shot":
            everything = features(self.dataset.train_and_val())
            shot = run_few_shot(
                everything, test, shots=protocol.shots, seeds=(seed,), l2=protocol.ridge, device=settings.device
            )
            for note in shot.notes:
                settings.say(f"note: {note}")
            return shot.as_metrics()
        train, val = (features(listing) for listing in self.dataset.tuning_split(seed))
        if protocol.kind == "knn":
            near = run_knn(
                train,
                val,
                test,
                metric=metric,
                neighbours=tuple(protocol.neighbours),
                temperature=protocol.temperature,
                norm=protocol.norm,
                device=settings.device,
                on_chosen=keep,
            )
            settings.say(near.head)
            return near.as_metrics()
        linear = run_linear_probe(
            train, val, test, metric=metric, device=settings.device, progress=settings.progress, on_chosen=keep
        )
        settings.say(str(linear.choice))
        return linear.as_metrics()

    def _open_test(self) -> Listing:
        return self.dataset.test.open(progress=self.settings.progress)
