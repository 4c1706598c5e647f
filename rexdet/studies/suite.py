"""A suite: networks x (data sets and detector configs) x seeds, from one plan, each cell a command of its own.

    output: suites/first
    networks: [rexnet_1.0@nav_in1k, resnet50@tv_in1k]
    seeds: 3
    transfer:
      - {dataset: flowers102, protocol: fine_tune_short}
    detection:
      - {config: retinanet_rexnet, arguments: [--data-root, coco]}

A cell is a process, so that what ends one (memory, a fault) ends no other, and so that it may be a torchrun job. On one
machine cells run one after the other or several at once; over machines a scheduler that exists already takes them:
Slurm, through submitit (docs/decisions/0006).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rexdet.errors import UserError
from rexdet.optional import import_optional
from rexdet.runs import RunRecord, matrix, read_record
from rexdet.transfer.datasets import dataset_facts
from rexdet.transfer.protocols import AnyProtocol, Protocol, read_any_protocol
from rexdet.transfer.randomness import repeated_by_seed
from rexdet.zoo.names import parse

CELLS = "cells"
LOG_NAME = "log.txt"
Words = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedNetwork(_Part):
    """A name, with its @tag; or with weights of one's own and the pixels that they were trained with."""

    name: Words
    weights: str = ""
    pixels: str = ""


class PlannedTransfer(_Part):
    """A data set and a protocol; further words of transfer/run.py."""

    dataset: Words
    protocol: Words
    data_root: str = ""
    arguments: list[str] = Field(default_factory=list)


class PlannedDetection(_Part):
    """A detector's config; further words of tools/train_det.py."""

    config: Words
    arguments: list[str] = Field(default_factory=list)


class Scheduler(_Part):
    """cluster: "slurm", or "local" for processes of this machine. parameters: submitit's, as it calls them."""

    cluster: Literal["slurm", "local"] = "slurm"
    parameters: dict[str, Any] = Field(default_factory=dict)


class Plan(_Part):
    """What a plan file says. seeds: how many, from `first_seed` on. processes: cells at once on this machine.
    torchrun: processes of a cell, 1 for none.
    """

    output: Words
    networks: Annotated[list[PlannedNetwork], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)] = 1
    first_seed: Annotated[int, Field(ge=0)] = 0
    transfer: list[PlannedTransfer] = Field(default_factory=list)
    detection: list[PlannedDetection] = Field(default_factory=list)
    processes: Annotated[int, Field(ge=1)] = 1
    torchrun: Annotated[int, Field(ge=1)] = 1
    scheduler: Scheduler | None = None


@dataclass(frozen=True)
class Cell:
    """One command. kind: "transfer" or "detection". task: data set and protocol, or config. seeds: those it covers.

    words: of its command line, without output, resume and seeds. folds: of a folder that is dealt into folds, else 1.
    """

    kind: str
    network: str
    task: str
    seeds: tuple[int, ...]
    words: tuple[str, ...]
    folds: int = 1

    @property
    def command(self) -> tuple[str, ...]:
        """All words of its command line but output and resume."""
        verb, *rest = self.words
        seeds = ("--seed", str(self.seeds[0]))
        return (verb, *seeds, *(("--seeds", str(len(self.seeds))) if self.kind == "transfer" else ()), *rest)

    @property
    def name(self) -> str:
        """Of its folder: readable, and keyed by its words."""
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}to{self.seeds[-1]}"
        return matrix.folder_name(self.network, self.task, seeds, matrix.content_key({"words": list(self.command)}))

    @property
    def title(self) -> str:
        """For a person."""
        return f"{self.network} | {self.task} | seed {', '.join(map(str, self.seeds))}"

    def folders(self, output: Path) -> list[Path]:
        """The folders of its records: of each fold the first seed's, then those of further ones."""
        root = output / CELLS / self.name
        starts = [root] if self.folds == 1 else [root / f"fold{fold}" for fold in range(self.folds)]
        return [folder for start in starts for folder in (start, *(start / f"seed{seed}" for seed in self.seeds[1:]))]


def read_plan(path: str | Path) -> Plan:
    """A plan from its YAML file; a network may be just its name. Raises UserError in one line."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such plan", str(path)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"not a plan ({error})", str(path)) from None
    if not isinstance(values, dict):
        raise UserError("not a plan: no mapping", str(path), "docs/transfer.md shows one")
    networks = values.get("networks")
    if isinstance(networks, list):
        values["networks"] = [{"name": entry} if isinstance(entry, str) else entry for entry in networks]
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", str(path)) from None
    if not plan.transfer and not plan.detection:
        raise UserError("plans nothing", str(path), "give transfer or detection")
    return plan


def plan_cells(plan: Plan) -> list[Cell]:
    """The cells of a plan, seed by seed. Raises UserError for a network or a protocol that there is not.

    A protocol that searches is one cell for all seeds: its search is done once, and the final run repeated. Where a
    seed changes nothing (kNN on a published checkpoint), there is one cell with the first.
    """
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    cells: list[Cell] = []
    for network in plan.networks:
        parse(network.name)
        for entry in plan.transfer:
            protocol = read_any_protocol(entry.protocol)
            if entry.dataset != "folder":
                dataset_facts(entry.dataset)
            is_random = protocol.from_scratch or "--from-scratch" in entry.arguments
            groups = _seed_groups(protocol, entry, is_random, tuple(seeds))
            cells += [_transfer_cell(network, entry, is_random, group) for group in groups]
        for config in plan.detection:
            cells += [_detection_cell(network, config, seed) for seed in seeds]
    # Seed by seed, so that a suite that is cut short has equal numbers of runs.
    return sorted(dict.fromkeys(cells), key=lambda cell: cell.seeds[0])


def _seed_groups(
    protocol: AnyProtocol, entry: PlannedTransfer, is_random: bool, seeds: tuple[int, ...]
) -> list[tuple[int, ...]]:
    if isinstance(protocol, Protocol) and protocol.grid is not None:
        return [seeds]
    # Whether a folder of one's own has images to choose by is known when it is opened.
    has_val = entry.dataset != "folder" and "val" in dataset_facts(entry.dataset).splits
    if not repeated_by_seed(protocol, has_checkpoint=not is_random, has_val=has_val):
        return [seeds[:1]]
    return [(seed,) for seed in seeds]


def _transfer_cell(network: PlannedNetwork, entry: PlannedTransfer, from_scratch: bool, seeds: tuple[int, ...]) -> Cell:
    name = parse(network.name).network if from_scratch else network.name
    words = ["transfer", "--dataset", entry.dataset, "--protocol", entry.protocol, "--network", name]
    for switch, value in (("--data-root", entry.data_root), *(() if from_scratch else _weights(network))):
        words += [switch, value] if value else []
    words += entry.arguments
    dataset = f"folder:{Path(entry.data_root).name}" if entry.dataset == "folder" else entry.dataset
    task = " ".join((dataset, Path(entry.protocol).stem, *entry.arguments))
    return Cell("transfer", name, task, seeds, tuple(words), _folds(entry.arguments))


def _folds(arguments: Sequence[str]) -> int:
    """Of --kfold K among the further words; 1 without. What is no number is the command's to refuse."""
    given = re.search(r"(?:^| )--kfold[ =](\d+)(?: |$)", " ".join(arguments))
    return max(1, int(given[1])) if given else 1


def _detection_cell(network: PlannedNetwork, entry: PlannedDetection, seed: int) -> Cell:
    words = ["train_det", "--config", entry.config, "--backbone", network.name]
    for switch, value in _weights(network):
        words += [switch, value] if value else []
    words += entry.arguments
    task = " ".join((Path(entry.config).stem, *entry.arguments))
    return Cell("detection", network.name, task, (seed,), tuple(words))


def _weights(network: PlannedNetwork) -> tuple[tuple[str, str], ...]:
    return (("--weights", network.weights), ("--pixels", network.pixels))


def finished_cell(cell: Cell, output: Path) -> RunRecord | None:
    """The first record of a cell all of whose runs are done, else None."""
    records = [matrix.finished(folder) for folder in cell.folders(output)]
    return records[0] if all(record is not None for record in records) else None


def command_of(cell: Cell, plan: Plan) -> list[str]:
    """The command line of a cell, which goes on with what was stopped."""
    start = [sys.executable]
    if plan.torchrun > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(plan.torchrun)]
    folder = Path(plan.output) / CELLS / cell.name
    verb, *words = cell.command
    # Before what argparse takes as the rest of the line.
    return [*start, "-m", "rexdet.cli", verb, "--output", str(folder), "--resume", *words]


def run_command(command: list[str], log: str) -> tuple[int, str]:
    """Run a command with its words in a log. Returns its status, and the last line that it printed."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as stream:
        status = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    lines = Path(log).read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return status, told[-1] if told else ""


def run_suite(plan: Plan, cells: list[Cell], *, progress: bool = True) -> matrix.Outcome[Cell]:
    """Run every cell that is not done; one that fails stops no other."""
    output = Path(plan.output)
    by_folder = {cell.folders(output)[0]: cell for cell in cells}
    compute: Callable[[Cell], RunRecord]
    if plan.scheduler is None:
        compute = partial(_run_here, plan)
    else:
        todo = [cell for cell in cells if finished_cell(cell, output) is None]
        compute = partial(_wait, plan, _submit(plan, plan.scheduler, todo))
    return matrix.run_cells(
        cells,
        compute,
        folder=lambda cell: cell.folders(output)[0],
        title=lambda cell: cell.title,
        look=lambda folder: finished_cell(by_folder[folder], output),
        workers=matrix.Workers(1 if plan.scheduler else plan.processes),
        progress=progress,
    )


def _run_here(plan: Plan, cell: Cell) -> RunRecord:
    return _ended(plan, cell, *run_command(command_of(cell, plan), str(_log(plan, cell))))


def _submit(plan: Plan, scheduler: Scheduler, cells: list[Cell]) -> dict[Cell, Any]:
    """Hand the cells to the scheduler, as one array of jobs."""
    submitit = import_optional("submitit", "submitit")
    executor = submitit.AutoExecutor(folder=Path(plan.output) / "scheduler", cluster=scheduler.cluster)
    try:
        executor.update_parameters(**scheduler.parameters)
    except (TypeError, NameError) as error:
        raise UserError(f"scheduler.parameters: {' '.join(str(error).split())}") from error
    with executor.batch():
        jobs = [executor.submit(run_command, command_of(cell, plan), str(_log(plan, cell))) for cell in cells]
    return dict(zip(cells, jobs, strict=True))


def _wait(plan: Plan, jobs: dict[Cell, Any], cell: Cell) -> RunRecord:
    try:
        status, line = jobs[cell].result()
    except Exception as error:  # what the job or its machine died of, in the scheduler's own words
        raise UserError(f"the scheduler tells: {' '.join(str(error).split())[:300]}") from error
    return _ended(plan, cell, status, line)


def _ended(plan: Plan, cell: Cell, status: int, line: str) -> RunRecord:
    record = finished_cell(cell, Path(plan.output))
    if status != 0 or record is None:
        raise UserError(f"exit status {status}: {line.removeprefix('error: ')}", str(_log(plan, cell)))
    return record


def _log(plan: Plan, cell: Cell) -> Path:
    return Path(plan.output) / CELLS / f"{cell.name}.{LOG_NAME}"


def measure_hours(cell: Cell) -> float | str:
    """Hours of a cell, from steps that are measured in a process of its own; why not, where they cannot be."""
    verb, *words = cell.command
    more = ["--dry-run", "--json"] if cell.kind == "transfer" else ["--dry-run"]
    command = [sys.executable, "-m", "rexdet.cli", verb, *more, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["no word"])[-1].removeprefix("error: ")
    if cell.kind == "transfer":
        return float(json.loads(done.stdout)["seconds"]) / 3600
    return _detection_hours(done.stdout)


def _detection_hours(text: str) -> float | str:
    """Hours out of what `tools/train_det.py --dry-run` prints: "training   3 h 05 min for ..."."""
    found = re.search(r"^training\s+(?:(\d+) h (\d+) min|(\d+) min (\d+) s)", text, re.MULTILINE)
    if found is None:
        return "its dry run tells no duration"
    hours, rest, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours + (rest + minutes) / 60 + seconds / 3600


def records_of(cells: list[Cell], output: Path) -> dict[Cell, list[RunRecord]]:
    """The records of the cells that are done."""
    return {
        cell: [read_record(folder) for folder in cell.folders(output)]
        for cell in cells
        if finished_cell(cell, output) is not None
    }
