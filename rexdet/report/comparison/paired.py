"""Two runs on the same images: in what they differ, by how much, how sure that is, and on which images it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.matched import match_once
from rexdet.coco.resample import image_average_precision
from rexdet.errors import UserError
from rexdet.report.comparison.compared_runs import Compared
from rexdet.report.comparison.differences import FieldDifference, run_differences
from rexdet.report.comparison.seed_runs import SeedComparison
from rexdet.report.statistics.bootstrap import (
    NUMBERS,
    RESAMPLES,
    Bootstrap,
    Difference,
    Interval,
    bootstrap,
    compare_bootstraps,
    compare_class,
)
from rexdet.report.statistics.detection_errors import ErrorBreakdown, break_down

MOST_RESAMPLES = 100_000
# Sums in another order: the last digits of an AP may differ.
_SAME = 1e-9


@dataclass(frozen=True)
class NumberRow:
    """One number, or the AP of one class, of both runs; difference: B minus A. objects: None where all count."""

    name: str
    objects: int | None
    one: Interval
    other: Interval
    difference: Difference

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "objects": self.objects,
            "A": asdict(self.one),
            "B": asdict(self.other),
            "difference": self.difference.as_json(),
        }


@dataclass(frozen=True)
class ImageRow:
    """AP of one image alone, 0 to 1, in both runs; difference: B minus A."""

    image_id: int
    file_name: str
    one: float
    other: float

    @property
    def difference(self) -> float:
        """B minus A."""
        return self.other - self.one

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "image_id": self.image_id,
            "file_name": self.file_name,
            "A": self.one,
            "B": self.other,
            "difference": self.difference,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Run B beside run A.

    numbers: AP and its kin. classes: by falling difference, those without ground truth last. won, lost: images that B
    does better or worse on, the largest difference first. equal: how many are the same. without_objects: how many say
    nothing. errors: of A and of B. seeds: where A and B are folders of runs; the rest is then of one run of each.
    """

    paths: tuple[str, str]
    iou_type: str
    images: int
    resamples: int
    seed: int
    differences: tuple[FieldDifference, ...]
    numbers: tuple[NumberRow, ...]
    classes: tuple[NumberRow, ...]
    errors: tuple[ErrorBreakdown, ErrorBreakdown]
    won: tuple[ImageRow, ...]
    lost: tuple[ImageRow, ...]
    equal: int
    without_objects: int
    notes: tuple[str, ...]
    seeds: SeedComparison | None = None

    def as_json(self, pictures: Mapping[str, Path] | None = None) -> dict[str, Any]:
        """Plain JSON values: shares 0 to 1, None for what does not exist. pictures: "won", "lost" -> file."""
        return {
            "A": self.paths[0],
            "B": self.paths[1],
            "type": self.iou_type,
            "images": self.images,
            "resamples": self.resamples,
            "seed": self.seed,
            "notes": list(self.notes),
            **({} if self.seeds is None else {"seeds": self.seeds.as_json()}),
            "differences": [entry.as_json() for entry in self.differences],
            "numbers": {row.name: row.as_json() for row in self.numbers},
            "per_class": [row.as_json() for row in self.classes],
            "errors": {name: errors.as_json() for name, errors in zip("AB", self.errors, strict=True)},
            "images_won": [row.as_json() for row in self.won],
            "images_lost": [row.as_json() for row in self.lost],
            "images_equal": self.equal,
            "images_without_objects": self.without_objects,
            "pictures": {name: str(path) for name, path in (pictures or {}).items()},
        }


def compare(
    compared: Compared,
    iou_type: str = "bbox",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: bool = False,
    seeds: SeedComparison | None = None,
) -> Comparison:
    """Compare run B (`compared.other`) with run A (`compared.one`).

    iou_type: "bbox" or "segm". resamples: of the images, for the intervals. seed: of the draws, which are the same for
    both. seeds: of the folders of runs that the two stand for.

    Raises UserError for masks that are not there, and for a number of resamples that gives no interval.
    """
    if not 100 <= resamples <= MOST_RESAMPLES:
        raise UserError(f"{resamples} resamples", fix=f"give 100 to {MOST_RESAMPLES:,}: an interval takes its tails")
    truth, runs = compared.truth, (compared.one, compared.other)
    matched = [match_once(truth, run.detections, iou_type, run.path) for run in runs]
    boots = [
        bootstrap(of_run, resamples=resamples, seed=seed, label=f"resampling {name}" if progress else "")
        for name, of_run in zip("AB", matched, strict=True)
    ]
    numbers = _numbers(*boots)
    scores = [image_average_precision(of_run) for of_run in matched]
    won, lost, equal, without = _images(compared, scores[0], scores[1])
    return Comparison(
        paths=(compared.one.path, compared.other.path),
        iou_type=iou_type,
        images=len(truth.image_ids),
        resamples=resamples,
        seed=seed,
        differences=tuple(run_differences(compared.one.record, compared.other.record)),
        numbers=numbers,
        classes=_classes(compared, *boots),
        errors=(break_down(matched[0]), break_down(matched[1])),
        won=won,
        lost=lost,
        equal=equal,
        without_objects=without,
        seeds=seeds,
        notes=(*(seeds.notes if seeds else ()), *compared.notes, *_changed_files(compared, iou_type, numbers[0])),
    )


def _changed_files(compared: Compared, iou_type: str, row: NumberRow) -> list[str]:
    """Runs whose detections no longer give the AP of their record."""
    notes = []
    for name, run, interval in (("A", compared.one, row.one), ("B", compared.other, row.other)):
        recorded = run.record.metrics.get(iou_type, {}).get("AP")
        if compared.whole and recorded is not None and abs(recorded - (interval.value or 0.0)) > _SAME:
            notes.append(
                f"{name}'s detections are not those of its record, which says AP {100 * recorded:.1f}: the file was "
                "written again since"
            )
    return notes


def _numbers(one: Bootstrap, other: Bootstrap) -> tuple[NumberRow, ...]:
    return tuple(
        NumberRow(key, None, one.interval(key), other.interval(key), compare_bootstraps(one, other, key))
        for key in NUMBERS
    )


def _classes(compared: Compared, one: Bootstrap, other: Bootstrap) -> tuple[NumberRow, ...]:
    truth = compared.truth
    objects = np.bincount(truth.annotation_category[~truth.crowd], minlength=len(truth.categories))
    rows = [
        NumberRow(
            entry.name,
            int(objects[row]),
            one.class_interval(row),
            other.class_interval(row),
            compare_class(one, other, row),
        )
        for row, entry in enumerate(truth.categories)
    ]
    return tuple(sorted(rows, key=_by_falling_difference))


def _by_falling_difference(row: NumberRow) -> tuple[bool, float]:
    value = row.difference.interval.value
    return value is None, 0.0 if value is None else -value


def _images(
    compared: Compared, one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[tuple[ImageRow, ...], tuple[ImageRow, ...], int, int]:
    names = {entry.id: entry.file_name for entry in compared.dataset}
    ids = compared.truth.image_ids.tolist()
    rows = [
        ImageRow(ids[row], names[ids[row]], float(one[row]), float(other[row]))
        for row in np.flatnonzero(~np.isnan(one)).tolist()
    ]
    won = sorted((row for row in rows if row.difference > 0), key=lambda row: -row.difference)
    lost = sorted((row for row in rows if row.difference < 0), key=lambda row: row.difference)
    return tuple(won), tuple(lost), len(rows) - len(won) - len(lost), len(ids) - len(rows)
