"""What came out of a study: its tables, made from the records of its cells and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from rexdet.errors import UserError
from rexdet.files import write_json_atomically, write_text_atomically
from rexdet.report.statistics.intervals import Comparison, Summary, compare_paired, describe, runs_needed, summarise
from rexdet.runs import RunRecord, read_record, write_record
from rexdet.studies import lwdna, nm_relu

# What the records of one table must have in common, and how an error says it.
_COMMON = {"study": "study", "options": "options", "protocol": "protocol", "training_images": "training images"}
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Run:
    """One cell that is done: what it was (network, setting, seed) and its record."""

    network: str
    setting: str
    seed: int
    record: RunRecord

    def number(self, group: str, name: str) -> float:
        """A number of the record. Raises UserError where it is not there."""
        value = self.record.metrics.get(group, {}).get(name)
        if value is None:
            raise UserError(f"its record has no {group} {name}", self.record.name)
        return value


@dataclass(frozen=True)
class Row:
    """A setting of a network. macs, parameters: the largest of its runs. top1: of the test images, 0 to 1."""

    network: str
    setting: str
    macs: int
    parameters: int
    top1: Summary


@dataclass(frozen=True)
class Difference:
    """Test top-1 of one setting minus another's, paired by seed. needed: pairs that would show it if it is real."""

    network: str
    one: str
    other: str
    comparison: Comparison
    needed: int | None


@dataclass(frozen=True)
class Outcome:
    """The tables of a study. config: what all its cells have in common. notes: what a reader must know."""

    study: str
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """The tables and notes, as Markdown that reads well in a terminal."""
        return "\n\n".join((self._settings(), self._differences(), *self.notes)) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The tables as plain JSON values."""
        return {
            "study": self.study,
            "config": dict(self.config),
            "settings": [asdict(row) for row in self.rows],
            "differences": [asdict(difference) for difference in self.differences],
            "notes": list(self.notes),
        }

    def _settings(self) -> str:
        head = (
            "network",
            "setting",
            "MACs (M)",
            "parameters",
            "runs",
            "test top-1 (%)",
            "deviation",
        )
        lines = [
            (
                row.network,
                row.setting,
                f"{row.macs / 1e6:.2f}",
                f"{row.parameters:,}",
                str(row.top1.count),
                describe(row.top1, scale=100),
                _points(row.top1.deviation),
            )
            for row in self.rows
        ]
        return _table(head, lines)

    def _differences(self) -> str:
        head = ("network", "compared", "pairs", "difference (points)", "p", "shown", "smallest", "pairs needed")
        lines = []
        for difference in self.differences:
            comparison = difference.comparison
            is_alone = comparison.p_value is None
            needed = (
                "-" if is_alone else f"over {_MOST_RUNS:,}" if difference.needed is None else f"{difference.needed:,}"
            )
            lines.append(
                (
                    difference.network,
                    f"{difference.one} - {difference.other}",
                    str(comparison.summary.count),
                    describe(comparison.summary, scale=100),
                    "-" if comparison.p_value is None else f"{comparison.p_value:.2f}",
                    "-" if is_alone else "yes" if comparison.is_shown else "no",
                    _points(comparison.smallest),
                    needed,
                )
            )
        return _table(head, lines)


def read_records(folder: str | Path) -> list[RunRecord]:
    """The records of finished cells below a folder: `record.json` of run folders, or files of published records.

    Raises UserError where there are none, and for one that is no record.
    """
    root = Path(folder)
    paths = (
        sorted(root.rglob("record.json")) or sorted((root / "records").glob("*.json")) or sorted(root.glob("*.json"))
    )
    records = [read_record(path) for path in paths]
    done = [record for record in records if record.status == "done"]
    if not done:
        raise UserError("no records of finished cells here", str(folder), "name the --output of a study")
    return done


def from_records(study: str, records: Sequence[RunRecord]) -> Outcome:
    """The tables of a study. Raises UserError for records of another study and of different recipes or data."""
    configs = [_config(record) for record in records]
    for key, word in _COMMON.items():
        values = [config.get(key) for config in configs]
        if any(value != values[0] for value in values):
            raise UserError(f"the records differ in their {word}", fix="one table holds one recipe; name one study's")
    if configs[0]["study"] != study:
        raise UserError(f"these are records of the study {configs[0]['study']}, not {study}")
    runs = sorted(
        (
            Run(config["network"], config["setting"], config["seed"], record)
            for config, record in zip(configs, records, strict=True)
        ),
        key=lambda run: (run.network, _place(study, run.setting), run.setting, run.seed),
    )
    by_setting: dict[tuple[str, str], dict[object, Run]] = {}
    for run in runs:
        by_setting.setdefault((run.network, run.setting), {})[run.seed] = run
    rows = tuple(_row(network, setting, list(found.values())) for (network, setting), found in by_setting.items())
    config = {key: configs[0][key] for key in _COMMON}
    return Outcome(
        study=study,
        config=config,
        runs=tuple(runs),
        rows=rows,
        differences=tuple(_compare(study, by_setting)),
        notes=tuple(_notes(study, config, runs)),
    )


def write(outcome: Outcome, folder: Path) -> None:
    """Write `table.md`, `table.json` and the plots of a study into a folder."""
    from rexdet.studies.plots import plot

    write_text_atomically(folder / "table.md", outcome.text())
    write_json_atomically(folder / "table.json", outcome.as_json())
    plot(outcome, folder)


def publish(outcome: Outcome, folder: Path) -> None:
    """Write tables, plots and records for others: without what tells of one machine and of the files on its disk."""
    write(outcome, folder)
    for run in outcome.runs:
        record = run.record.model_copy(update={"process": None, "hardware": None, "files": {}})
        write_record(folder / "records" / f"{record.name}.json", record)


def _config(record: RunRecord) -> dict[str, Any]:
    config = yaml.safe_load(record.config or "")
    wanted = (*_COMMON, "network", "setting", "seed")
    if not isinstance(config, dict) or any(key not in config for key in wanted):
        raise UserError("not the record of a study's cell", record.name)
    return config


def _place(study: str, setting: str) -> int:
    order = lwdna.SETTINGS if study == lwdna.NAME else nm_relu.SETTINGS
    return order.index(setting) if setting in order else len(order)


def _row(network: str, setting: str, runs: Sequence[Run]) -> Row:
    return Row(
        network=network,
        setting=setting,
        macs=round(max(run.number("network", "macs") for run in runs)),
        parameters=round(max(run.number("network", "parameters") for run in runs)),
        top1=summarise([run.number("test", "top1") for run in runs]),
    )


def _compare(study: str, by_setting: Mapping[tuple[str, str], Mapping[object, Run]]) -> list[Difference]:
    differences = []
    for network in dict.fromkeys(network for network, _ in by_setting):
        settings = [setting for other, setting in by_setting if other == network]
        if study == lwdna.NAME:
            pairs = [pair for pair in lwdna.COMPARED if set(pair) <= set(settings)]
        else:
            pairs = [(setting, nm_relu.BASELINE) for setting in settings if setting != nm_relu.BASELINE]
        for one, other in pairs:
            values = [
                {seed: run.number("test", "top1") for seed, run in by_setting[network, setting].items()}
                for setting in (one, other)
            ]
            if not set(values[0]) & set(values[1]):
                continue
            comparison = compare_paired(*values)
            deviation = comparison.summary.deviation
            needed = None if deviation is None else runs_needed(comparison.summary.mean, deviation, most=_MOST_RUNS)
            differences.append(Difference(network, one, other, comparison, needed))
    return differences


def _notes(study: str, config: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    record, protocol = runs[0].record, config["protocol"]
    train, test, recipe = record.data.train, record.data.val, record.recipe
    repeated = "the search, the initialisation" if study == lwdna.NAME else "the initialisation"
    notes = []
    notes.append(
        f"Mean ± half of the 95% interval (Student's t) over runs. A run repeats {repeated}, the order of the images "
        "and their augmentation with another seed; the images stay the same, so what another test set would give is "
        "not covered. Differences are paired by seed, and their intervals are not corrected for how many there are. "
        "`shown`: the interval leaves 0 out. `smallest`: the difference in points that so many pairs of this spread "
        "would have shown in 80 of 100 cases. `pairs needed`: to show the observed difference as often, if it is real."
    )
    if train and test and recipe:
        notes.append(
            f"{train.images:,} training and {test.images:,} test images of {len(train.classes or [])} classes, "
            f"{protocol['image_size']} pixels; protocol {protocol['name']}: {recipe.iterations:,} steps of "
            f"{recipe.effective_batch}, {recipe.optimizer}, learning rate {recipe.base_lr:g}, "
            f"{f'warm-up {recipe.warm_up}, ' if recipe.warm_up else ''}{recipe.schedule}. "
            "The accuracy is that of the last step; nothing was chosen by it."
        )
    if study == lwdna.NAME:
        options = config["options"]
        notes.append(
            f"Weights at the start of training: {options['weights']}. Searched: the network widened by "
            f"{options['width']:g}, shrunk to no more MACs than the baseline's (the largest of the runs is shown); "
            f"floors {options['remain']:g} and {options['linear']:g}."
        )
    else:
        for network in dict.fromkeys(run.network for run in runs):
            _, same = nm_relu.distinct_settings(network, nm_relu.SETTINGS, protocol["image_size"])
            notes += [f"{ratio} gives {network} the same network as {other}: one row." for ratio, other in same.items()]
    return notes


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    alignment = ["left", "left", *["right"] * (len(head) - 2)]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True, colalign=alignment)
