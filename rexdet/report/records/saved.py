"""The detections that runs have saved, beside the ground truth that they were scored on, where both are still there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexdet.coco.accumulate import RECALL_THRESHOLDS
from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.detections import Detections, read_detections
from rexdet.coco.evaluate import Evaluation, evaluate
from rexdet.coco.ground_truth import read_ground_truth
from rexdet.coco.matched import Matched, match_once
from rexdet.errors import UserError
from rexdet.report.records.facts import RowKey, Setting
from rexdet.report.records.groups import Group, Groups
from rexdet.report.records.reading import Found

# Reading and scoring a run again takes seconds on thousands of images.
MOST_RUNS = 12
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Saved:
    """One run's detections, scored again. group: that it stands for. images: where its pictures lie, None where they do
    not.
    """

    group: Group
    run: Found
    dataset: CocoDataset
    detections: Detections
    evaluation: Evaluation

    @property
    def row(self) -> RowKey:
        """Network and checkpoint."""
        return self.group.row

    @property
    def setting(self) -> Setting:
        """What was done with the network."""
        return self.group.setting

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone stood still as a whole, which makes it a row of its own beside the one that learnt."""
        return self.group.start == "frozen"

    @cached_property
    def matched(self) -> Matched:
        """The detections matched with the ground truth, once for all that asks."""
        return match_once(read_ground_truth(self.dataset), self.detections)

    @property
    def images(self) -> Path | None:
        """The folder of the pictures."""
        val = self.run.record.data.val
        return _found(self.run, val.images_path) if val and val.images_path else None


@dataclass(frozen=True)
class Curve:
    """Precision at the recalls 0, 0.01, ... 1, mean over the classes that have objects; all 0 to 1."""

    threshold: float
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


def saved_runs(groups: Groups, most: int = MOST_RUNS) -> tuple[list[Saved], list[str]]:
    """One run of each detection row whose detections and annotations are there; and why others are not.

    A backbone that stood still is a row of its own. The first seed whose detections are here stands for a row.
    Detections that no longer give the AP of their record are not shown: the file was changed. Nor are those whose
    annotations are not the ones that they were scored on.
    """
    found: list[Saved] = []
    notes: list[str] = []
    datasets: dict[Path, CocoDataset] = {}
    for group in groups.detection.values():
        if len(found) == most:
            frozen = " frozen" if group.start == "frozen" else ""
            notes.append(f"detections of {group.row.network}{frozen}: only those of {most} runs are shown")
            continue
        runs = sorted(group.runs, key=lambda one: (one.record.seed or 0, one.where))
        reasons = []
        for run in [run for run in runs if _detections_file(run)] or runs[:1]:
            try:
                found.append(_open(group, run, datasets))
            except UserError as error:
                reasons.append(f"detections of {run.record.name} are not shown: {error}")
            else:
                break
        else:
            notes.append(reasons[0])
    return found, notes


def curves(saved: Saved, places: Sequence[int] = (0, 5)) -> list[Curve]:
    """Precision over recall at IoU .50 and .75."""
    values = saved.evaluation.curves.precision[..., 0]
    drawn = []
    for place in places:
        precision = values[place]
        with_objects = ~np.isnan(precision).any(axis=0)
        if with_objects.any():
            mean = precision[:, with_objects].mean(axis=1)
            drawn.append(Curve(0.5 + 0.05 * place, RECALL_THRESHOLDS, mean))
    return drawn


def _detections_file(run: Found) -> Path | None:
    name = run.record.files.get("detections")
    file = run.folder / name if run.folder is not None and name is not None else None
    return file if file is not None and file.is_file() else None


def _open(group: Group, run: Found, datasets: dict[Path, CocoDataset]) -> Saved:
    """datasets: those that were read already, which grows; runs of one table share few."""
    record = run.record
    file = _detections_file(run)
    if file is None:
        raise UserError("the run's folder with its detections is not here", run.where)
    val = record.data.val
    annotations = _found(run, val.path) if val and val.path else None
    if val is None or annotations is None:
        raise UserError("the annotation file is not here", val.path or "" if val else "")
    if annotations not in datasets:
        datasets[annotations] = read_annotations(annotations, purpose="evaluate")
    dataset = datasets[annotations]
    if val.fingerprint not in (None, dataset.fingerprint):
        raise UserError("is not the annotation file that it was scored on", str(annotations))
    dataset.raise_if_refused()
    detections = read_detections(file, dataset)
    evaluation = evaluate(dataset, detections)
    recorded = record.metrics["bbox"]["AP"]
    if recorded is not None and abs((evaluation.numbers["AP"] or 0.0) - recorded) > _SAME:
        raise UserError("its detections no longer give the AP of its record", str(file))
    return Saved(group, run, dataset, detections, evaluation)


def _found(run: Found, path: str) -> Path | None:
    """A path as the record has it, or relative to a folder above the run."""
    try:
        if Path(path).exists():
            return Path(path)
        for folder in run.folder.resolve().parents if run.folder else ():
            if (folder / path).exists():
                return folder / path
    except OSError:
        # No name of this disk, or a folder that may not be looked into.
        return None
    return None
