"""Published numbers beside ours: which belong to a cell, and whether the two may be subtracted from each other."""

from __future__ import annotations

from dataclasses import dataclass

from rexdet import published
from rexdet.published.protocols import ClassificationProtocol, Protocol
from rexdet.report.facts import detection_protocol, protocol_differences
from rexdet.report.groups import Group

# Our keys of the COCO numbers -> the published tables'; masks have names of their own there.
DETECTION_METRICS = {
    "bbox": {"AP": "AP", "AP50": "AP50", "AP75": "AP75"},
    "segm": {"AP": "mask_AP", "AP50": "mask_AP50", "AP75": "mask_AP75"},
}


@dataclass(frozen=True)
class Beside:
    """A published number of the same network, task and data as a cell of ours.

    differs: field -> (ours, theirs) where the recipes are not known to be equal; empty: the difference may be taken.
    """

    cell: published.Cell
    differs: dict[str, tuple[object, object]]

    @property
    def is_comparable(self) -> bool:
        """Whether ours minus theirs means something."""
        return not self.differs

    def told(self) -> str:
        """The fields that differ, in a line."""
        parts = []
        for name, (ours, theirs) in self.differs.items():
            title = name.replace("_", " ")
            if "unknown" in (ours, theirs):
                parts.append(f"{title}: {'theirs is not told' if theirs == 'unknown' else 'ours is not recorded'}")
            else:
                parts.append(f"{title}: {_number(ours)} here, {_number(theirs)} there")
        return "; ".join(parts)


def detection_beside(group: Group, key: str) -> list[Beside]:
    """The published numbers beside a detection cell; only those of the same test images."""
    metric = DETECTION_METRICS.get(group.metric_group, {}).get(key)
    if metric is None or group.setting.dataset != "coco-val2017":
        return []
    found = published.cells(
        group.row.network, task="detection", detector=group.setting.what, dataset=group.setting.dataset, metric=metric
    )
    ours = detection_protocol(group.runs[0].record)
    return [Beside(cell, _differs(ours, cell.protocol)) for cell in found]


def transfer_beside(group: Group, metric: str) -> list[Beside]:
    """The published numbers beside a transfer cell: same data set, same metric."""
    found = published.cells(group.row.network, task="transfer", dataset=group.setting.dataset, metric=metric)
    ours = _classification_protocol(group)
    return [Beside(cell, _differs(ours, cell.protocol)) for cell in found]


def _differs(ours: Protocol, theirs: Protocol | None) -> dict[str, tuple[object, object]]:
    if theirs is None:
        return {"protocol": ("told", "unknown")}
    return protocol_differences(ours, theirs)


def _classification_protocol(group: Group) -> ClassificationProtocol:
    record = group.runs[0].record
    recipe = record.recipe.model_dump() if record.recipe else {}
    train, network = record.data.train, record.network
    epochs: float | str = "unknown"
    if train and train.images and recipe.get("iterations") and recipe.get("effective_batch"):
        epochs = round(recipe["iterations"] * recipe["effective_batch"] / train.images, 2)
    return ClassificationProtocol.model_validate(
        {
            "id": "this run",
            "title": "this run",
            "source": "its record",
            "place": "record.json",
            "kind": "classification",
            "toolbox": "rexdet",
            "effective_batch": recipe.get("effective_batch") or "unknown",
            "optimizer": recipe.get("optimizer") or "unknown",
            "base_lr": float(recipe["base_lr"]) if recipe.get("base_lr") is not None else "unknown",
            "warm_up": recipe.get("warm_up") or "unknown",
            "schedule": recipe.get("schedule") or "unknown",
            "iterations": recipe.get("iterations") or "unknown",
            "epochs": epochs,
            "augmentation": "unknown",
            "train_size": "unknown",
            "test_size": "unknown",
            "initial_weights": (network.source or network.key[1] if network else None) or "none",
            "train_split": f"{group.setting.dataset} train",
            "test_split": f"{group.setting.dataset} test",
            "runs": len(group.runs),
        }
    )


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
