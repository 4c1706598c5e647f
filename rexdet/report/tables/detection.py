"""The detection tables: every number of every setting, and what is printed beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rexdet.report.records.facts import RowKey, Setting
from rexdet.report.records.groups import Group, Groups
from rexdet.report.statistics.intervals import compare_paired, describe
from rexdet.report.tables.beside import DETECTION_METRICS, Beside, detection_beside, transfer_beside
from rexdet.report.tables.detection_rows import DetectionRow, detection_rows
from rexdet.report.tables.networks import Known, group_cell, identity_cells, row_id, seeds_cell
from rexdet.report.tables.run_cells import detector_cells, effort_cells
from rexdet.report.tables.table import MISSING, Cell, Column, Table, TableBuilder, fact, printed, words

_KEYS = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "AP small", "APm": "AP medium", "APl": "AP large"}
_NORM = Column("norm", "norm, freezing", help="of the backbone: how many of stem and four stages do not learn")
_COLUMNS = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint"),
    Column("from", "from", help="ours, or published"),
    Column("detector", "detector"),
    Column("dataset", "test images"),
    Column(
        "protocol",
        "protocol",
        help="of a published recipe that the run follows but for start, norm and freezing, else ours",
    ),
    _NORM,
    *(Column(key, f"{title} (%)", "%") for key, title in _KEYS.items()),
    Column("mask_AP", "mask AP (%)", "%"),
    Column("frozen", "AP, backbone frozen (%)", "%", help="no stage of the backbone learns"),
    Column("random", "AP, random weights (%)", "%", help="the same network from random initialisation"),
    Column("gain", "over random (points)", "points", help="what the checkpoint brings, paired by seed"),
    Column("seeds", "seeds", "seeds", help="that the numbers are over"),
    Column("parameters", "parameters (M)", "M", help="of the backbone with its classifier"),
    Column("macs", "MACs (G)", "G", help="of the backbone, one image"),
    Column(
        "detector_parameters",
        "whole detector (M)",
        "M",
        help="parameters of backbone, neck and heads; frozen norms have none",
    ),
    Column(
        "detector_macs",
        "whole detector, MACs (G)",
        "G",
        help="of the whole detector for the boxes of one 1280 x 800 picture, 1,000 proposals, no mask head",
    ),
    Column("latency", "latency (ms)", "ms", help="the backbone, one image, float32"),
    Column("hours", "training (h)", "h", help="wall time of a run, mean"),
    Column(
        "memory", "memory (GiB)", "GiB", help="most that the main process held, on the accelerator where it has one"
    ),
)


def detection_table(groups: Groups, known: Known) -> Table:
    """A row for each network, checkpoint, setting, norm and freezing, followed by what is printed for the same."""
    costs = known.cost_columns(groups)
    columns = [costs.titled(column) for column in _COLUMNS]
    builder = TableBuilder("detection", "Detection", columns)
    asked: set[str] = set()
    for row in detection_rows(groups):
        name, setting = row_id(row.key), row.shown.setting
        cells = {
            **_number_cells(row),
            **identity_cells(row.key, groups.sources[row.key]),
            **costs.cells(row.key),
        }
        builder.add(f"{name} {setting.title}", cells, of=name)
        for published_row in _printed(row.shown, asked):
            builder.add(*published_row, origin="published")
    builder.notes += [
        (
            "Mean ± half of the 95% interval (Student's t) over seeds; one run has no interval. What a seed repeats: "
            "the initial weights of what has no checkpoint, the order of the images and their augmentation. The images "
            "are the same in all. Rows that differ in norm and freezing share the columns of the frozen backbone and "
            "of random weights; of several there those of the same norm are shown, then those of most runs."
        ),
        (
            "Weights are those of the last step: nothing was chosen by the test images. Published rows have the "
            "protocol that they name."
        ),
    ]
    return builder.build()


def _number_cells(row: DetectionRow) -> dict[str, Cell]:
    main, shown, setting = row.main, row.shown, row.shown.setting
    return {
        "from": words("ours"),
        "detector": words(setting.what),
        "dataset": words(setting.data),
        "protocol": words(setting.recipe),
        "norm": words(setting.variant),
        **({key: group_cell(main, key) for key in _KEYS} if main else {}),
        "mask_AP": _masks(main),
        "frozen": group_cell(row.frozen, "AP") if row.frozen else MISSING,
        "random": group_cell(row.control, "AP") if row.control else MISSING,
        "gain": _gain(main, row.control),
        "seeds": seeds_cell(shown),
        **detector_cells(shown),
        **effort_cells(shown),
    }


def transfer_table(groups: Groups, known: Known) -> Table:
    """A row for each network, checkpoint, data set and protocol, followed by what is printed for the same."""
    builder = TableBuilder("transfer", "Transfer", _TRANSFER_COLUMNS)
    asked: set[str] = set()
    for (row, setting), group in sorted(groups.transfer.items(), key=_transfer_order):
        metric = known.metric(setting.dataset)
        cells = {**identity_cells(row, groups.sources[row]), **_transfer_cells(group, metric)}
        name = f"{row_id(row)} {setting.data} {_head(setting)} {setting.config[-6:]}"
        builder.add(name, cells, of=row_id(row))
        for beside in transfer_beside(group, metric):
            if (key := f"{row.network} {_place(beside)}") not in asked:
                asked.add(key)
                builder.add(key, _printed_transfer(beside), origin="published")
    builder.notes += _transfer_notes(groups)
    return builder.build()


_TRANSFER_COLUMNS = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint"),
    Column("from", "from", help="ours, or published"),
    Column("dataset", "data set"),
    Column("protocol", "protocol"),
    Column("metric", "metric"),
    Column("value", "accuracy (%)", "%"),
    Column("top1", "top-1 (%)", "%"),
    Column("seeds", "seeds", "seeds", help="that the accuracy is over"),
    Column("images", "training images", "images"),
    Column("hours", "training (h)", "h"),
)


def _transfer_cells(group: Group, metric: str) -> dict[str, Cell]:
    train = group.runs[0].record.data.train
    return {
        "from": words("ours"),
        "dataset": words(group.setting.data),
        "protocol": words(_head(group.setting)),
        "metric": words(metric),
        "value": group_cell(group, metric),
        "top1": group_cell(group, "top1"),
        "seeds": seeds_cell(group),
        "images": fact(train.images) if train and train.images else MISSING,
        **{key: cell for key, cell in effort_cells(group).items() if key == "hours"},
    }


def _head(setting: Setting) -> str:
    """The protocol with what parts it from others of its row, and which classifier it was."""
    marked = f"{setting.recipe} ({setting.choice_mark})" if setting.choice_mark else setting.recipe
    return f"{marked} {setting.what}".strip()


def _transfer_notes(groups: Groups) -> list[str]:
    notes = [
        (
            "Mean ± half of the 95% interval (Student's t) over seeds; one run has no interval. Repeated: the "
            "classifier's initial weights, order, augmentation, shots, and images that a probe holds out where the set "
            "has none to choose by; in kNN on a checkpoint nothing is random. The same in all: the images, the split, "
            "and a search, done once. Hyper-parameters were chosen on validation images; the test images were looked "
            "at once."
        )
    ]
    if any(group.is_folded for group in groups.transfer.values()):
        notes.append(
            "Of a folder in folds the mean is over its folds. Their training images overlap, so that the interval is "
            "narrower than it should be."
        )
    if any(setting.choice_mark for _, setting in groups.transfer):
        notes.append(
            "Where the runs of one row differ in more than their seed, its rows here say in what; everywhere else the "
            "one of most runs stands for all of them."
        )
    return notes


def comparison_table(groups: Groups, known: Known) -> Table:
    """Ours against each published number: the difference where the protocols are equal, else what differs."""
    builder = TableBuilder("published", "Beside published numbers", _COMPARISON_COLUMNS)
    for group, key, besides in _all_beside(groups, known):
        ours = group_cell(group, key)
        for beside in besides:
            difference = MISSING
            if beside.is_comparable and ours.number is not None:
                value = ours.number - float(beside.cell.value)
                difference = Cell(f"{value:+.2f}", value, "ours", None, "ours minus published")
            cells = {
                **identity_cells(group.row, groups.sources[group.row]),
                "setting": words(_ours(group.setting)),
                "norm": words(group.setting.variant),
                "metric": words(beside.cell.metric),
                "ours": ours,
                "printed": _printed_number(beside),
                "difference": difference,
                "protocol": words(beside.cell.protocol.id if beside.cell.protocol else None),
                "where": words(_place(beside)),
                "differs": words(beside.told()),
            }
            name = f"{row_id(group.row)} {group.setting.title} {_place(beside)} {beside.cell.metric}"
            builder.add(name, cells, of=row_id(group.row))
    if builder.rows:
        builder.notes.append(
            "A difference is taken only where every field of the two recipes is known to be equal. Elsewhere the "
            "fields that differ, or that nobody tells, are listed."
        )
    return builder.build()


_COMPARISON_COLUMNS = (
    Column("network", "network"),
    Column("checkpoint", "checkpoint"),
    Column("setting", "ours"),
    _NORM,
    Column("metric", "metric"),
    Column("ours", "ours (%)", "%"),
    Column("printed", "published (%)", "%"),
    Column("difference", "difference (points)", "points"),
    Column("protocol", "published protocol"),
    Column("where", "published in"),
    Column("differs", "not comparable, for"),
)


def _ours(setting: Setting) -> str:
    """The setting with what parts it from others of its row; norm and freezing have a column."""
    title = setting.shared.title
    return f"{title} ({setting.choice_mark})" if setting.choice_mark else title


def _transfer_order(item: tuple[tuple[RowKey, Setting], Group]) -> tuple[str, ...]:
    (row, setting), _ = item
    return (setting.dataset, setting.protocol, setting.what, row.network, row.sha or "~")


def _masks(group: Group | None) -> Cell:
    if group is None or not all("segm" in one.record.metrics for one in group.runs):
        return MISSING
    return group_cell(replace(group, metric_group="segm"), "AP")


def _gain(full: Group | None, control: Group | None) -> Cell:
    """AP from the checkpoint minus AP from random weights; the interval is that of the paired differences."""
    if full is None or control is None or full.start != "full":
        return MISSING
    ours, theirs = full.by_seed("AP"), control.by_seed("AP")
    if not ours.keys() & theirs.keys():
        return MISSING
    points = compare_paired({k: 100 * v for k, v in ours.items()}, {k: 100 * v for k, v in theirs.items()}).summary
    return Cell(describe(points), points.mean, "ours", points, "paired by seed", (*full.names, *control.names))


def _all_beside(groups: Groups, known: Known) -> list[tuple[Group, str, list[Beside]]]:
    found = []
    for (_, _, start), group in groups.detection.items():
        if start == "frozen":
            continue
        for metric_group in DETECTION_METRICS:
            if all(metric_group in one.record.metrics for one in group.runs):
                mine = replace(group, metric_group=metric_group)
                found.append((mine, "AP", detection_beside(mine, "AP")))
    for group in groups.transfer.values():
        metric = known.metric(group.setting.dataset)
        found.append((group, metric, transfer_beside(group, metric)))
    return found


def _printed(group: Group, asked: set[str]) -> list[tuple[str, dict[str, Cell]]]:
    """Published rows of the same network, detector and test images, each once in a table."""
    found: dict[str, list[tuple[str, Beside]]] = {}
    for key in _KEYS:
        for beside in detection_beside(group, key):
            found.setdefault(f"{group.row.network} {_place(beside)} {_protocol(beside)}", []).append((key, beside))
    rows = []
    for place, numbers in found.items():
        if place in asked:
            continue
        asked.add(place)
        first = numbers[0][1]
        cells: dict[str, Cell] = {
            "from": words(f"published: {_place(first)}"),
            "network": words(first.cell.title),
            "checkpoint": words(f"@{first.cell.tag}" if first.cell.tag else None),
            "detector": words(first.cell.detector),
            "dataset": words(first.cell.dataset),
            "protocol": words(_protocol(first)),
            **{key: _printed_number(beside) for key, beside in numbers},
        }
        rows.append((place, cells))
    return rows


def _printed_transfer(beside: Beside) -> dict[str, Cell]:
    number = _printed_number(beside)
    values: Mapping[str, Cell] = {"top1": number} if beside.cell.metric == "top1" else {}
    return {
        "from": words(f"published: {_place(beside)}"),
        "network": words(beside.cell.title),
        "dataset": words(beside.cell.dataset),
        "protocol": words(_protocol(beside)),
        "metric": words(beside.cell.metric),
        "value": number,
        **values,
    }


def _printed_number(beside: Beside) -> Cell:
    note = f"; {beside.cell.note}" if beside.cell.note else ""
    return printed(float(beside.cell.value), f"{beside.cell.value:g}", f"{beside.cell.cited()}{note}")


def _place(beside: Beside) -> str:
    return beside.cell.cited(short=True)


def _protocol(beside: Beside) -> str:
    return beside.cell.protocol.id if beside.cell.protocol else ""
