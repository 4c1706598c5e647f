"""The tables that need the saved detections of a run: AP over resampled images, errors by kind, score thresholds."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from rexdet.report.records.saved import Saved
from rexdet.report.statistics.bootstrap import RESAMPLES, bootstrap
from rexdet.report.statistics.calibration import calibration, choose_thresholds
from rexdet.report.statistics.detection_errors import KINDS, break_down
from rexdet.report.tables.entries import entry_name
from rexdet.report.tables.networks import identity_cells, row_id
from rexdet.report.tables.table import Cell, Column, Table, TableBuilder, fact, scaled, words

_NUMBERS = ("AP", "AP50", "AP75")
_ONE_A_ROW = "one run a row (the first seed whose detections are here)"


def intervals_table(saved: Sequence[Saved], *, resamples: int = RESAMPLES) -> Table:
    """AP of one run a row with its interval over the images: what other images would have given."""
    columns = [*_WHO]
    for key in _NUMBERS:
        columns += [Column(key, f"{key} (%)", "%"), Column(f"{key}_interval", f"{key}, 95% over images")]
    columns.append(Column("images", "images", "images"))
    builder = TableBuilder("intervals", "AP over resampled images", columns)
    for one in tqdm(saved if resamples else (), desc="resampling", unit="run", delay=5):
        found = bootstrap(one.matched, resamples=resamples)
        cells = {**_who(one), "images": fact(float(found.images))}
        for key in _NUMBERS:
            interval = found.interval(key)
            if interval.value is not None:
                cells[key] = Cell(f"{100 * interval.value:.2f}", 100 * interval.value, "ours", None, _source(one))
            if interval.low is not None and interval.high is not None:
                cells[f"{key}_interval"] = words(f"{100 * interval.low:.2f} to {100 * interval.high:.2f}")
        builder.add(_name(one), cells, of=row_id(one.row))
    if builder.rows:
        builder.notes.append(
            f"From {resamples:,} resamples of the images of {_ONE_A_ROW}. What another seed would give is not in it: "
            "that stands in the table of detection."
        )
    return builder.build()


def errors_table(saved: Sequence[Saved]) -> Table:
    """What one run a row gets wrong, and the AP50 that mending one kind alone would bring."""
    columns = [
        *_WHO,
        Column(
            "calibration",
            "calibration error",
            "share",
            help="mean distance of a score and the share of detections with it that is right",
        ),
        Column("right", "right", "detections"),
    ]
    for kind in KINDS:
        columns += [
            Column(kind, kind, "objects"),
            Column(f"{kind}_cost", f"{kind}: AP50 (points)", "points"),
        ]
    builder = TableBuilder("errors", "Errors by kind", columns)
    for one in saved:
        found = break_down(one.matched)
        cells = {**_who(one), "right": fact(float(found.right))}
        error = calibration(one.matched).error
        if error is not None:
            cells["calibration"] = Cell(f"{error:.3f}", error, "ours", None, _source(one))
        for kind in KINDS:
            cells[kind] = fact(float(found.counts[kind]))
            cells[f"{kind}_cost"] = scaled(found.costs[kind], 100, 2)
        builder.add(_name(one), cells, of=row_id(one.row))
    if builder.rows:
        builder.notes.append(
            f"All detections of {_ONE_A_ROW}, boxes, at IoU 0.5. The points are those that AP50 would win if that kind "
            "alone were mended; they do not add up."
        )
    return builder.build()


def thresholds_table(saved: Sequence[Saved], *, beta: float = 1.0) -> Table:
    """From which score on a class is best used, and what that gives on images that it was not chosen on.

    beta: of F-beta; above 1 a miss weighs more than a false alarm. Raises UserError for one that is not above 0.
    """
    f_beta = f"F{beta:g}"
    columns = (
        *_WHO,
        Column("class", "class"),
        Column("threshold", "score from", "score"),
        Column("objects", "objects", "objects", help="on the other half of the images"),
        Column("precision", "precision (%)", "%", help="on the other half of the images"),
        Column("recall", "recall (%)", "%", help="on the other half of the images"),
        Column("f", f"{f_beta} (%)", "%", help="on the other half of the images"),
        Column("chosen_f", f"{f_beta}, chosen on (%)", "%", help="on the half that the score was chosen on"),
    )
    builder = TableBuilder("thresholds", f"Score thresholds for {f_beta}", columns)
    for one in saved:
        found = choose_thresholds(one.matched, beta)
        for entry in found.classes:
            if entry.threshold is None or entry.chosen is None or entry.held_out is None:
                continue
            cells = {
                **_who(one),
                "class": words(entry.name),
                "threshold": Cell(f"{entry.threshold:.3f}", entry.threshold, "ours", None, _source(one)),
                "objects": fact(float(entry.held_out.objects)),
                "precision": scaled(entry.held_out.precision, 100, 1),
                "recall": scaled(entry.held_out.recall, 100, 1),
                "f": scaled(entry.held_out.f, 100, 1),
                "chosen_f": scaled(entry.chosen.f, 100, 1),
            }
            builder.add(f"{_name(one)} {entry.name}", cells, of=row_id(one.row))
    if builder.rows:
        builder.notes.append(
            "Detections with that score or a higher one are kept, right is a match at IoU 0.5. Chosen on one half of "
            f"the images of {_ONE_A_ROW}, measured on the other; a class without an object or a right detection in the "
            "first half has none."
        )
    return builder.build()


_WHO = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint"),
    Column("setting", "setting"),
    Column("run", "run"),
)


def _name(one: Saved) -> str:
    """Of the run that stands for a row, in its setting."""
    return f"{entry_name(one.group)} {one.setting.title}"


def _who(one: Saved) -> dict[str, Cell]:
    network = one.run.record.network
    return {
        **identity_cells(one.row, (network.source or "") if network else ""),
        "network": words(f"{one.row.network} frozen" if one.is_frozen else one.row.network),
        "setting": words(one.setting.title),
        "run": words(one.run.record.name),
    }


def _source(one: Saved) -> str:
    return f"run {one.run.record.name}"
