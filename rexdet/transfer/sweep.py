"""A protocol's grid, tried on validation alone. The test split is no argument of anything here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.processes import is_main, share
from rexdet.runs import RunRecord, matrix, read_record, record_path
from rexdet.transfer.finetune import DivergedError
from rexdet.transfer.framing import FramedImages
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.metrics import Metric
from rexdet.transfer.protocols import Protocol

FOLDER = "search"
CHOICE_NAME = "choice.json"
# Results of the same cell by another version of the harness are not mixed.
VERSION = 1


def run_config(protocol: Protocol, start: dict[str, Any], train: str, seed: int, **more: Any) -> dict[str, Any]:
    """Everything that a training's result hangs on, in plain values.

    start: `Start.identity`. train: the fingerprint of the training images. What a protocol is called, where it comes
    from and what else was tried change no result.
    """
    recipe = protocol.model_dump(mode="json", exclude={"name", "source", "grid"}, exclude_defaults=True)
    return {"version": VERSION, **start, "training_images": train, "seed": seed, "protocol": recipe, **more}


def config_text(values: dict[str, Any], name: str) -> str:
    """The same as a record holds it, with the protocol's name before it."""
    return f"# protocol {name}\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Tried:
    """One cell of the grid.

    score: the data set's metric on validation, 0 to 1; None: the loss was not finite. train_top1: on training images in
    the last epoch, 0 to 1.
    """

    learning_rate: float
    weight_decay: float
    score: float | None
    loss: float | None
    train_top1: float | None = None


@dataclass(frozen=True)
class Choice:
    """What validation chose. protocol: with the winner's numbers. ends: where the winner lies at an end of the grid."""

    protocol: Protocol
    tried: tuple[Tried, ...]
    metric: Metric
    ends: tuple[str, ...]

    @property
    def best(self) -> Tried:
        """The winner."""
        return self.tried[_best(self.tried)]

    def as_json(self, seed: int) -> dict[str, Any]:
        """The choice as a file keeps it."""
        return {
            "protocol": self.protocol.name,
            "metric": f"validation {self.metric}",
            "seed": seed,
            "chosen": vars(self.best),
            "ends": list(self.ends),
            "tried": [vars(cell) for cell in self.tried],
        }

    def lines(self) -> list[str]:
        """For a person."""
        best, lost = self.best, sum(cell.score is None for cell in self.tried)
        score = 100 * (best.score or 0.0)
        text = (
            f"chosen on validation among {len(self.tried)}: learning rate {best.learning_rate:g}, "
            f"weight decay {best.weight_decay:g} ({self.metric} {score:.2f}%)"
        )
        more = f"; in {lost} of them the loss was not finite" if lost else ""
        return [text + more, *self.ends]


def search(
    protocol: Protocol,
    make_job: Callable[[Protocol, dict[str, Any]], Job],
    identity: dict[str, Any],
    validation: Callable[[], FramedImages],
    *,
    train: str,
    val: str,
    seed: int,
    metric: Metric,
    output: Path,
    progress: bool = False,
    command: list[str] | None = None,
) -> Choice:
    """Train every cell of the grid and choose by the metric on validation; finished cells are not trained again.

    make_job: the run of a cell without its place and its split. identity: of what training starts from. validation:
    gives the images to choose by. train, val: fingerprints of the two. Ties: the lower loss, then the grid's order.
    Called by every process of torchrun. Raises UserError where every cell's loss was not finite, and for any other
    mistake in a cell: a choice among a part of the grid is none.
    """
    cells: dict[str, tuple[Protocol, dict[str, Any]]] = {}
    for candidate in protocol.candidates():
        config = run_config(candidate, identity, train, seed, validation_images=val)
        name = matrix.folder_name(
            f"lr{candidate.learning_rate:.3g}", f"wd{candidate.weight_decay:.3g}", matrix.content_key(config)
        )
        cells[name] = candidate, config
    titles = {
        name: f"learning rate {cell.learning_rate:.3g}, weight decay {cell.weight_decay:.3g}"
        for name, (cell, _) in cells.items()
    }

    def compute(name: str) -> RunRecord:
        candidate, config = cells[name]
        number = list(cells).index(name) + 1
        job = replace(
            make_job(candidate, config),
            name=name,
            folder=output / FOLDER / name,
            test=validation,
            split="val",
            title=f"{number} of {len(cells)}",
        )
        return run_job(job, progress=progress, command=command)

    outcome = matrix.run_cells(
        list(cells),
        compute,
        folder=lambda name: output / FOLDER / name,
        title=lambda name: titles[name],
        tell=lambda _, record: f"{metric} {100 * (record.metrics['val'][metric] or 0.0):.2f}% on validation",
        look=_known,
        passable=DivergedError,
        progress=progress and is_main(),
    )
    tried = tuple(_tried(candidate, outcome.records.get(name), metric) for name, (candidate, _) in cells.items())
    if all(cell.score is None for cell in tried):
        raise UserError("the loss was not finite with any of the grid", protocol.name, "lower its learning rates")
    winner = list(cells.values())[_best(tried)][0]
    choice = Choice(winner, tried, metric, tuple(grid_ends(protocol, tried)))
    if is_main():
        write_json_atomically(output / CHOICE_NAME, choice.as_json(seed))
    return choice


def _known(folder: Path) -> RunRecord | None:
    """The record of a cell that is done, or whose loss was not finite (it would not be again), for every process."""
    found = None
    if is_main() and record_path(folder).exists():
        record = read_record(folder)
        diverged = record.failure is not None and record.failure.type == DivergedError.__name__
        found = record if record.status == "done" or diverged else None
    known: RunRecord | None = share(found)
    return known


def _tried(cell: Protocol, record: RunRecord | None, metric: Metric) -> Tried:
    numbers = record.metrics.get("val") if record is not None else None
    if not numbers:
        return Tried(cell.learning_rate, cell.weight_decay, None, None)
    train_top1 = record.metrics.get("train", {}).get("top1") if record is not None else None
    return Tried(cell.learning_rate, cell.weight_decay, numbers[metric], numbers["loss"], train_top1)


def _best(tried: tuple[Tried, ...]) -> int:
    def worth(index: int) -> tuple[float, float]:
        cell = tried[index]
        loss = float("inf") if cell.loss is None else cell.loss
        return (-1.0 if cell.score is None else cell.score, -loss)

    return max(range(len(tried)), key=lambda index: (*worth(index), -index))


def grid_ends(protocol: Protocol, tried: tuple[Tried, ...]) -> list[str]:
    """Lines about where the winner lies at an end of the grid, so that a better one may lie beyond it."""
    grid, best = protocol.grid, _best(tried)
    if grid is None:
        return []
    decays = grid.weight_decay or [protocol.weight_decay]
    lines = []
    for name, values, value in (
        ("learning rate", grid.learning_rate, grid.learning_rate[best // len(decays)]),
        ("weight decay", decays, decays[best % len(decays)]),
    ):
        # Nothing lies below a weight decay of 0.
        ends = [end for end in (min(values), max(values)) if end > 0]
        if len(values) > 1 and value in ends:
            side = "largest" if value == max(values) else "smallest"
            lines.append(f"the {side} {name} of the grid ({value:g}) was chosen: a better one may lie beyond it")
    return lines
