"""Published numbers beside ours: which belong to a cell, and whether the two may be subtracted from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rexdet import published
from rexdet.published.protocols import Protocol
from rexdet.report.records.facts import protocol_differences, published_name
from rexdet.report.records.groups import Group
from rexdet.report.records.transfer_protocol import classification_protocols
from rexdet.report.records.zoo_detectors import departures

# Our keys of the COCO numbers -> the published tables'; masks have names of their own there.
DETECTION_METRICS = {
    "bbox": {"AP": "AP", "AP50": "AP50", "AP75": "AP75"},
    "segm": {"AP": "mask_AP", "AP50": "mask_AP50", "AP75": "mask_AP75"},
}
_NO_RECIPE = ("toolbox", "runs")


@dataclass(frozen=True)
class Beside:
    """A published number of the same network, task and data as a cell of ours.

    differs: field -> (ours, theirs) where the recipe of any run of the cell is not known to be equal; empty: the
    difference may be taken.
    """

    cell: published.Cell
    differs: dict[str, tuple[object, object]]

    @property
    def is_comparable(self) -> bool:
        """Whether ours minus theirs means something."""
        return not self.differs

    def told(self) -> str:
        """The fields that differ with both values, then the names of those that one side does not tell; in a line."""
        parts: list[str] = []
        silent: dict[str, list[str]] = {"not told there": [], "not recorded here": []}
        for name, (ours, theirs) in self.differs.items():
            title = name if name.isupper() else name.replace("_", " ")
            if "unknown" in (ours, theirs):
                silent["not told there" if theirs == "unknown" else "not recorded here"].append(title)
            else:
                parts.append(f"{title}: {_number(ours)} here, {_number(theirs)} there")
        return "; ".join((*parts, *(f"{why}: {', '.join(titles)}" for why, titles in silent.items() if titles)))


def detection_beside(group: Group, key: str) -> list[Beside]:
    """The published numbers beside a detection cell; only those of the same test images, all of them."""
    metric = DETECTION_METRICS.get(group.metric_group, {}).get(key)
    if metric is None or group.setting.dataset != "coco-val2017" or group.setting.part:
        return []
    found = published.cells(
        published_name(group.runs[0].record),
        task="detection",
        detector=group.setting.what,
        dataset=group.setting.dataset,
        metric=metric,
    )
    # The runs of a group have one configuration: what departs in one departs in all.
    more = departures(group.runs[0].record) if found else {}
    return [Beside(cell, {**_differs(group.protocols, cell.protocol), **more}) for cell in found]


def transfer_beside(group: Group, metric: str) -> list[Beside]:
    """The published numbers beside a transfer cell: same data set, same metric.

    Which library trained, and how many runs a mean is of, is no part of a classifier's recipe: nobody published a
    number of ours, and the spread is told by the interval.
    """
    name = published_name(group.runs[0].record)
    found = () if group.setting.part else published.accuracies(name, group.setting.dataset, metric)
    if not found:
        return []
    ours = classification_protocols(group)
    besides = []
    for cell in found:
        differs = _differs(ours, cell.protocol)
        besides.append(Beside(cell, {name: both for name, both in differs.items() if name not in _NO_RECIPE}))
    return besides


def _differs(ours: Sequence[Protocol], theirs: Protocol | None) -> dict[str, tuple[object, object]]:
    """The fields that differ in any run; of several runs the first that differs is told."""
    if theirs is None:
        return {"protocol": ("told", "unknown")}
    found: dict[str, tuple[object, object]] = {}
    for one in ours:
        found = {**protocol_differences(one, theirs), **found}
    return found


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
