"""The table that a suite ends with: a row a network and task, mean and interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from rexdet.report import transfer
from rexdet.report.statistics import describe, summarise
from rexdet.runs import RunRecord
from rexdet.studies.suite import Cell


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
    """The cells of the transfer tables: those of one network, checkpoint and task together, whatever their seeds."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    searched: set[tuple[str, str, str]] = set()
    for cell, runs in records.items():
        if cell.kind != "transfer":
            continue
        for record in runs:
            sha = (record.network.origin_sha256 or record.network.sha256 or "") if record.network else ""
            groups.setdefault((cell.network, cell.task, sha), []).append(record)
            if len(cell.seeds) > 1:
                searched.add((cell.network, cell.task, sha))
    cells = []
    for (network, task, sha), runs in groups.items():
        dataset, protocol = task.split(" ", 1)
        metric = metrics[dataset]
        source = (runs[0].network.source if runs[0].network else None) or ""
        for group in [name for name in runs[0].metrics if name == "test" or name.startswith("test_")]:
            cells.append(
                transfer.Cell(
                    dataset=dataset,
                    network=network.partition("@")[0],
                    protocol=protocol,
                    metric=metric,
                    scores=tuple(float(record.metrics[group][metric] or 0.0) for record in runs),
                    weights=f"{source} {sha[:12]}" if sha else "",
                    head="" if group == "test" else f"{protocol} {group.removeprefix('test_')}",
                    repeated="the run: initial weights (of the classifier), order, augmentation, shots",
                    fixed="the images" + (", and the search, done once." if (network, task, sha) in searched else "."),
                )
            )
    return cells


def _detection_rows(records: Mapping[Cell, Sequence[RunRecord]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for cell, runs in records.items():
        if cell.kind == "detection":
            groups.setdefault((cell.network, cell.task), []).extend(runs)
    return [
        (network, task, _score(runs, "bbox"), _score(runs, "segm"), str(len(runs)))
        for (network, task), runs in groups.items()
    ]


def _score(runs: Sequence[RunRecord], group: str) -> str:
    values = [record.metrics[group]["AP"] for record in runs if group in record.metrics]
    known = [value for value in values if value is not None]
    return describe(summarise(known), scale=100) if known and len(known) == len(runs) else "-"
