"""The table that a transfer run ends with: ours, and beside it what is printed for the same network and data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from rexdet.published import reader
from rexdet.report.statistics.intervals import Summary, describe, summarise

_METRICS = {"top1": "top-1 (%)", "mean_per_class": "mean per class (%)"}


@dataclass(frozen=True)
class Cell:
    """One network on one data set under one protocol. scores: of each final run, 0 to 1.

    images: that the final runs were trained on. head: what the number is, where the protocol's name does not say it all
    ("kNN (k 20, T 0.07, l2)"). repeated: what the runs did again, with another seed; "" where there is nothing random.
    fixed: what was the same in all.
    """

    dataset: str
    network: str
    protocol: str
    metric: str
    scores: tuple[float, ...]
    weights: str = ""
    images: int | None = None
    head: str = ""
    repeated: str = ""
    fixed: str = ""

    @property
    def summary(self) -> Summary:
        """Mean, deviation and interval of the scores, 0 to 1."""
        return summarise(self.scores)


def in_both_metrics(cell: Cell, others: Sequence[float]) -> list[Cell]:
    """The cell, and the same runs in the other metric where the number that is printed is in that one.

    others: the runs' scores in the other metric, 0 to 1.
    """
    other = replace(cell, metric="top1" if cell.metric == "mean_per_class" else "mean_per_class", scores=tuple(others))
    return [cell, other] if _published(other) else [cell]


def table(cells: Sequence[Cell], *, published: bool = True) -> str:
    """The cells, each followed by what is printed for it, and what the intervals are of."""
    head = ("", "data set", "network", "protocol", "metric", "value", "runs", "deviation", "trained on", "from")
    lines: list[tuple[str, ...]] = []
    asked: set[tuple[str, str, str]] = set()
    for cell in cells:
        summary = cell.summary
        deviation = "-" if summary.deviation is None else f"{100 * summary.deviation:.2f}"
        protocol = cell.head or cell.protocol
        lines.append(
            (
                "ours",
                cell.dataset,
                cell.network,
                protocol,
                _METRICS[cell.metric],
                describe(summary, scale=100),
                str(summary.count),
                deviation,
                "-" if cell.images is None else f"{cell.images:,} images",
                cell.weights or "random weights",
            )
        )
        key = (cell.dataset, cell.network, cell.metric)
        if published and key not in asked:
            asked.add(key)
            lines += [_printed(found) for found in _published(cell)]
    text = tabulate(lines, head, tablefmt="pipe", disable_numparse=True)
    return "\n\n".join((text, *notes(cells, any(line[0] == "published" for line in lines))))


def notes(cells: Sequence[Cell], has_published: bool) -> list[str]:
    """What a reader must know of the numbers."""
    lines = []
    for cell in cells:
        count = cell.summary.count
        if count > 1:
            where = f"{cell.dataset}, {cell.network}, {cell.protocol}: " if len(cells) > 1 else ""
            lines.append(
                f"{where}mean ± half of the 95% interval (Student's t) over {count} runs. Repeated with another seed: "
                f"{cell.repeated}. The same in all: {cell.fixed}"
            )
        elif cell.repeated:
            lines.append("One run has no interval; --seeds N repeats it.")
        else:
            lines.append("Nothing is random here: a repetition would give the same number.")
    printed = {(cell.network, cell.dataset) for cell in cells if _published(cell)}
    unprinted = sorted({f"{cell.network} on {cell.dataset}" for cell in cells} - {" on ".join(key) for key in printed})
    if unprinted:
        lines.append(f"Nothing that we know of is printed of {', '.join(unprinted)}.")
    if has_published:
        lines.append(
            "Published rows have the protocol that they name: another resolution, length or search than ours is not "
            "the same cell, and no difference is taken."
        )
    return list(dict.fromkeys(lines))


def as_json(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The table as plain JSON values: accuracies 0 to 1, None where one run has no interval."""
    values = []
    for cell in cells:
        summary = cell.summary
        values.append(
            {
                "dataset": cell.dataset,
                "network": cell.network,
                "weights": cell.weights or None,
                "protocol": cell.protocol,
                "head": cell.head or None,
                "metric": cell.metric,
                "training_images": cell.images,
                "scores": list(cell.scores),
                "runs": summary.count,
                "mean": summary.mean,
                "deviation": summary.deviation,
                "interval": None if summary.low is None else [summary.low, summary.high],
                "repeated": cell.repeated or None,
                "fixed": cell.fixed or None,
                "published": [
                    {
                        "value": found.value / 100,
                        "protocol": found.protocol.id if found.protocol else None,
                        "source": found.source.short,
                        "place": found.place,
                        "verified": found.verified,
                    }
                    for found in _published(cell)
                ],
            }
        )
    return values


def _published(cell: Cell) -> list[reader.Cell]:
    # "aircraft:family" is another task than "aircraft", of which the numbers are.
    return list(reader.accuracies(cell.network, cell.dataset, cell.metric))


def _printed(found: reader.Cell) -> tuple[str, ...]:
    protocol = found.protocol.title if found.protocol else "not told"
    return (
        "published",
        found.dataset,
        found.title,
        protocol,
        _METRICS.get(found.metric, found.metric),
        f"{found.value:g}",
        "",
        "",
        "",
        f"{found.source.short}, {found.place}" + ("" if found.verified == "verified" else f" ({found.verified})"),
    )
