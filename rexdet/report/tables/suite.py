"""The table that a suite ends with: a row a network and task, mean and interval over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tabulate import tabulate

from rexdet.report.statistics.intervals import describe, summarise
from rexdet.report.tables import transfer
from rexdet.runs import RunRecord
from rexdet.studies.suite import Cell
from rexdet.transfer.randomness import told_by


def suite_table(records: Mapping[Cell, Sequence[RunRecord]], metrics: Mapping[str, str]) -> str:
    """metrics: data set -> "top1" or "mean_per_class", for those of the transfer cells."""
    parts = []
    found = transfer_cells(records, metrics)
    if found:
        parts.append(transfer.table(found))
    rows = _detection_rows(records)
    if rows:
        head = ("network", "config", "box AP (%)", "mask AP (%)", "runs")
        parts.append(tabulate(rows, head, tablefmt="pipe", disable_numparse=True))
        parts.append("Detection: mean ± half of the 95% interval over seeds where there are several.")
    return "\n\n".join(parts)


def transfer_cells(records: Mapping[Cell, Sequence[RunRecord]], metrics: Mapping[str, str]) -> list[transfer.Cell]:
    """The cells of the transfer tables: those of one network, checkpoint and command together, whatever their seeds.

    metrics: data set -> "top1" or "mean_per_class".
    """
    groups: dict[tuple[str, tuple[str, ...], str], list[tuple[Cell, int, RunRecord]]] = {}
    for cell, runs in records.items():
        if cell.kind != "transfer":
            continue
        for place, record in enumerate(runs):
            sha = record.network.key[1] or "" if record.network else ""
            groups.setdefault((cell.network, cell.words, sha), []).append((cell, place // len(cell.seeds), record))
    return [found for runs in groups.values() for found in _cells_of_group(runs, metrics)]


def _cells_of_group(runs: Sequence[tuple[Cell, int, RunRecord]], metrics: Mapping[str, str]) -> Iterator[transfer.Cell]:
    """runs: each with its cell and the number of its fold."""
    cell, _, first = runs[0]
    dataset, _, protocol = cell.task.partition(" ")
    metric = metrics[dataset.partition(":")[0] if dataset.startswith("folder:") else dataset]
    other = "top1" if metric == "mean_per_class" else "mean_per_class"
    source, sha = (first.network.source or "", first.network.key[1] or "") if first.network else ("", "")
    for group in [name for name in first.metrics if name == "test" or name.startswith("test_")]:
        found = transfer.Cell(
            dataset=dataset,
            network=cell.network.partition("@")[0],
            protocol=protocol,
            metric=metric,
            scores=_scores(runs, group, metric),
            weights=f"{source} {sha[:12]}" if sha else "",
            images=first.data.train.images if first.data.train and cell.folds == 1 else None,
            head="" if group == "test" else f"{protocol} {group.removeprefix('test_')}",
            repeated=f"everything, on each of {cell.folds} folds" if cell.folds > 1 else _repeated(first),
            fixed=_fixed(cell),
        )
        yield from transfer.in_both_metrics(found, _scores(runs, group, other))


def _scores(runs: Sequence[tuple[Cell, int, RunRecord]], group: str, metric: str) -> tuple[float, ...]:
    """Of each run; of a folder in folds the mean of each fold."""
    scores: dict[int, list[float]] = {}
    for place, (cell, fold, record) in enumerate(runs):
        scores.setdefault(fold if cell.folds > 1 else place, []).append(float(record.metrics[group][metric] or 0.0))
    return tuple(sum(found) / len(found) for found in scores.values())


def _repeated(record: RunRecord) -> str:
    told = told_by(record)
    return "the run, with what it draws at random" if told is None else told


def _fixed(cell: Cell) -> str:
    if cell.folds > 1:
        return "the folds; their training images overlap, so the interval is narrower than it should be."
    return "the images, and the search, done once." if len(cell.seeds) > 1 else "the images."


def _detection_rows(records: Mapping[Cell, Sequence[RunRecord]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, tuple[str, ...]], list[RunRecord]] = {}
    tasks: dict[tuple[str, tuple[str, ...]], str] = {}
    for cell, runs in records.items():
        if cell.kind == "detection":
            groups.setdefault((cell.network, cell.words), []).extend(runs)
            tasks[cell.network, cell.words] = cell.task
    return [
        (key[0], tasks[key], _score(runs, "bbox"), _score(runs, "segm"), str(len(runs))) for key, runs in groups.items()
    ]


def _score(runs: Sequence[RunRecord], group: str) -> str:
    values = [record.metrics[group]["AP"] for record in runs if group in record.metrics]
    known = [value for value in values if value is not None]
    return describe(summarise(known), scale=100) if known and len(known) == len(runs) else "-"
