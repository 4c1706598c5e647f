"""Folders with several runs of one setting: what differs over their seeds, and how many more would settle it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rexdet.errors import UserError
from rexdet.report.comparison.compared_runs import Compared, open_runs
from rexdet.report.comparison.differences import FieldDifference, run_differences
from rexdet.report.records.groups import why_no_result
from rexdet.report.statistics.bootstrap import NUMBERS
from rexdet.report.statistics.intervals import Summary, summarise
from rexdet.report.statistics.ranks import RowDifference, compare_rows
from rexdet.runs import RunRecord, read_record
from rexdet.runs.record import RECORD_NAME, record_path

# What must be the same in the runs of one folder; versions and machines may differ, and seeds have to.
_SETTING = ("config", "weights", "data", "recipe")


@dataclass(frozen=True)
class SeedRow:
    """One number over the shared seeds, 0 to 1; difference: B minus A. None where a run lacks the number."""

    name: str
    one: Summary | None
    other: Summary | None
    difference: RowDifference

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        comparison = self.difference.comparison
        return {
            "A": None if self.one is None else asdict(self.one),
            "B": None if self.other is None else asdict(self.other),
            "difference": None
            if comparison is None
            else {
                **asdict(comparison.summary),
                "p_value": comparison.p_value,
                "shown": comparison.is_shown,
                "smallest": comparison.smallest,
                "pairs_needed": self.difference.needed,
            },
        }


@dataclass(frozen=True)
class SeedComparison:
    """Two sets of runs. pairs: the folders of A and B, by the seeds that both have, ascending.

    alone: seeds of A and of B that the other lacks, left out. pictured: the seed of the pair whose images are compared.
    """

    pairs: dict[int, tuple[Path, Path]]
    pictured: int
    alone: tuple[tuple[int, ...], tuple[int, ...]]
    rows: tuple[SeedRow, ...]
    notes: tuple[str, ...]

    @property
    def shared(self) -> tuple[int, ...]:
        """The seeds that both have."""
        return tuple(self.pairs)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "shared": list(self.shared),
            "only_A": list(self.alone[0]),
            "only_B": list(self.alone[1]),
            "images_of": [str(path) for path in self.pairs[self.pictured]],
            "numbers": {row.name: row.as_json() for row in self.rows},
        }


def holds_several(path: str | Path) -> bool:
    """Whether this is no run, but a folder of runs."""
    return not record_path(path).exists() and bool(_runs_below(Path(path)))


def compare_seeds(one: str | Path, other: str | Path, iou_type: str = "bbox") -> SeedComparison:
    """Compare two folders of runs, paired by seed, from what their records say. A broken record in a folder of several
    is skipped, and a note says so.

    Raises UserError: a broken record that was named itself, a folder with no other, runs of one folder that differ in
    more than their seed, a seed twice or not told, no seed that both have, fewer than two.
    """
    notes: list[str] = []
    sets = [_by_seed(Path(path), name, notes) for name, path in (("A", one), ("B", other))]
    shared = sorted(set(sets[0]) & set(sets[1]))
    if len(shared) < 2:
        told = " and ".join(", ".join(map(str, sorted(found))) for found in sets)
        raise UserError(
            f"the two folders share {len(shared)} seeds (they have {told}){''.join(f'; {note}' for note in notes)}",
            f"{one} and {other}",
            "name two runs, or train both settings with at least two seeds that are the same",
        )
    splits = [found[seed][1].data.val for found in sets for seed in shared]
    prints = {split.fingerprint for split in splits if split is not None}
    if len(prints) > 1:
        raise UserError("the runs were scored on different validation data", f"{one} and {other}")
    rows = []
    for key in NUMBERS:
        values = [{seed: found[seed][1].metrics.get(iou_type, {}).get(key) for seed in shared} for found in sets]
        known = [_complete(by_seed) for by_seed in values]
        summaries = [summarise(list(numbers.values())) if numbers else None for numbers in known]
        rows.append(SeedRow(key, summaries[0], summaries[1], compare_rows(known[1], known[0])))
    return SeedComparison(
        pairs={seed: (sets[0][seed][0], sets[1][seed][0]) for seed in shared},
        pictured=shared[0],
        alone=(tuple(sorted(set(sets[0]) - set(shared))), tuple(sorted(set(sets[1]) - set(shared)))),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def open_first_pair(
    seeds: SeedComparison, *, annotations: str | None = None, images: str | None = None, intersect: bool = False
) -> tuple[Compared, SeedComparison]:
    """The runs of the first shared seed whose detections can be compared, and the comparison that says which it is.

    annotations, images, intersect: as in `open_runs`. Raises UserError, that of the first seed, where there is none.
    """
    reasons: dict[int, UserError] = {}
    for seed, pair in seeds.pairs.items():
        try:
            compared = open_runs(*pair, annotations=annotations, images=images, intersect=intersect)
        except UserError as error:
            reasons[seed] = error
            continue
        notes = (f"the images of seed {earlier} are not compared: {reason}" for earlier, reason in reasons.items())
        return compared, replace(seeds, pictured=seed, notes=(*seeds.notes, *notes))
    raise next(iter(reasons.values()))


def _complete(values: Mapping[int, float | None]) -> dict[object, float]:
    """The values where every seed has one, else none: a mean over other seeds than those told would mislead."""
    known: dict[object, float] = {seed: value for seed, value in values.items() if value is not None}
    return known if len(known) == len(values) else {}


def _runs_below(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob(f"*/{RECORD_NAME}")) if path.is_dir() else []


def _by_seed(path: Path, name: str, notes: list[str]) -> dict[int, tuple[Path, RunRecord]]:
    """Seed -> folder and record of its run."""
    if record_path(path).exists() or not (folders := _runs_below(path)):
        records = {path: read_record(path)}
    else:
        records = _read_all(folders, name, notes)
    found: dict[int, tuple[Path, RunRecord]] = {}
    for folder, record in records.items():
        # Nothing is looked up by the network here: a detector of others, that names none, may be compared all the same.
        if reason := why_no_result(record):
            notes.append(f"{name}: {folder.name} is left out: {reason}")
            continue
        if record.seed is None:
            raise UserError("this run's record tells no seed, so that nothing can be paired with it", str(folder))
        if record.seed in found:
            raise UserError(
                f"two runs have the seed {record.seed}: {found[record.seed][0].name} and {folder.name}", str(path)
            )
        found[record.seed] = (folder, record)
    _check_one_setting(path, [entry for _, entry in found.values()])
    return found


def _read_all(folders: Sequence[Path], name: str, notes: list[str]) -> dict[Path, RunRecord]:
    """The records that can be read; of the others a note. Raises UserError, that of the first, where none can."""
    records: dict[Path, RunRecord] = {}
    reasons: list[UserError] = []
    for folder in folders:
        try:
            records[folder] = read_record(folder)
        except UserError as error:
            reasons.append(error)
    if not records:
        raise reasons[0]
    notes += [f"{name}: skipped: {reason}" for reason in reasons]
    return records


def _check_one_setting(path: Path, records: Sequence[RunRecord]) -> None:
    for record in records[1:]:
        for entry in run_differences(records[0], record):
            if entry.group in _SETTING and not _is_seed(entry):
                names = f"{records[0].name} and {record.name}"
                raise UserError(
                    f"{names} differ in more than their seed ({entry.group}: {entry.field})",
                    str(path),
                    "keep the runs of one setting in a folder of their own",
                )


def _is_seed(entry: FieldDifference) -> bool:
    """Whether a field of a config, or a line of one that is a program, sets the seed."""
    if not entry.field.startswith("line "):
        return "seed" in entry.field.lower()
    return _without_seed(entry.one) == _without_seed(entry.other)


def _without_seed(lines: str | None) -> str:
    return re.sub(r"\bseed\s*=\s*\w+", "", lines or "")
