"""What stands behind the name of each protocol: the recipe of the runs, and where it departs from a published one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rexdet import published
from rexdet.report.records.groups import Group, Groups
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, words
from rexdet.runs.record import RunRecord

# More values of one field than so many are counted.
_MOST_VALUES = 3
_PLAIN = ("optimizer", "warm_up", "schedule")


def protocols_table(groups: Groups) -> Table:
    """A row for each protocol that a table names, of detectors and of transfer."""
    columns = (
        Column("protocol", "protocol"),
        Column("what", "of", help="the detector, or the head of a transfer number"),
        Column("toolbox", "toolbox"),
        Column("batch", "batch", help="images a step of the optimiser, over all processes"),
        Column("optimizer", "optimiser"),
        Column("base_lr", "learning rate"),
        Column("warm_up", "warm-up"),
        Column("schedule", "schedule"),
        Column("iterations", "steps"),
        Column("train_size", "training images", help="their sizes"),
        Column("test_size", "test images", help="their size, where it is another"),
        Column("augmentation", "augmentation"),
        Column("precision", "precision", help="autocast and averaged weights"),
        Column("source", "published as"),
        Column("differs", "departs from the published recipe in"),
    )
    builder = TableBuilder("protocols", "What the protocols are", columns)
    found: dict[tuple[str, str, str], list[Group]] = {}
    for group in (*groups.detection.values(), *groups.transfer.values()):
        setting = group.setting
        found.setdefault((setting.task, setting.recipe, setting.what), []).append(group)
    for (task, recipe, what), alike in sorted(found.items()):
        records = [one.record for group in alike for one in group.runs]
        cells = _recipe_cells(records) | (_detector_sizes(alike) if task == "detection" else _sizes(records))
        cells |= _published_cells(alike[0].setting.protocol, records)
        # Of a probe on features there may be nothing to tell but its name.
        if any(cell.text for cell in cells.values()):
            builder.add(f"{recipe} {what}", cells | {"protocol": words(recipe), "what": words(what)})
    if builder.rows:
        builder.notes.append(
            "As the runs' records have it. Protocols called ours-… are named by a hash of all that shapes the numbers: "
            "the fields here, and the rest of the configuration, which tools/compare.py tells apart key by key. Norm, "
            "freezing and start of the backbone are told in the row of each network."
        )
    return builder.build()


def _recipe_cells(records: list[RunRecord]) -> dict[str, Cell]:
    recipes = [record.recipe for record in records if record.recipe is not None]
    cells = {key: _values(getattr(recipe, key) for recipe in recipes) for key in _PLAIN}
    return cells | {
        "batch": _values(_number(recipe.effective_batch) for recipe in recipes),
        "base_lr": _values(_number(recipe.base_lr) for recipe in recipes),
        "iterations": _values(_number(recipe.iterations) for recipe in recipes),
        "precision": _values(_precision(recipe.amp, recipe.ema) for recipe in recipes),
    }


def _detector_sizes(groups: list[Group]) -> dict[str, Cell]:
    told = [protocol for group in groups for protocol in group.protocols]
    keys = ("toolbox", "train_size", "test_size", "augmentation")
    return {key: _values(_known(getattr(one, key)) for one in told) for key in keys}


def _sizes(records: list[RunRecord]) -> dict[str, Cell]:
    sides = [re.search(r"^  image_size: (\d+)$", record.config or "", re.MULTILINE) for record in records]
    return {"train_size": _values(f"{side[1]} px" if side else None for side in sides)}


def _published_cells(protocol: str, records: list[RunRecord]) -> dict[str, Cell]:
    recipes = [record.recipe for record in records if record.recipe is not None]
    departures = dict.fromkeys(line for recipe in recipes for line in recipe.differs_from_recipe)
    known = published.protocols().get(protocol)
    return {
        "source": words(f"{known.title}: {known.source}, {known.place}" if known else None),
        "differs": words("; ".join(departures)),
    }


def _values(values: Iterable[str | None]) -> Cell:
    """The values of all runs, each once; how many where they are many."""
    found = sorted({value for value in values if value})
    if not found:
        return MISSING
    return words(" / ".join(found) if len(found) <= _MOST_VALUES else f"{len(found)} values, {found[0]} … {found[-1]}")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if value >= 1 and value == int(value) else f"{value:g}"


def _known(value: object) -> str | None:
    return None if value in (None, "unknown") else str(value)


def _precision(amp: str | None, ema: float | None) -> str:
    return (amp or "float32") + (f", averaged weights {ema:g}" if ema is not None else "")
