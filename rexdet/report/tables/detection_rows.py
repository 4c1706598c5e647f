"""The rows of the detection table: the runs of one checkpoint, setting, norm and freezing, and what stands beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rexdet.report.records.facts import RowKey, Setting, Start
from rexdet.report.records.groups import Group, Groups


@dataclass(frozen=True)
class DetectionRow:
    """main: the runs whose backbone learnt, from a checkpoint or from random weights; None where it always stood still.

    frozen: those of the same checkpoint and setting whose backbone stood still. control: those of the same network and
    setting from random weights. None: there are none.
    """

    key: RowKey
    main: Group | None
    frozen: Group | None
    control: Group | None

    @property
    def shown(self) -> Group:
        """The runs that the row is about."""
        shown = self.main or self.frozen
        assert shown is not None
        return shown


def detection_rows(groups: Groups) -> list[DetectionRow]:
    """Every detection run in one row: a norm or freezing of its own is a row of its own, and shares what stands beside.

    Frozen runs that stand beside no row are a row themselves.
    """
    alike: dict[tuple[RowKey, Setting, Start], list[Group]] = {}
    for (key, setting, start), group in groups.detection.items():
        alike.setdefault((key, setting.shared, start), []).append(group)
    rows: list[DetectionRow] = []
    beside: set[int] = set()
    for (key, setting, start), found in alike.items():
        if start == "frozen":
            continue
        for main in found:
            frozen = _fitting(alike.get((key, setting, "frozen"), []), main)
            beside.add(id(frozen))
            control = _fitting(alike.get((RowKey(key.network), setting, "random"), []), main)
            rows.append(DetectionRow(key, main, frozen, control))
    for (key, setting, start), found in alike.items():
        for group in found if start == "frozen" else ():
            if id(group) not in beside:
                control = _fitting(alike.get((RowKey(key.network), setting, "random"), []), group)
                rows.append(DetectionRow(key, None, group, control))
    return sorted(rows, key=_order)


def _fitting(candidates: Sequence[Group], main: Group) -> Group | None:
    """What stands beside a row: of its own variant, else of its own norm, else of most runs."""
    wanted = main.setting.variant

    def fit(group: Group) -> tuple[bool, bool, int]:
        variant = group.setting.variant
        return variant == wanted, variant.partition(",")[0] == wanted.partition(",")[0], len(group.runs)

    return max(candidates, key=fit, default=None)


def _order(row: DetectionRow) -> tuple[object, ...]:
    setting, key = row.shown.setting, row.key
    return (setting.shared.title, key.network, not key.sha, key.sha, row.main is None, setting.variant)
